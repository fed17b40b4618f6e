"""A run from the outside: opened, observed, waited for, stopped, resumed."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio

from lpo_agent import data as data_files
from lpo_agent.core.budget import Ledger
from lpo_agent.core.result import UsageResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import BudgetExceeded, LpoError, leaves, worst
from lpo_agent.journal import open_journal
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.kinds import JOBS, Context
from lpo_agent.runs.outcomes import RunMemory
from lpo_agent.runs.task import load_task
from lpo_agent.runs.wiring import Account, open_models
from lpo_agent.spec import RunSpec, make_spec
from lpo_agent.telemetry import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from lpo_agent.core.events import Event
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal, RunStatus
    from lpo_agent.runs.kinds import Result
    from lpo_agent.runs.task import Task

TICK = 2.0
"""Seconds between notes of a run's time."""
Kind = Literal["optimize", "evaluate", "compare"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run was told to do, as the journal keeps it.

    ``rows`` is the key of the run's rows in the journal, so a resume needs no files.
    ``custom_metric``: the metric was the caller's own object, which no journal can keep.
    ``owner``: whom the run belongs to, where a server tells its users apart.
    """

    kind: Kind
    spec: RunSpec
    rows: str
    other_prompt: str | None = None
    custom_metric: bool = False
    owner: str | None = None

    def to_json(self) -> str:
        """Return the order as text."""
        spec = self.spec.model_copy(update={"examples": ()})
        return json.dumps(asdict(self) | {"spec": spec.model_dump(mode="json")})


def read_request(text: str) -> RunRequest:
    """Return the order that :meth:`RunRequest.to_json` wrote."""
    content: dict[str, Any] = json.loads(text)
    return RunRequest(**{**content, "spec": make_spec(content["spec"])})


class Run:
    """A run in progress. Iterate over it for events, or wait for its result."""

    def __init__(self, run_id: str, ledger: Ledger, stream: EventStream) -> None:
        self.run_id = run_id
        self._ledger, self._stream = ledger, stream
        self._over, self._stop = anyio.Event(), anyio.Event()
        self._result: Result | None = None
        self._failure: LpoError | None = None

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the run's events, each once, until it is over."""
        return self._stream.observed

    async def wait(self) -> Result:
        """Return the result when the run is over; raises the LpoError that ended it."""
        await self._over.wait()
        return self.result

    @property
    def result(self) -> Result:
        """The result of a finished run; raises the LpoError that ended it, or RuntimeError before."""
        if self._failure is not None:
            raise self._failure
        if self._result is None:
            raise RuntimeError("the run is not over yet")
        return self._result

    def usage(self) -> UsageResult:
        """Return what was spent so far."""
        return usage_of(self._ledger)

    def stop(self) -> None:
        """Ask for an early end: no further search, but an honest result."""
        self._stop.set()

    async def execute(
        self,
        job: Callable[[anyio.Event], Awaitable[Result]],
        close: Callable[[RunStatus, str | None], Awaitable[None]],
    ) -> None:
        """Do the work; ``close`` books how it ended: the status, and the result as JSON."""
        status: RunStatus = "interrupted"
        text: str | None = None
        try:
            self._result = await job(self._stop)
            status, text = self._result.status, self._result.model_dump_json(by_alias=True)
        except* LpoError as group:
            self._failure = worst(group)
            if self._failure is None:
                raise
            status = "stopped" if isinstance(self._failure, BudgetExceeded) else "failed"
            spent = self._ledger.totals
            if spent.calls > spent.failed_calls and not isinstance(self._failure, BudgetExceeded):
                self._failure.add_note(f"answers are kept; go on with: lpo resume {self.run_id}")
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await close(status, text)
            finally:
                self._over.set()

    async def keep_time(self, note: Callable[[str, float], None]) -> None:
        """Note the run's time now and then, so that a killed run's budget of seconds goes on where it was."""
        while not self._over.is_set():
            with anyio.move_on_after(TICK):
                await self._over.wait()
            if not self._over.is_set():
                note(self.run_id, self._ledger.seconds())


def usage_of(ledger: Ledger) -> UsageResult:
    """Return what the ledger says was spent."""
    totals = ledger.totals
    return UsageResult(
        calls=totals.calls,
        cached_calls=totals.cached_calls,
        failed_calls=totals.failed_calls,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        usd=totals.usd,
        wall_s=round(totals.seconds, 3),
        unsure_tokens=totals.unsure_tokens,
        unsure_usd=totals.unsure_usd,
    )


def new_run_id(now: float) -> str:
    """Return a run id that sorts by time: date, time, and four random letters."""
    letters = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(4))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{letters}"


