"""The lifecycle that all kinds of run share: events and elapsed time are stored, and the end is recorded."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent.errors import BudgetExceeded, LpoError, bug_in, ungrouped, worst
from lpo_agent.runs.run import Run
from lpo_agent.telemetry import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.core.result import RunStatus
    from lpo_agent.journal import Journal

    Job = Callable[[Run[Any], Callable[[Event], None], anyio.Event], Awaitable[Any]]
"""The work of a run: called with the run, a function for events, and an event that asks for an early end."""

TICK = 2.0
"""Seconds between two entries of a run's elapsed time in the journal."""


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
    """Carry out ``job`` as the run ``run_id`` of the journal; leaving the block before its end cancels it.

    ``flush`` is called before the end is recorded, to write pending data. An LpoError that ends the run is raised by
    :meth:`Run.wait`, any other exception by this block.
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
    """Do the work, and record its end: the status, and the result as JSON."""
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
            failure = bug_in(group)
            raise
        failure, status = known, "stopped" if isinstance(known, BudgetExceeded) else "failed"
        spent = ledger.totals
        if spent.calls > spent.failed_calls and not isinstance(known, BudgetExceeded):
            known.add_note(f"answers are kept; continue with: lpo resume {run.run_id}")
    except* Exception as group:
        failure = bug_in(group)  # a bug; those who wait for the run learn of it with its end
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
    """Regularly store the elapsed time, so that a budget of seconds is right if the run is killed and resumed."""
    while not run.over:
        with anyio.move_on_after(TICK):
            await run.ended()
        if not run.over:
            journal.note_seconds(run.run_id, ledger.seconds())
