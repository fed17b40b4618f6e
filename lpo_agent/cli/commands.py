"""The commands that ask models: optimize, evaluate, compare, mark, resume, models pull."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import runtime
from lpo_agent.cli import files, options, show
from lpo_agent.cli.progress import Lines, LiveView, Silent
from lpo_agent.cli.session import attend
from lpo_agent.config import read_environment
from lpo_agent.core.result import RunResult
from lpo_agent.models.weights import pull_smollm2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from lpo_agent.cli.options import Output
    from lpo_agent.cli.session import View
    from lpo_agent.core.messages import Marks
    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.runtime import Run
    from lpo_agent.runtime.jobs import Result

    Opening = Callable[[Callable[[str], None]], AbstractAsyncContextManager[Run]]


def optimize(given: Mapping[str, Any]) -> None:
    """Search for a better prompt, or with `--dry-run` say what that would take."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.out is not None:
        files.check_writable(output.out)
    if not output.dry_run:
        _finish(lambda say: runtime.open_run(spec, say=say), output)
        return
    plan = runtime.plan_run(spec)
    if output.json:
        print_json(plan.model_dump(mode="json"))
    else:
        show.show_estimate(show.console(sys.stdout), plan)


def evaluate(given: Mapping[str, Any]) -> None:
    """Score one prompt on every item."""
    chosen = options.settings(given)
    spec = options.spec(chosen)
    _finish(lambda say: runtime.open_run(spec, kind="evaluate", say=say), options.output(chosen))


def compare(given: Mapping[str, Any]) -> None:
    """Score two prompts on the same items."""
    chosen = options.settings(given)
    spec, other = options.spec(chosen), options.read_prompt(chosen["other"])
    opening = partial(runtime.open_run, spec, kind="compare", other_prompt=other)
    _finish(lambda say: opening(say=say), options.output(chosen))


def resume(given: Mapping[str, Any]) -> None:
    """Go on with an interrupted run."""
    output = options.output(given)
    if output.out is not None:
        files.check_writable(output.out)
    _finish(lambda say: runtime.open_resumed(given["run"], say=say), output)


def mark(given: Mapping[str, Any]) -> None:
    """Show which words of a prompt would be edited next, and why."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    with _own_stdout(output):
        marked, marks = anyio.run(partial(runtime.mark_prompt, spec, say=view_for(output).say))
    if output.json:
        print_json(_marks_json(marked, marks))
    else:
        show.show_marks(show.console(sys.stdout), marked, marks)


def _marks_json(marked: MarkedPrompt, marks: Marks) -> dict[str, object]:
    spans = [
        {"start": m.span.start, "end": m.span.end, "text": m.span.of(marked.prompt.text)}
        | {"reason": m.reason, "influence": m.influence}
        for m in marks.marks
    ]
    return {"schema": 1, "prompt": marked.prompt.text, "marked": marked.render(), "spans": spans}


def models(given: Mapping[str, Any]) -> None:
    """Fetch and check the file of a model that runs on this machine."""
    output = options.output(given)
    path = pull_smollm2(read_environment().home, say=view_for(output).say, progress=not output.quiet, verify=True)
    if not output.quiet:
        print(path)


def _finish(opening: Opening, output: Output) -> None:
    """Run to the end, then print the result and write `--out`."""
    with _own_stdout(output):
        result = anyio.run(attend, opening, view_for(output))
    if output.out is not None:
        write_result(output, result)
    print_result(output, result)


@contextlib.contextmanager
def _own_stdout(output: Output) -> Iterator[None]:
    """Keep what metrics and scripted models print out of the JSON on standard output."""
    with contextlib.redirect_stdout(sys.stderr) if output.json else contextlib.nullcontext():
        yield


def view_for(output: Output) -> View:
    """Return how to show progress on standard error."""
    if output.quiet:
        return Silent()
    console = show.console(sys.stderr)
    live = console.is_terminal and not console.is_dumb_terminal and not output.verbose
    return LiveView(console) if live else Lines(console)


def print_result(output: Output, result: Result) -> None:
    """Print a result as JSON or as a report."""
    if output.json:
        print_json(result_json(result))
    else:
        show.show_result(show.console(sys.stdout), result)


def write_result(output: Output, result: Result) -> None:
    """Write `--out`: the best prompt, or JSON for a file that ends so or a result without a prompt."""
    if output.out is None:
        return
    if isinstance(result, RunResult) and output.out.suffix.lower() != ".json":
        files.write_text(output.out, result.best.prompt)
    else:
        files.write_text(output.out, json.dumps(result_json(result), indent=2) + "\n")


def result_json(result: Result) -> dict[str, Any]:
    """Return the contract's object."""
    return result.model_dump(mode="json", by_alias=True)


def print_json(value: object) -> None:
    """Print one JSON value; ASCII only, so that no terminal's encoding matters."""
    print(json.dumps(value))
