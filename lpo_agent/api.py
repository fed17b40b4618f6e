"""The library's functions: what ``import lpo_agent`` offers, and what the command line and the MCP server stand on.

Each is a thin layer over :mod:`lpo_agent.runs`: it sorts names from the caller's own objects, and says what comes back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack, cast, overload

from lpo_agent.bench.running import KIND as BENCH
from lpo_agent.bench.running import open_bench, resume_bench
from lpo_agent.core.budget import Budget
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.history import Result, StoredRun, page_of, stored
from lpo_agent.journal import open_journal
from lpo_agent.options import RunOptions, ScoreOptions, SessionOptions
from lpo_agent.runs.guided import GuidedRuns
from lpo_agent.runs.request import OwnParts, read_request, split_parts
from lpo_agent.runs.runner import Runner, check_resumable, open_runner
from lpo_agent.spec import RunSpec, make_spec

if TYPE_CHECKING:
    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.bus.base import Bus
    from lpo_agent.core.result import CompareResult, EvaluateResult, MarkResult, RunResult, UsageResult
    from lpo_agent.data import Example
    from lpo_agent.environment import Environment
    from lpo_agent.journal import RunRecord
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model
    from lpo_agent.models.providers.base import Provider
    from lpo_agent.runs.request import Kind
    from lpo_agent.runs.run import Run
    from lpo_agent.search.methods.base import Method

    MetricLike = str | Metric | Callable[..., Any]

__all__ = [
    "Session",
    "compare",
    "evaluate",
    "mark",
    "open_bench",
    "open_resumed",
    "open_run",
    "open_session",
    "optimize",
    "resume",
]

Rows = Sequence["Example | Mapping[str, Any]"]
"""Rows with ``input`` and ``target``, as examples or mappings."""
R = TypeVar("R")
NO_PROMPT: Final = "(the session's own)"
SHARED: Final = frozenset(SessionOptions.__annotations__) - {"budget"} | {"bus", "providers"}
"""Options that belong to a session, not to its runs."""


class Parts(TypedDict, total=False):
    """Parts of a run that may be the caller's own objects in place of names.

    What must be given again when a run with such objects is resumed.
    """

    model: str | Model
    """Answers the rows: ``PROVIDER:NAME`` or a Model."""
    optimizer_model: str | Model | None
    """Marks, proposes and judges (default: the model that answers)."""
    metric: MetricLike | None
    """How answers are scored: a name, ``FILE.py:FUNCTION``, a function ``(output, target, row)``, or a Metric."""
    method: str | Method
    """How to search: a name or a Method (default: auto, which tests what the optimizer model can do)."""
    marker: str | Marker | None
    """Who chooses the words to edit: a name or a Marker (default: the method's own)."""
    proposer: str | Proposer | None
    """Who writes new words: a name or a Proposer (default: the method's own)."""
    bus: str | Bus
    """What carries requests to agents: memory, nats://HOST:PORT for workers, or a Bus (default: memory)."""
    providers: Mapping[str, Provider]
    """Providers of the caller's own, by the name before the colon of a model's."""


def _silent(_: str) -> None:
    """Tell nobody."""


async def optimize(
    prompt: str,
    rows: Rows = (),
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    metric: MetricLike | None = None,
    method: str | Method = "auto",
    marker: str | Marker | None = None,
    proposer: str | Proposer | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **options: Unpack[RunOptions],
) -> RunResult:
    """Search for a better prompt and return the result.

    ``rows`` are split by ``seed`` into rows to learn from, to choose by, and to test once. Model, metric, method,
    marker, proposer and bus are names or the caller's own objects (see the Protocols of this package). ``say`` is told
    what a user should know meanwhile. Raises LpoError, never an exception group.
    """
    names, own = split_parts(
        model=model,
        optimizer_model=optimizer_model,
        metric=metric,
        method=method,
        marker=marker,
        proposer=proposer,
        bus=bus,
        providers=providers,
    )
    spec = make_spec({"prompt": prompt, "examples": tuple(rows), **names, **options})
    async with _opened(spec, "optimize", own, env=env, say=say) as run:
        result: RunResult = await run.wait()
    return result


async def evaluate(
    prompt: str,
    rows: Rows = (),
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    metric: MetricLike | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **options: Unpack[ScoreOptions],
) -> EvaluateResult:
    """Score one prompt on every row; raises LpoError. ``optimizer_model`` judges where the metric is judge."""
    names, own = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, bus=bus, providers=providers)
    spec = make_spec({"prompt": prompt, "examples": tuple(rows), **names, **options})
    async with _opened(spec, "evaluate", own, env=env, say=say) as run:
        result: EvaluateResult = await run.wait()
    return result


