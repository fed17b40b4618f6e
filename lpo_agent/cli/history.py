"""The commands that read the journal: runs, show."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
from pydantic import TypeAdapter, ValidationError

from lpo_agent.bench.rows import BenchResult
from lpo_agent.cli import options, show, words
from lpo_agent.cli.commands import print_json, print_result, write_result
from lpo_agent.core.events import AnyEvent, RunStarted
from lpo_agent.core.result import SCHEMA, CompareResult, EvaluateResult, MarkResult, RunResult
from lpo_agent.core.state import RunState, advance
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, JournalError
from lpo_agent.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lpo_agent.history import Result
    from lpo_agent.journal import Journal, RunRecord

T = TypeVar("T")
KINDS: Final[Mapping[str, type[Result]]] = {
    "optimize": RunResult,
    "evaluate": EvaluateResult,
    "compare": CompareResult,
    "bench": BenchResult,
    "mark": MarkResult,
    "guided": RunResult,
}


def runs(given: Mapping[str, Any]) -> None:
    """List the runs, newest first."""
    path = read_environment().journal
    records = _read(path, lambda journal: journal.runs()) if path.exists() else []
    if options.output(given).json:
        print_json([_record_json(record) for record in records])
    elif not records:
        print("no runs yet")
    else:
        rows = [(r.run_id, r.kind, r.status, _local(r.started), _outcome(r)) for r in records]
        table = show.rows_table(("run", "kind", "status", "started", "outcome"), rows)
        show.console(sys.stdout).print(table)


def show_run(given: Mapping[str, Any]) -> None:
    """Show the result of a run, or how far it came."""
    output, path = options.output(given), read_environment().journal
    if not path.exists():
        raise JournalError(f"there is no run {given['run']!r}; {path} does not exist yet, so nothing was run")
    record, state = _read(path, partial(_known, name=given["run"]))
    result = stored_result(record)
    if result is not None:
        write_result(output, result)
        print_result(output, result)
    elif output.out is not None:
        raise ConfigError(f"--out: run {record.run_id} has no result yet; it is {record.status}")
    elif output.json:
        print_json(_record_json(record) | _state_json(state))
    else:
        _show_unfinished(record, state)


def _known(journal: Journal, name: str) -> tuple[RunRecord, RunState]:
    record = journal.run(name)
    adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
    state = RunState()
    if record.kind == "guided":
        return record, state  # its log holds submissions
    for event in map(adapter.validate_json, journal.events(record.run_id)):
        state = advance(RunState() if isinstance(event, RunStarted) else state, event)  # a resume begins anew
    return record, state


def _read(path: Path, query: Callable[[Journal], T]) -> T:
    async def ask() -> T:
        async with open_journal(path) as journal:
            return query(journal)

    return anyio.run(ask)


def stored_result(record: RunRecord) -> Result | None:
    """Return the result that the journal holds; raises JournalError if another version wrote it."""
    if record.result_json is None:
        return None
    try:
        return KINDS[record.kind].model_validate_json(record.result_json)
    except (KeyError, ValidationError):
        raise JournalError(f"run {record.run_id}: its result was written by another version of lpo-agent") from None


def _record_json(record: RunRecord) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "run_id": record.run_id,
        "kind": record.kind,
        "status": record.status,
        "started": _utc(record.started),
        "ended": None if record.ended is None else _utc(record.ended),
    }


def _state_json(state: RunState) -> dict[str, object]:
    return {
        "phase": state.phase,
        "steps_done": state.steps_done,
        "candidates": state.candidates,
        "best": None if state.best_text is None else {"prompt": state.best_text, "train_mean": state.best_mean},
    }


def _show_unfinished(record: RunRecord, state: RunState) -> None:
    print(f"run {record.run_id} ({record.kind}) is {record.status}; started {_local(record.started)}")
    print(f"phase {state.phase}: {words.count(state.steps_done, 'step')} done, {state.candidates} candidates tried")
    if state.seed_dev is not None:
        print(f"seed prompt on dev: {words.score(state.seed_dev)}")
    if state.best_text is not None:
        print(f"best so far: {words.mean(state.best_mean)} on training items, not confirmed yet:")
        show.show_prompt(show.console(sys.stdout), state.best_text)
    if record.status != "running":
        print(f"go on with: lpo resume {record.run_id}")


def _outcome(record: RunRecord) -> str:
    if record.result_json is None:
        return ""
    content = json.loads(record.result_json)
    if record.kind in {"optimize", "guided"}:
        return str(content.get("verdict", "")).replace("_", " ")
    if record.kind == "bench":
        return f"{len(content['rows'])} cells"
    score = content.get("score") or {}
    return words.mean(score["mean"]) if "mean" in score else ""


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
