"""The commands that call models (optimize, evaluate, compare, mark, headroom), and `lpo models pull`."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import open_run, plan_run, pull_model
from lpo_agent.cli import files, options, show
from lpo_agent.cli.printing import print_json, print_result, write_result
from lpo_agent.cli.progress import Lines, LiveView, NoProgress
from lpo_agent.cli.signals import run_to_end
from lpo_agent.errors import BudgetExceeded, TooManyUnscored
from lpo_agent.results import BenchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lpo_agent import PlanEstimate
    from lpo_agent.cli.options import Output
    from lpo_agent.cli.signals import Opening, View
    from lpo_agent.results import Result


def optimize(given: Mapping[str, Any]) -> int:
    """Search for a better prompt, or with `--dry-run` print the plan and its cost."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.out is not None:
        files.check_writable(output.out)
    if output.dry_run:
        return _print_plan(plan_run(spec), output)
    return carry_out(lambda say: open_run(spec, say=say), output)


def evaluate(given: Mapping[str, Any]) -> int:
    """Score one prompt on every item."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.dry_run:
        return _print_plan(plan_run(spec, "evaluate"), output)
    return carry_out(lambda say: open_run(spec, kind="evaluate", say=say), output)


def compare(given: Mapping[str, Any]) -> int:
    """Score two prompts on the same items."""
    chosen = options.settings(given)
    spec, other, output = options.spec(chosen), options.read_prompt(chosen["other"]), options.output(chosen)
    if output.dry_run:
        return _print_plan(plan_run(spec, "compare"), output)
    return carry_out(lambda say: open_run(spec, kind="compare", other_prompt=other, say=say), output)


def mark(given: Mapping[str, Any]) -> int:
    """Show the words of a prompt that a search would edit first, with reasons."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.dry_run:
        return _print_plan(plan_run(spec, "mark"), output)
    return carry_out(lambda say: open_run(spec, kind="mark", say=say), output)


def headroom(given: Mapping[str, Any]) -> int:
    """Say what goes wrong with a prompt, and whether a search is worth it."""
    chosen = options.settings(given)
    spec, output = options.spec(chosen), options.output(chosen)
    if output.dry_run:
        return _print_plan(plan_run(spec, "headroom"), output)
    return carry_out(lambda say: open_run(spec, kind="headroom", say=say), output)


def _print_plan(plan: PlanEstimate, output: Output) -> int:
    if output.json:
        print_json(plan.model_dump(mode="json"))
    else:
        show.show_estimate(show.console(sys.stdout), plan)
    return 0


def models(given: Mapping[str, Any]) -> None:
    """Download and check the file of a model that runs on this machine, and print its path."""
    output = options.output(given)
    pull = partial(pull_model, given["name"], say=view_for(output).say, progress=not output.quiet)
    path = anyio.run(pull)
    if not output.quiet:
        print(path)


def carry_out(opening: Opening, output: Output, write: Callable[[Output, Result], None] | None = None) -> int:
    """Carry out a run, write its result to `--out` (or with ``write``), print it, and return the exit code."""
    with _prints_on_stderr(output):
        result = anyio.run(run_to_end, opening, view_for(output))
    (write or write_result)(output, result)
    print_result(output, result)
    if isinstance(result, BenchResult) and all(row.status in {"failed", "not run"} for row in result.rows):
        spent = any(row.status == "not run" for row in result.rows)
        return BudgetExceeded.exit_code if spent else TooManyUnscored.exit_code
    return TooManyUnscored.exit_code if result.status == "failed" else 0


@contextlib.contextmanager
def _prints_on_stderr(output: Output) -> Iterator[None]:
    """With `--json`, redirect the output of metrics and scripted models to standard error."""
    with contextlib.redirect_stdout(sys.stderr) if output.json else contextlib.nullcontext():
        yield


def view_for(output: Output) -> View:
    """Return the view that shows progress on standard error."""
    if output.quiet:
        return NoProgress()
    console = show.console(sys.stderr)
    live = console.is_terminal and not console.is_dumb_terminal and not output.verbose
    return LiveView(console) if live else Lines(console)