async def compare(
    a: str,
    b: str,
    rows: Rows = (),
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    metric: MetricLike | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **options: Unpack[ScoreOptions],
) -> CompareResult:
    """Score two prompts on the same rows, and tell whether ``b`` is better than ``a``; raises LpoError."""
    names, own = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, bus=bus, providers=providers)
    spec = make_spec({"prompt": a, "examples": tuple(rows), **names, **options})
    async with _opened(spec, "compare", own, other_prompt=b, env=env, say=say) as run:
        result: CompareResult = await run.wait()
    return result


async def mark(
    prompt: str,
    rows: Rows = (),
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    metric: MetricLike | None = None,
    method: str | Method = "auto",
    marker: str | Marker | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **options: Unpack[RunOptions],
) -> MarkResult:
    """Return the parts of a prompt that a search would edit first, each with its reason; raises LpoError."""
    names, own = split_parts(
        model=model,
        optimizer_model=optimizer_model,
        metric=metric,
        method=method,
        marker=marker,
        bus=bus,
        providers=providers,
    )
    spec = make_spec({"prompt": prompt, "examples": tuple(rows), **names, **options})
    async with _opened(spec, "mark", own, env=env, say=say) as run:
        result: MarkResult = await run.wait()
    return result


@overload
def open_run(
    spec: RunSpec, *, kind: Literal["optimize"] = ..., env: Environment | None = ..., say: Callable[[str], None] = ...,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[RunResult]]: ...  # fmt: skip
@overload
def open_run(
    spec: RunSpec, *, kind: Literal["evaluate"], env: Environment | None = ..., say: Callable[[str], None] = ...,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[EvaluateResult]]: ...  # fmt: skip
@overload
def open_run(
    spec: RunSpec, *, kind: Literal["compare"], other_prompt: str, env: Environment | None = ...,
    say: Callable[[str], None] = ..., **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[CompareResult]]: ...  # fmt: skip
@overload
def open_run(
    spec: RunSpec, *, kind: Literal["mark"], env: Environment | None = ..., say: Callable[[str], None] = ...,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[MarkResult]]: ...  # fmt: skip
@overload
def open_run(
    spec: RunSpec, *, kind: Kind = ..., other_prompt: str | None = ..., env: Environment | None = ...,
    say: Callable[[str], None] = ..., **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[Any]]: ...  # fmt: skip
def open_run(
    spec: RunSpec,
    *,
    kind: Kind = "optimize",
    other_prompt: str | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[Any]]:
    """Start a run and observe it while it happens; leaving the block before its end cancels it.

    The journal allows a resume. ``parts`` are the caller's own objects, in place of what ``spec`` names. Raises
    InputError before anything is spent.
    """
    names, own = split_parts(**parts)
    return _opened(spec.model_copy(update=names), kind, own, other_prompt=other_prompt, env=env, say=say)


@asynccontextmanager
async def _opened(
    spec: RunSpec,
    kind: Kind,
    own: OwnParts,
    *,
    other_prompt: str | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
) -> AsyncIterator[Run[Any]]:
    async with open_runner(spec.model_copy(update={"budget": Budget()}), env=env, say=say, own=own) as runner:
        prepared = await runner.prepare(kind, spec, other_prompt=other_prompt)
        async with runner.open(prepared) as run:
            yield run


