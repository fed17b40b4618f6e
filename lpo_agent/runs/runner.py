"""Carries out the runs of a session, which share models (each with one rate limiter), one budget and one journal.

Every run is carried out here: :func:`lpo_agent.open_run` opens a session with a single run. The spending is recorded
for each run, so that its own caps are right after a resume, and counts for the session too.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import data as data_files
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.text import parse_prompt
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, ungrouped
from lpo_agent.journal import open_journal
from lpo_agent.models.billing import Billing
from lpo_agent.models.middleware import Allowance, compose
from lpo_agent.models.pool import Rates, open_pool
from lpo_agent.models.prices import load_prices
from lpo_agent.models.providers.base import split_model
from lpo_agent.models.ratelimit.limiter import Limits
from lpo_agent.runs.agents import check_bus
from lpo_agent.runs.context import RunContext, RunModels
from lpo_agent.runs.kinds import JOBS
from lpo_agent.runs.lifecycle import running
from lpo_agent.runs.outcomes import JournalCosts, JournalOutcomes
from lpo_agent.runs.request import OwnParts, PreparedRun, RunRequest, read_request
from lpo_agent.runs.run import new_run_id, usage_of
from lpo_agent.runs.task import check_names, load_task
from lpo_agent.search.task import calls_each

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup, TaskStatus

    from lpo_agent.core.events import Event
    from lpo_agent.core.result import UsageResult
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal, RunRecord
    from lpo_agent.models.middleware import RunModel, SharedModel
    from lpo_agent.models.pool import ModelPool
    from lpo_agent.models.prices import Prices
    from lpo_agent.runs.request import Kind
    from lpo_agent.runs.run import Run
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec

    Job = Callable[[RunContext], Awaitable[Any]]
"""The work of a run."""

FILES = {"examples": (), "data": None, "train": None, "dev": None, "test": None}
"""The fields that a spec no longer needs when its rows are in the journal."""


@dataclass(frozen=True, slots=True)
class CallCap:
    """A cap on the calls of a search; answers from the journal count too, the calls of the final test do not."""

    search_calls: int

    @property
    def reason(self) -> str:
        """The stop reason of a run whose search reached the cap."""
        return f"its {self.search_calls} search calls are used up"


@dataclass(frozen=True, slots=True)
class Runner:
    """Carries out the runs of one session. Use :func:`open_runner`; the public class is :class:`lpo_agent.Session`.

    ``ledger``: the caps of the session, and what its runs have spent. ``locks``: the locks of guided runs.
    """

    session_id: str
    journal: Journal
    pool: ModelPool
    prices: Prices
    ledger: Ledger
    env: Environment
    say: Callable[[str], None]
    tasks: TaskGroup
    own: OwnParts = field(default_factory=OwnParts)
    locks: dict[str, anyio.Lock] = field(default_factory=dict)

    def usage(self) -> UsageResult:
        """Return the usage of all runs of the session so far."""
        return usage_of(self.ledger)

    async def prepare(
        self,
        kind: Kind,
        spec: RunSpec,
        own: OwnParts | None = None,
        *,
        other_prompt: str | None = None,
        owner: str | None = None,
        run_id: str | None = None,
        task: Task | None = None,
        recorded_as: str | None = None,
    ) -> PreparedRun:
        """Check the input of a new run, and open the run in the journal; raises InputError.

        ``recorded_as``: the kind in the journal, for a run whose work is the caller's (see :meth:`open`).
        """
        if kind not in JOBS:
            raise ConfigError(f"kind: {kind!r} is no kind of run; known are {', '.join(JOBS)}")
        parts = own or self.own
        task = task or load_task(spec, kind, own=parts)
        if kind == "compare":
            if other_prompt is None:
                raise ConfigError("other_prompt: give the prompt to compare with")
            parse_prompt(other_prompt, set(task.splits.dev[0].variables), to_change=False)
        self.check_prices(spec)
        await check_bus(spec, parts)
        rows = await self.journal.put_blob(data_files.to_json(task.splits))
        kept = spec.model_copy(update=FILES)
        request = RunRequest(kind, kept, rows, other_prompt, owner=owner, own=parts.given())
        run_id = run_id or new_run_id(time.time())
        with anyio.CancelScope(shield=True):  # or a run that is cancelled now would seem to go on
            await self.journal.create_run(run_id, recorded_as or kind, request.to_json())
        return PreparedRun(run_id, request, task, parts)

    async def reopen(
        self, record: RunRecord, own: OwnParts | None = None, *, budget: Budget | None = None, check: bool = True
    ) -> PreparedRun:
        """Open a run again that was interrupted or stopped; ``budget`` replaces its caps.

        With ``check`` false, the caller guarantees that the run is not in progress elsewhere.

        Raises ConfigError for a run that cannot be resumed, or that used an object which is missing in ``own``.
        """
        if check:
            check_resumable(record)
        parts, request = own or self.own, read_request(record.spec_json)
        parts.check_against(request, record.run_id)
        splits = data_files.from_json(self.journal.get_blob(request.rows))
        task = load_task(request.spec, request.kind, splits, own=parts)
        prepared = PreparedRun(record.run_id, request, task, parts)
        if budget is not None:
            prepared = prepared.with_spec(budget=budget)
        self.check_prices(prepared.request.spec)
        await check_bus(prepared.request.spec, parts)
        with anyio.CancelScope(shield=True):
            await self.journal.reopen_run(record.run_id)
        return prepared

    def check_prices(self, spec: RunSpec) -> None:
        """Raise ConfigError if there is a cap in dollars but the price of a model is not known."""
        if spec.budget.usd is None and self.ledger.budget.usd is None:
            return
        for name in dict.fromkeys((spec.model, spec.optimizer_model or spec.model)):
            if name not in self.prices:
                raise ConfigError(
                    f"the price of {name} is not known, so a cap in US dollars cannot hold; give it with --prices "
                    "FILE, or cap tokens (--budget-tokens) or calls (--budget-calls)"
                )

    @asynccontextmanager
    async def open(
        self,
        prepared: PreparedRun,
        *,
        stop: anyio.Event | None = None,
        call_cap: CallCap | None = None,
        job: Job | None = None,
    ) -> AsyncIterator[Run[Any]]:
        """Carry out a prepared run; leaving the block before its end cancels it, and it can be resumed.

        With ``call_cap``, a run that is opened again starts from its beginning with the answers of the journal, and its
        usage is counted anew. So its number of calls is the same as without the interruption. ``job``: the work of the
        run, by default that of its kind.
        """
        work = job or JOBS[prepared.request.kind]
        run_id, spec = prepared.run_id, prepared.request.spec
        ledger = Ledger(spec.budget, already=self.journal.totals(run_id) if call_cap is None else None)
        outcomes = JournalOutcomes(self.journal, run_id, recalls=call_cap is None)
        allowance = None if call_cap is None else _allowance(call_cap, prepared.task)
        cap = None if call_cap is None else call_cap.search_calls

        async def carry_out(_run: Run[Any], emit: Callable[[Event], None], stopping: anyio.Event) -> Any:
            context = await self.context(
                prepared, ledger, outcomes, emit=emit, stop=stopping, allowance=allowance, search_calls=cap
            )
            return await work(context)

        async with running(self.journal, run_id, ledger, carry_out, flush=outcomes.flush, stop=stop) as run:
            yield run

    async def context(
        self,
        prepared: PreparedRun,
        ledger: Ledger,
        outcomes: JournalOutcomes,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        stop: anyio.Event | None = None,
        allowance: Allowance | None = None,
        search_calls: int | None = None,
    ) -> RunContext:
        """Open the run's models, and return its context; ``ledger`` has the run's caps and spending."""
        return RunContext(
            prepared=prepared,
            models=await self._models(prepared, ledger, allowance),
            ledger=ledger if allowance is None else allowance.ledger,
            prices=self.prices,
            outcomes=outcomes,
            journal=self.journal,
            emit=emit,
            usage=partial(usage_of, ledger),
            stop=stop or anyio.Event(),
            say=self.say,
            search_calls=search_calls,
        )

    async def start(self, prepared: PreparedRun, *, stop: anyio.Event | None = None) -> Run[Any]:
        """Carry out a prepared run in the background; it is cancelled if the session ends first."""
        run: Run[Any] = await self.tasks.start(partial(self._drive, prepared, stop))
        return run

    async def _drive(
        self,
        prepared: PreparedRun,
        stop: anyio.Event | None,
        *,
        task_status: TaskStatus[Run[Any]] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carry out a run. An error that ends it is raised by :meth:`Run.wait` and does not affect other runs."""
        started: list[Run[Any]] = []
        try:
            async with self.open(prepared, stop=stop) as run:
                started.append(run)
                task_status.started(run)
                await run.ended()
        except Exception as exc:
            if not started:
                raise
            if not started[0].over:
                started[0].finish(None, exc)

    async def _models(self, prepared: PreparedRun, ledger: Ledger, allowance: Allowance | None) -> RunModels:
        """Return the run's two models, including retry, rate limit, budget and journal."""
        spec, own, run_id = prepared.request.spec, prepared.own, prepared.run_id
        billing = Billing((ledger, self.ledger), self.prices, JournalCosts(self.journal, run_id))

        def composed(shared: SharedModel) -> RunModel:
            return compose(shared, self.journal, billing, run_id=run_id, cache=spec.cache, allowance=allowance)

        task = await (self.pool.named(spec.model, spec.base_url) if own.model is None else self.pool.own(own.model))
        if own.optimizer_model is not None:
            optimizer = await self.pool.own(own.optimizer_model)
        elif spec.optimizer_model is None and own.model is not None:
            optimizer = task
        else:
            name, base_url = spec.optimizer_model or spec.model, spec.optimizer_base_url
            if base_url is None and split_model(name)[0] == split_model(spec.model)[0]:
                base_url = spec.base_url
            optimizer = await self.pool.named(name, base_url)
        return RunModels(composed(task), composed(optimizer))


