"""Many runs that share models, one limiter for each, one budget and one journal.

For search scripts, servers and benchmarks: as many runs at once as one likes, and the account's limit
and the cap on all spending hold for all of them together.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import data as data_files
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.result import RunResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import BudgetExceeded, ConfigError, LpoError, leaves, worst
from lpo_agent.journal import open_journal
from lpo_agent.models.middleware import Capped, Metered
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.kinds import JOBS, Context
from lpo_agent.runs.outcomes import RunMemory
from lpo_agent.runs.run import RunRequest, new_run_id, usage_of
from lpo_agent.runs.task import calls_each, load_task
from lpo_agent.runs.wiring import Account, ModelPool, Models
from lpo_agent.spec import RunSpec, make_spec
from lpo_agent.telemetry import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.result import UsageResult
    from lpo_agent.data import Example
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal, RunStatus
    from lpo_agent.models.prices import Prices
    from lpo_agent.runs.kinds import Result
    from lpo_agent.runs.task import Task

_LIMITS: Final = ("rpm", "tpm", "input_tpm", "output_tpm", "concurrency", "timeout")
SHARED: Final = frozenset(
    {"base_url", "optimizer_base_url", "cache", "prices", "bus", *_LIMITS},
)
"""Fields of a spec that belong to the session."""
NOTHING: Final = "(the session's own)"


@asynccontextmanager
async def open_session(
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> AsyncIterator[Session]:
    """Open the models that the session's runs share.

    ``options`` are those fields of :class:`RunSpec` that all runs have in common: ``model`` (required),
    ``optimizer_model``, ``base_url``, ``rpm``, ``tpm``, ``concurrency``, ``budget`` and so on. Limits
    hold for each model, the budget for all of them.
    Raises InputError for what is wrong before any call.
    """
    async with prepared_session(make_spec({"prompt": NOTHING, **options}), env, say) as session:
        await session.opener.models(session.common)
        yield session


@asynccontextmanager
async def prepared_session(
    common: RunSpec, env: Environment | None = None, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Session]:
    """Open a session whose models are opened when a run first asks for them."""
    env = env or read_environment()
    async with open_journal(env.journal) as journal, AsyncExitStack() as stack:
        run_id, prices, ledger = new_run_id(time.time()), load_prices(common.prices), Ledger(common.budget)
        account = Account(journal, ledger, prices, run_id, "" if common.cache else run_id, say)
        yield Session(journal, common, ModelPool(stack, common, env, account), prices, ledger, run_id)


@dataclass(frozen=True, slots=True)
class Session:
    """Use :func:`open_session`. Any number of runs may go on at the same time."""

    journal: Journal
    common: RunSpec
    opener: ModelPool
    prices: Prices
    ledger: Ledger
    session_id: str

    def usage(self) -> UsageResult:
        """Return what all runs have spent so far."""
        return usage_of(self.ledger)

    async def optimize(
        self,
        prompt: str,
        examples: Sequence[Example | Mapping[str, Any]],
        *,
        metric: Any = None,
        emit: Callable[[Event], None] = lambda _: None,
        **options: Any,
    ) -> RunResult:
        """Search for a better prompt and return the result; what it costs counts for the session too.

        ``metric`` is a name, a function or a Metric; ``options`` are fields of :class:`RunSpec` other
        than the session's own. ``model`` may be another one than the session's; all runs of a model
        share its limiter. ``budget`` caps this run beside the session. ``emit`` is told the run's
        events. Raises LpoError, never an exception group.
        """
        if clash := options.keys() & SHARED:
            raise ConfigError(f"{min(clash)} belongs to the session; give it to open_session")
        named = metric if isinstance(metric, str) else None
        shared = self.common.model_dump(include={*SHARED, "model", "optimizer_model"})
        spec = make_spec({**shared, "prompt": prompt, "examples": tuple(examples), "metric": named, **options})
        task = load_task(spec)
        run_id = new_run_id(time.time())
        rows = await self.journal.put_blob(data_files.to_json(task.splits))
        own = None if named else metric
        order = RunRequest("optimize", spec, rows, custom_metric=own is not None)
        await self.journal.create_run(run_id, "optimize", order.to_json())
        result = await self.run(run_id, order, task, metric=own, emit=emit)
        assert isinstance(result, RunResult)  # noqa: S101 - the kind of run decides it
        return result

    async def run(
        self,
        run_id: str,
        order: RunRequest,
        task: Task,
        *,
        metric: object | None = None,
        emit: Callable[[Event], None] = lambda _: None,
        stop: anyio.Event | None = None,
        search_calls: int | None = None,
    ) -> Result:
        """Do a run that the journal has just opened, or opened again, and book its end; raises LpoError.

        With ``search_calls`` it asks at most so many times beside its test, known replies counted too; a
        search that needs more ends with the reason :func:`used_up`. Opened again, such a run is replayed
        from its beginning, so that its count is right.
        """
        spec, journal = order.spec, self.journal
        ledger = Ledger(spec.budget)
        memory = RunMemory(journal, run_id, recalls=search_calls is None)
        stream = EventStream(journal, run_id)

        def tell(event: Event) -> None:
            stream.emit(event)
            emit(event)

        status: RunStatus = "interrupted"
        text: str | None = None
        try:
            shared = await self.opener.models(spec)
            models = Models(*(Metered(model, ledger, self.prices) for model in (shared.task, shared.optimizer)))
            purse = ledger
            if search_calls is not None:
                purse, models = _capped(models, search_calls, calls_of_test(task))
            usage, halt = partial(usage_of, ledger), stop or anyio.Event()
            other = order.other_prompt
            own = (spec, task, metric, other, models, purse, self.prices, memory)
            context = Context(run_id, *own, tell, usage, halt, self.opener.account.say)
            result = await _told(JOBS[order.kind], context, stream)
            status, text = result.status, result.model_dump_json(by_alias=True)
        except LpoError as exc:
            status = "stopped" if isinstance(exc, BudgetExceeded) else "failed"
            raise
        finally:
            with anyio.CancelScope(shield=True):
                memory.flush()
                await journal.finish_run(run_id, status, text, ledger.seconds())
            stream.close()
        return result


def used_up(search_calls: int) -> str:
    """Return the stop reason of a run whose search had no calls left."""
    return f"its {search_calls} search calls are used up"


def calls_of_test(task: Task) -> int:
    """Return the most calls that the test of a search's answer against its seed prompt makes."""
    return 2 * calls_each(task) * len(task.splits.test)


def _capped(models: Models, search_calls: int, test: int) -> tuple[Ledger, Models]:
    """Return a purse of calls for one run, and its models, which take every call from it."""
    purse, reason = Ledger(Budget(calls=search_calls + test)), used_up(search_calls)
    return purse, Models(*(Capped(model, purse, reason) for model in (models.task, models.optimizer)))


async def _told(job: Callable[[Context], Awaitable[Result]], context: Context, stream: EventStream) -> Result:
    """Do the run while its events are written down; raises the one LpoError that ended it."""
    results: list[Result] = []
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.pump)
            try:
                results.append(await job(context))
            finally:
                stream.end()
    except BaseExceptionGroup as group:
        problem = worst(group)
        if problem is None:
            found = list(leaves(group))
            raise found[0] if len(found) == 1 else group from None
        raise problem from None
    return results[0]