@asynccontextmanager
async def open_resumed(
    run_id: str,
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    budget: Budget | None = None,
    **parts: Unpack[Parts],
) -> AsyncIterator[Run[Any]]:
    """Go on with a run or benchmark that was interrupted or stopped: only what is missing is asked for.

    ``run_id`` may be a unique beginning, or "last". A run that had objects of the caller's needs them again. ``budget``
    replaces the run's caps; what was spent before counts. Raises JournalError for an unknown run, ConfigError for one
    that cannot be resumed.
    """
    env = env or read_environment()
    _, own = split_parts(**parts)
    async with open_journal(env.journal) as journal:
        record = journal.run(run_id)
        if record.kind == BENCH:
            if record.status in {"completed", "running"}:
                raise ConfigError(f"run {record.run_id} is {record.status}; there is nothing to resume")
            async with resume_bench(journal, env, record, say) as bench:
                yield bench
            return
        check_resumable(record)
        common = read_request(record.spec_json).spec.model_copy(update={"budget": Budget()})
        async with (
            open_runner(common, env=env, say=say, own=own, journal=journal) as runner,
            runner.open(await runner.reopen(record, budget=budget)) as run,
        ):
            yield run


async def resume(
    run_id: str,
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    budget: Budget | None = None,
    **parts: Unpack[Parts],
) -> Result:
    """Go on with a run as :func:`open_resumed` does, and return its result when it has ended."""
    async with open_resumed(run_id, env=env, say=say, budget=budget, **parts) as run:
        return cast("Result", await run.wait())