def check_resumable(record: RunRecord) -> None:
    """Raise ConfigError for a run that has ended, is in progress, or is resumed in another way."""
    if record.status in {"completed", "running"}:
        raise ConfigError(f"run {record.run_id} is {record.status}; there is nothing to resume")
    if record.kind not in JOBS:
        raise ConfigError(f"run {record.run_id} is of kind {record.kind}, which is not resumed by itself")


def _allowance(call_cap: CallCap, task: Task) -> Allowance:
    return Allowance(Ledger(Budget(calls=call_cap.search_calls + calls_of_test(task))), call_cap.reason)


def calls_of_test(task: Task) -> int:
    """Return the highest number of calls of the final test of a search."""
    return 2 * calls_each(task) * len(task.splits.test)


@asynccontextmanager
async def open_runner(
    common: RunSpec,
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = lambda _: None,
    own: OwnParts | None = None,
    session_id: str | None = None,
    already: str | None = None,
    journal: Journal | None = None,
) -> AsyncIterator[Runner]:
    """Open a session with the limits, prices and budget of ``common``; models are opened when a run needs them.

    ``already``: a run whose earlier spending counts for the session's caps. ``journal``: a journal that is already
    open; it is not closed.
    """
    env, own = env or read_environment(), own or OwnParts()
    check_names(common, own)
    async with AsyncExitStack() as stack:
        if journal is None:
            journal = await stack.enter_async_context(open_journal(env.journal))
        ledger = Ledger(common.budget, already=journal.totals(already, parts=True) if already else None)
        limits = Limits(common.rpm, common.tpm, common.input_tpm, common.output_tpm)
        rates = Rates(limits, common.concurrency, common.timeout)
        pool = await stack.enter_async_context(open_pool(env, rates, say=say, providers=own.providers))
        tasks = await stack.enter_async_context(_background())
        prices = load_prices(common.prices, own.providers)
        yield Runner(session_id or new_run_id(time.time()), journal, pool, prices, ledger, env, say, tasks, own)


@asynccontextmanager
async def _background() -> AsyncIterator[TaskGroup]:
    """Yield a task group whose tasks end with the block."""
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()
