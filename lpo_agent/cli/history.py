"""`lpo runs` and `lpo show`: list the runs of the journal, and show the result of one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import list_runs, read_run
from lpo_agent.cli import options, show, words
from lpo_agent.cli.printing import print_json, print_result, write_result
from lpo_agent.errors import ConfigError, JournalError
from lpo_agent.results import SCHEMA, BenchResult, EvaluateResult, HeadroomResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent import StoredRun
    from lpo_agent.events import RunState


def runs(given: Mapping[str, Any]) -> None:
    """List the runs, newest first."""
    found = anyio.run(list_runs)
    if options.output(given).json:
        print_json([_run_json(run) for run in found])
    elif not found:
        print("no runs yet")
    else:
        rows = [(run.run_id, run.kind, run.status, _local(run.started), _outcome(run)) for run in found]
        table = show.rows_table(("run", "kind", "status", "started", "outcome"), rows)
        show.console(sys.stdout).print(table)


def show_run(given: Mapping[str, Any]) -> None:
    """Show the result of a run, or its progress if it has none."""
    output = options.output(given)
    run = anyio.run(read_run, given["run"])
    if run.unreadable is not None:
        raise JournalError(run.unreadable)
    if run.result is not None:
        write_result(output, run.result)
        print_result(output, run.result)
    elif output.out is not None:
        raise ConfigError(f"--out: run {run.run_id} has no result yet; it is {run.status}")
    elif output.json:
        print_json(_run_json(run) | _state_json(run.state))
    else:
        _show_unfinished(run)


def _run_json(run: StoredRun) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "kind": run.kind,
        "status": run.status,
        "started": _utc(run.started),
        "ended": None if run.ended is None else _utc(run.ended),
    }


def _state_json(state: RunState) -> dict[str, object]:
    return {
        "phase": state.phase,
        "steps_done": state.steps_done,
        "candidates": state.candidates,
        "best": None if state.best_text is None else {"prompt": state.best_text, "train_mean": state.best_mean},
    }


def _show_unfinished(run: StoredRun) -> None:
    state = run.state
    print(f"run {run.run_id} ({run.kind}) is {run.status}; started {_local(run.started)}")
    print(f"phase {state.phase}: {words.count(state.steps_done, 'step')} done, {state.candidates} candidates tried")
    if state.seed_dev is not None:
        print(f"seed prompt on dev: {words.score(state.seed_dev)}")
    if state.best_text is not None:
        print(f"best so far: {words.mean(state.best_mean)} on training items, not confirmed yet:")
        show.show_prompt(show.console(sys.stdout), state.best_text)
    if run.status != "running":
        print(f"continue with: lpo resume {run.run_id}")


def _outcome(run: StoredRun) -> str:
    if run.unreadable is not None:
        return "written by another version"
    match run.result:
        case RunResult(verdict=verdict):
            return verdict.replace("_", " ")
        case BenchResult(rows=rows):
            return f"{len(rows)} cells"
        case EvaluateResult(score=score):
            return words.mean(score.mean)
        case HeadroomResult(worth=worth):
            return f"worth a search: {worth}"
        case _:
            return ""


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