@dataclass(frozen=True, slots=True)
class Session:
    """Runs that share models, one limiter for each, one budget and one journal. Use :func:`open_session`.

    Any number of runs may go on at the same time. A run's own ``budget`` caps it beside the session.
    """

    _runner: Runner
    _common: RunSpec

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._runner.session_id

    def usage(self) -> UsageResult:
        """Return what all runs of the session have spent so far."""
        return self._runner.usage()

    async def optimize(
        self,
        prompt: str,
        rows: Rows = (),
        *,
        model: str | Model | None = None,
        optimizer_model: str | Model | None = None,
        metric: MetricLike | None = None,
        method: str | Method = "auto",
        marker: str | Marker | None = None,
        proposer: str | Proposer | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Search for a better prompt, as :func:`lpo_agent.optimize` does; ``model`` may differ from the session's."""
        parts = split_parts(
            model=model,
            optimizer_model=optimizer_model,
            metric=metric,
            method=method,
            marker=marker,
            proposer=proposer,
        )
        run: Run[RunResult] = await self._start("optimize", prompt, rows, parts, options)
        return await _waited(run)

    async def evaluate(
        self,
        prompt: str,
        rows: Rows = (),
        *,
        model: str | Model | None = None,
        optimizer_model: str | Model | None = None,
        metric: MetricLike | None = None,
        **options: Unpack[ScoreOptions],
    ) -> EvaluateResult:
        """Score one prompt on every row."""
        parts = split_parts(model=model, optimizer_model=optimizer_model, metric=metric)
        run: Run[EvaluateResult] = await self._start("evaluate", prompt, rows, parts, options)
        return await _waited(run)

    async def compare(
        self,
        a: str,
        b: str,
        rows: Rows = (),
        *,
        model: str | Model | None = None,
        optimizer_model: str | Model | None = None,
        metric: MetricLike | None = None,
        **options: Unpack[ScoreOptions],
    ) -> CompareResult:
        """Score two prompts on the same rows."""
        parts = split_parts(model=model, optimizer_model=optimizer_model, metric=metric)
        run: Run[CompareResult] = await self._start("compare", a, rows, parts, options, other_prompt=b)
        return await _waited(run)

    async def mark(
        self,
        prompt: str,
        rows: Rows = (),
        *,
        model: str | Model | None = None,
        optimizer_model: str | Model | None = None,
        metric: MetricLike | None = None,
        method: str | Method = "auto",
        marker: str | Marker | None = None,
        **options: Unpack[RunOptions],
    ) -> MarkResult:
        """Return the parts of a prompt that a search would edit first."""
        parts = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, method=method, marker=marker)
        run: Run[MarkResult] = await self._start("mark", prompt, rows, parts, options)
        return await _waited(run)

    async def start(
        self,
        spec: RunSpec,
        *,
        kind: Kind = "optimize",
        other_prompt: str | None = None,
        owner: str | None = None,
        **parts: Unpack[Parts],
    ) -> Run[Any]:
        """Start a run in the background and return it; it goes on until it ends, or the session does.

        What ``spec`` says of limits, prices and the bus is replaced by what the session says. ``owner`` is kept with
        the run, for servers that tell their users apart. Raises InputError before anything is spent.
        """
        names, own = split_parts(**parts)
        spec = spec.model_copy(update={**names, **{name: getattr(self._common, name) for name in _fields(SHARED)}})
        prepared = await self._runner.prepare(kind, spec, self._own(own, spec), other_prompt=other_prompt, owner=owner)
        return await self._runner.start(prepared)

    @property
    def guided(self) -> GuidedRuns:
        """The guided runs of the session, in which the caller's own model does the thinking."""
        shared = {name: getattr(self._common, name) for name in _fields(SHARED)}
        return GuidedRuns(self._runner, partial(self._own, OwnParts()), shared)

    def runs(self, limit: int = -1, offset: int = 0, *, results: bool = True) -> list[StoredRun]:
        """Return the runs of the session's journal, newest first; see :func:`lpo_agent.list_runs`.

        Without their ``results`` it takes less time.
        """
        journal = self._runner.journal
        return [stored(journal, record, states=False, results=results) for record in journal.runs(limit, offset)]

    def read(self, run_id: str, *, state: bool = True) -> StoredRun:
        """Return a run of the session's journal; raises JournalError for an unknown one.

        How far it came is not read from its events if no ``state`` is asked for.
        """
        return stored(self._runner.journal, self._runner.journal.run(run_id), states=state)

    def report(self, run_id: str) -> str:
        """Return a run's report as an HTML page; see :func:`lpo_agent.report_page`."""
        return page_of(self._runner.journal, self._runner.journal.run(run_id))[1]

    async def resume(self, run_id: str, *, budget: Budget | None = None, **parts: Unpack[Parts]) -> Run[Any]:
        """Go on in the background with a run that was interrupted or stopped; ``budget`` replaces its caps.

        Its requests go over the session's bus, whatever bus it had before.
        """
        _, own = split_parts(**parts)
        record: RunRecord = self._runner.journal.run(run_id)
        own = self._own(own, read_request(record.spec_json).spec)
        prepared = await self._runner.reopen(record, own, budget=budget)
        return await self._runner.start(prepared.with_spec(bus=self._common.bus))

    async def _start(
        self,
        kind: Kind,
        prompt: str,
        rows: Rows,
        parts: tuple[Mapping[str, str], OwnParts],
        options: RunOptions | ScoreOptions,
        *,
        other_prompt: str | None = None,
    ) -> Run[Any]:
        names, own = parts
        if clash := options.keys() & SHARED:
            raise ConfigError(f"{min(clash)} belongs to the session; give it to open_session")
        shared = {name: getattr(self._common, name) for name in (*_fields(SHARED), "model", "optimizer_model")}
        given = {"prompt": prompt, "examples": tuple(rows)}
        spec = make_spec({**shared, **given, **names, **options})
        prepared = await self._runner.prepare(kind, spec, self._own(own, spec), other_prompt=other_prompt)
        return await self._runner.start(prepared)

    def _own(self, own: OwnParts, spec: RunSpec) -> OwnParts:
        """Return a run's own objects, with those of the session where it has none and names no other model."""
        common = self._runner.own
        model = common.model if spec.model == self._common.model else None
        optimizer = common.optimizer_model if spec.optimizer_model == self._common.optimizer_model else None
        return replace(
            own,
            model=own.model or model,
            optimizer_model=own.optimizer_model or optimizer,
            bus=common.bus,
            providers=common.providers,
        )


def _fields(names: frozenset[str]) -> list[str]:
    return sorted(name for name in names if name in RunSpec.model_fields)


async def _waited(run: Run[R]) -> R:
    """Return the run's result; if the waiting is cancelled, the run is cancelled too."""
    try:
        return await run.wait()
    finally:
        await run.cancel()


@asynccontextmanager
async def open_session(
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = _silent,
    **options: Unpack[SessionOptions],
) -> AsyncIterator[Session]:
    """Open a session for any number of runs. Limits hold for each model, the budget for all of them together.

    ``model`` and ``optimizer_model`` are those of runs that name no other. Raises InputError for what is wrong before
    any call.
    """
    names, own = split_parts(model=model, optimizer_model=optimizer_model, bus=bus, providers=providers)
    common = make_spec({"prompt": NO_PROMPT, **names, **options})
    async with open_runner(common, env=env, say=say, own=own) as runner:
        yield Session(runner, common)