@asynccontextmanager
async def open_run(
    spec: RunSpec,
    *,
    kind: Kind = "optimize",
    other_prompt: str | None = None,
    env: Environment | None = None,
    metric: object | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Run]:
    """Start a run; leaving the block before its end cancels it, and the journal allows a resume.

    ``metric`` may be the caller's own function or Metric object. ``say`` is told about downloads.
    Raises InputError before anything is spent.
    """
    env = env or read_environment()
    task = load_task(spec, kind)
    async with open_journal(env.journal) as journal:
        rows = await journal.put_blob(data_files.to_json(task.splits))
        kept = spec.model_copy(update={"examples": (), "data": None, "train": None, "dev": None, "test": None})
        order = RunRequest(kind, kept, rows, other_prompt, custom_metric=metric is not None)
        run_id = new_run_id(time.time())
        await journal.create_run(run_id, kind, order.to_json())
        async with running(journal, env, task, order, run_id=run_id, metric=metric, say=say) as run:
            yield run


@asynccontextmanager
async def running(
    journal: Journal,
    env: Environment,
    task: Task,
    order: RunRequest,
    *,
    run_id: str,
    metric: object | None,
    say: Callable[[str], None],
) -> AsyncIterator[Run]:
    """Do what ``order`` says, as the run ``run_id`` of the journal."""
    spec, prices = order.spec, load_prices(order.spec.prices)
    ledger = Ledger(spec.budget, already=journal.totals(run_id))
    memory = RunMemory(journal, run_id)
    account = Account(journal, ledger, prices, run_id, "" if spec.cache else run_id, say)

    async def job(run: Run, emit: Callable[[Event], None], stop: anyio.Event) -> Result:
        async with open_models(spec, env, account) as models:
            context = Context(
                run_id,
                spec,
                task,
                metric,
                order.other_prompt,
                models,
                ledger,
                prices,
                memory,
                emit,
                run.usage,
                stop,
                say,
            )
            return await JOBS[order.kind](context)

    async with supervised(journal, run_id, ledger, job, flush=memory.flush) as run:
        yield run


Job = Callable[["Run", "Callable[[Event], None]", anyio.Event], Awaitable["Result"]]


@asynccontextmanager
async def supervised(
    journal: Journal, run_id: str, ledger: Ledger, job: Job, *, flush: Callable[[], None] = lambda: None
) -> AsyncIterator[Run]:
    """Do ``job`` as a run of the journal: its events kept, its time noted, its end booked.

    ``job`` gets the run, where to tell events, and what asks it to stop. ``flush`` writes what is
    still to be written before the end is booked.
    """
    stream = EventStream(journal, run_id)
    run = Run(run_id, ledger, stream)

    async def close(status: RunStatus, result: str | None) -> None:
        stream.end()
        flush()
        await journal.finish_run(run_id, status, result, ledger.seconds())

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.pump)
            tasks.start_soon(run.keep_time, journal.note_seconds)
            tasks.start_soon(run.execute, partial(job, run, stream.emit), close)
            yield run
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        only = list(leaves(group))
        if len(only) == 1:
            raise only[0] from None
        raise
    finally:
        stream.close()
