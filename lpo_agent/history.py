"""Reads runs from the journal: the list of runs, their results and progress, and their reports."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from lpo_agent import data as data_files
from lpo_agent.bench.peers.catalog import PEER
from lpo_agent.bench.rows import BenchResult
from lpo_agent.core.events import RunStarted, read_event
from lpo_agent.core.result import GUIDED, CompareResult, EvaluateResult, HeadroomResult, MarkResult, RunResult
from lpo_agent.core.state import RunState, advance
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, JournalError
from lpo_agent.journal import open_journal
from lpo_agent.report import gather, prompts_compared, render_page
from lpo_agent.runs.outcomes import prompt_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.scores import Scored
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal, RunRecord

Result = RunResult | EvaluateResult | CompareResult | MarkResult | HeadroomResult | BenchResult
KINDS: Final[Mapping[str, type[Result]]] = {
    "optimize": RunResult,
    "evaluate": EvaluateResult,
    "compare": CompareResult,
    "mark": MarkResult,
    "headroom": HeadroomResult,
    "bench": BenchResult,
    GUIDED: RunResult,
}
"""The type of a result, by the kind of its run."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run in the journal; times are seconds since 1970 (UTC).

    ``result`` is None until the run has one. It is also None if another version wrote it in another form;
    ``unreadable`` then says so. ``state``: the progress of the run. ``owner``: the user of a server with several users.
    """

    run_id: str
    kind: str
    status: str
    started: float
    ended: float | None
    result: Result | None
    unreadable: str | None
    owner: str | None
    state: RunState


async def list_runs(
    *, env: Environment | None = None, limit: int = -1, offset: int = 0, states: bool = False
) -> list[StoredRun]:
    """Return at most ``limit`` runs (-1: all), newest first, without the first ``offset`` ones.

    Their progress is computed only with ``states``. Runs that another version wrote are listed too.
    """
    async with _journal(env) as journal:
        if journal is None:
            return []
        return [stored(journal, record, states=states) for record in journal.runs(limit, offset)]


async def read_run(run_id: str, *, env: Environment | None = None) -> StoredRun:
    """Return a run; ``run_id`` may be a unique prefix, or "last". Raises JournalError for an unknown run."""
    async with _journal(env) as journal:
        if journal is None:
            raise JournalError(f"there is no run {run_id!r}; nothing was run yet")
        return stored(journal, journal.run(run_id))


async def report_page(run_id: str, *, env: Environment | None = None) -> tuple[str, str]:
    """Return the run's full id, and its report as one HTML page that loads nothing from the network.

    Raises JournalError for an unknown run, and ConfigError for a run without a report.
    """
    async with _journal(env) as journal:
        if journal is None:
            raise JournalError(f"there is no run {run_id!r}; nothing was run yet")
        return page_of(journal, journal.run(run_id))


@asynccontextmanager
async def _journal(env: Environment | None) -> AsyncIterator[Journal | None]:
    """Open the journal, or yield None if there is none; never creates one."""
    path = (env or read_environment()).journal
    if not path.exists():
        yield None
        return
    async with open_journal(path) as journal:
        yield journal


def stored(journal: Journal, record: RunRecord, *, states: bool = True, results: bool = True) -> StoredRun:
    """Return a run with its result and its progress; it is faster without ``states`` or ``results``."""
    result, unreadable = _result(record) if results else (None, None)
    state = state_of(journal, record) if states else RunState()
    return StoredRun(
        record.run_id,
        record.kind,
        record.status,
        record.started,
        record.ended,
        result,
        unreadable,
        _owner(record),
        state,
    )


def _result(record: RunRecord) -> tuple[Result | None, str | None]:
    if record.result_json is None:
        return None, None
    if record.kind == PEER:
        bench = record.run_id.partition(".")[0]
        return (
            None,
            f"run {record.run_id} is the search of another optimizer; its benchmark has its result: lpo show {bench}",
        )
    try:
        return KINDS[record.kind].model_validate_json(record.result_json), None
    except (KeyError, ValidationError):
        return None, f"run {record.run_id}: its result was written by another version of lpo-agent"


def _owner(record: RunRecord) -> str | None:
    try:
        owner = json.loads(record.spec_json).get("owner")
    except (ValueError, AttributeError):
        return None
    return owner if isinstance(owner, str) else None


def state_of(journal: Journal, record: RunRecord) -> RunState:
    """Return the progress of a run, computed from its events; unreadable events are ignored."""
    state = RunState()
    if record.kind == GUIDED:
        return state
    for event in _events(journal, record):
        state = advance(RunState() if isinstance(event, RunStarted) else state, event)  # a resume begins anew
    return state


def _events(journal: Journal, record: RunRecord) -> Iterator[Event]:
    """Yield the run's events, without those that another version wrote in another form."""
    for body in journal.events(record.run_id):
        with suppress(ValidationError):
            yield read_event(body)


def page_of(journal: Journal, record: RunRecord) -> tuple[str, str]:
    """Return the run's id and its report; raises ConfigError for a run without a report."""
    result = _optimized(journal, record)
    facts = gather(result, _events(journal, record), _outcomes(journal, record, result), _test_rows(journal, record))
    return record.run_id, render_page(facts)


def _optimized(journal: Journal, record: RunRecord) -> RunResult:
    run_id = record.run_id
    if record.kind == "bench":
        parts = [part.run_id for part in journal.parts(run_id).values() if part.result_json is not None]
        hint = f"each of its searches has one, such as: lpo report {parts[0]}" if parts else "no search of it is done"
        raise ConfigError(f"run {run_id} is a benchmark; {hint}")
    if record.kind != "optimize":
        raise ConfigError(f"run {run_id} is of kind {record.kind}, not optimize; see it with: lpo show {run_id}")
    result, unreadable = _result(record)
    if unreadable is not None:
        raise JournalError(unreadable)
    if not isinstance(result, RunResult):
        hint = "wait for its end" if record.status == "running" else f"continue with: lpo resume {run_id}"
        raise ConfigError(f"run {run_id} has no result yet; it is {record.status}; {hint}")
    return result


def _outcomes(journal: Journal, record: RunRecord, result: RunResult) -> dict[str, dict[str, Scored]]:
    """Return the outcomes of the two prompts that the page compares, by item."""
    by_hash = {prompt_hash(text): text for text in prompts_compared(result)}
    found: dict[str, dict[str, Scored]] = {text: {} for text in by_hash.values()}
    for key, item, outcome in journal.outcomes(record.run_id):
        if key in by_hash:
            found[by_hash[key]][item] = outcome
    return found


def _test_rows(journal: Journal, record: RunRecord) -> tuple[Row, ...]:
    """Return the rows of the test split, or none if the journal no longer has them."""
    key = json.loads(record.spec_json).get("rows")
    if not isinstance(key, str):
        return ()
    try:
        return data_files.from_json(journal.get_blob(key)).test
    except JournalError:
        return ()
