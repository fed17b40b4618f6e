"""How every run is carried out: its events and its time are kept, its end is booked, whatever its kind."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent.errors import BudgetExceeded, LpoError, only, ungrouped, worst
from lpo_agent.runs.run import Run
from lpo_agent.telemetry import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.core.result import RunStatus
    from lpo_agent.journal import Journal

    Job = Callable[[Run[Any], Callable[[Event], None], anyio.Event], Awaitable[Any]]
    """Does a run's work: gets the run, where to tell events, and what asks for an early end; returns the result."""

TICK = 2.0
"""Seconds between notes of a run's time."""


@asynccontextmanager
async def running(
    journal: Journal,
    run_id: str,
    ledger: Ledger,
    job: Job,
    *,
    flush: Callable[[], None] = lambda: None,
    stop: anyio.Event | None = None,
) -> AsyncIterator[Run[Any]]:
    """Do ``job`` as the run ``run_id``, which the journal has opened; leaving the block before its end cancels it.

    ``flush`` writes what is still to be written before the end is booked. Raises what is no LpoError; an LpoError that
    ends the run is raised by :meth:`Run.wait`.
    """
    stream = EventStream(journal, run_id)
    run: Run[Any] = Run(run_id, ledger, stream, stop or anyio.Event())
    try:
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.pump)
                tasks.start_soon(_keep_time, journal, run, ledger)
                tasks.start_soon(_execute, journal, run, ledger, stream, (job, flush))
                yield run
                tasks.cancel_scope.cancel()
    finally:
        stream.close()


async def _execute(
    journal: Journal, run: Run[Any], ledger: Ledger, stream: EventStream, do: tuple[Job, Callable[[], None]]
) -> None:
    """Do the work, and book how it ended: the status, and the result as JSON."""
    job, flush = do
    status: RunStatus = "interrupted"
    result: Any = None
    failure: Exception | None = None
    try:
        with run.scope:
            result = await job(run, stream.emit, run.stopping)
        status = "interrupted" if result is None else result.status
    except* LpoError as group:
        known = worst(group)
        if known is None:
            failure = only(group)
            raise
        failure, status = known, "stopped" if isinstance(known, BudgetExceeded) else "failed"
        spent = ledger.totals
        if spent.calls > spent.failed_calls and not isinstance(known, BudgetExceeded):
            known.add_note(f"answers are kept; go on with: lpo resume {run.run_id}")
    except* Exception as group:
        failure = only(group)  # a bug; those who wait for the run learn of it with its end
        raise
    finally:
        text = None if result is None else result.model_dump_json(by_alias=True)
        try:
            with anyio.CancelScope(shield=True):
                stream.end()
                flush()
                await journal.finish_run(run.run_id, status, text, ledger.seconds())
        finally:
            run.finish(result, failure)


async def _keep_time(journal: Journal, run: Run[Any], ledger: Ledger) -> None:
    """Note the run's time now and then, so that a killed run's budget of seconds goes on where it was."""
    while not run.over:
        with anyio.move_on_after(TICK):
            await run.ended()
        if not run.over:
            journal.note_seconds(run.run_id, ledger.seconds())
