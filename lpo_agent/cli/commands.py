"""The commands that ask models: optimize, evaluate, compare, mark, resume, models pull."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import api
from lpo_agent.bench.rows import BenchResult
from lpo_agent.cli import files, options, show
from lpo_agent.cli.progress import Lines, LiveView, Silent
from lpo_agent.cli.signals import attend
from lpo_agent.core.result import RunResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import BudgetExceeded, TooManyUnscored
from lpo_agent.models.providers.weights import pull_smollm2
from lpo_agent.runs.estimate import plan_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from lpo_agent.cli.options import Output
    from lpo_agent.cli.signals import View
    from lpo_agent.history import Result
    from lpo_agent.runs.request import Kind
    from lpo_agent.runs.run import Run
    from lpo_agent.spec import RunSpec

    Opening = Callable[[Callable[[str], None]], AbstractAsyncContextManager[Run[Any]]]


def optimize(given: Mapping[str, Any]) -> int:
    """Search for a better prompt, or with `--dry-run` say what that would take."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.out is not None:
        files.check_writable(output.out)
    if output.dry_run:
        return _plan(spec, "optimize", output)
    return finish(lambda say: api.open_run(spec, say=say), output)


def evaluate(given: Mapping[str, Any]) -> int:
    """Score one prompt on every item."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.dry_run:
        return _plan(spec, "evaluate", output)
    return finish(lambda say: api.open_run(spec, kind="evaluate", say=say), output)


def compare(given: Mapping[str, Any]) -> int:
    """Score two prompts on the same items."""
    chosen = options.settings(given)
    spec, other, output = options.spec(chosen), options.read_prompt(chosen["other"]), options.output(chosen)
    if output.dry_run:
        return _plan(spec, "compare", output)
    opening = partial(api.open_run, spec, kind="compare", other_prompt=other)
    return finish(lambda say: opening(say=say), output)


def _plan(spec: RunSpec, kind: Kind, output: Output) -> int:
    plan = plan_run(spec, kind)
    if output.json:
        print_json(plan.model_dump(mode="json"))
    else:
        show.show_estimate(show.console(sys.stdout), plan)
    return 0


def mark(given: Mapping[str, Any]) -> int:
    """Show which words of a prompt would be edited next, and why."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.dry_run:
        return _plan(spec, "mark", output)
    return finish(lambda say: api.open_run(spec, kind="mark", say=say), output)


def models(given: Mapping[str, Any]) -> None:
    """Fetch and check the file of a model that runs on this machine."""
    output = options.output(given)
    path = pull_smollm2(read_environment().home, say=view_for(output).say, progress=not output.quiet, verify=True)
    if not output.quiet:
        print(path)


def finish(opening: Opening, output: Output, write: Callable[[Output, Result], None] | None = None) -> int:
    """Run to the end, write the result to `--out` or where ``write`` does, print it; return the exit code."""
    with _own_stdout(output):
        result = anyio.run(attend, opening, view_for(output))
    (write or write_result)(output, result)
    print_result(output, result)
    if isinstance(result, BenchResult) and all(row.status in {"failed", "not run"} for row in result.rows):
        spent = any(row.status == "not run" for row in result.rows)
        return BudgetExceeded.exit_code if spent else TooManyUnscored.exit_code
    return TooManyUnscored.exit_code if result.status == "failed" else 0


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
    found: dict[str, Any] = result.model_dump(mode="json", by_alias=True)
    return found


def print_json(value: object) -> None:
    """Print one JSON value; ASCII only, so that no terminal's encoding matters."""
    print(json.dumps(value))
