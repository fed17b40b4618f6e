"""Sessions: any number of runs that share their models, rate limits, budget and journal."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from lpo_agent.arguments import MetricLike, Parts, Rows, silent
from lpo_agent.errors import ConfigError
from lpo_agent.history import StoredRun, page_of, stored
from lpo_agent.options import RunOptions, ScoreOptions, SessionOptions
from lpo_agent.runs.guided import GuidedRuns
from lpo_agent.runs.request import OwnParts, read_request, split_parts
from lpo_agent.runs.runner import Runner, open_runner
from lpo_agent.spec import RunSpec, make_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.bus.base import Bus
    from lpo_agent.core.budget import Budget
    from lpo_agent.core.events import Event
    from lpo_agent.core.result import CompareResult, EvaluateResult, HeadroomResult, MarkResult, RunResult, UsageResult
    from lpo_agent.environment import Environment
    from lpo_agent.journal import RunRecord
    from lpo_agent.models.base import Model
    from lpo_agent.models.providers.base import Provider
    from lpo_agent.runs.request import Kind
    from lpo_agent.runs.run import Run
    from lpo_agent.search.methods.base import Method

__all__ = ["Session", "open_session"]

R = TypeVar("R")
NO_PROMPT: Final = "(the session's own)"
SHARED: Final = frozenset(SessionOptions.__annotations__) - {"budget"} | {"bus", "providers"}
"""Options that belong to a session, not to its runs."""


@dataclass(frozen=True, slots=True)
class Session:
    """Runs that share their models (each with one rate limiter), one budget and one journal; see :func:`open_session`.

    Any number of runs may be in progress at the same time. A run may have a ``budget`` of its own, in addition to
    that of the session.
    """

    _runner: Runner
    _common: RunSpec

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._runner.session_id

    def usage(self) -> UsageResult:
        """Return the calls, tokens and cost of all runs of the session so far."""
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
        emit: Callable[[Event], None] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Search for a better prompt, as :func:`lpo_agent.optimize` does; ``model`` may differ from the session's.

        ``emit`` is called with each event of the run.
        """
        parts = split_parts(
            model=model,
            optimizer_model=optimizer_model,
            metric=metric,
            method=method,
            marker=marker,
            proposer=proposer,
        )
        run: Run[RunResult] = await self._start("optimize", prompt, rows, parts, options)
        return await _waited(run, emit)

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

    async def headroom(
        self,
        prompt: str,
        rows: Rows = (),
        *,
        model: str | Model | None = None,
        optimizer_model: str | Model | None = None,
        metric: MetricLike | None = None,
        **options: Unpack[RunOptions],
    ) -> HeadroomResult:
        """Say what goes wrong with a prompt, and whether a search is worth it, as :func:`lpo_agent.headroom` does."""
        parts = split_parts(model=model, optimizer_model=optimizer_model, metric=metric)
        run: Run[HeadroomResult] = await self._start("headroom", prompt, rows, parts, options)
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
        """Start a run in the background and return it; it is cancelled if the session ends first.

        The limits, prices and bus of the session replace those of ``spec``. ``owner`` is stored with the run, for
        servers with several users. Raises InputError for wrong input, before any call.
        """
        names, own = split_parts(**parts)
        spec = spec.model_copy(update={**names, **{name: getattr(self._common, name) for name in _fields(SHARED)}})
        prepared = await self._runner.prepare(kind, spec, self._own(own, spec), other_prompt=other_prompt, owner=owner)
        return await self._runner.start(prepared)

    @property
    def guided(self) -> GuidedRuns:
        """The guided runs of the session, in which an assistant marks, proposes and answers."""
        shared = {name: getattr(self._common, name) for name in _fields(SHARED)}
        return GuidedRuns(self._runner, partial(self._own, OwnParts()), shared)

    def runs(self, limit: int = -1, offset: int = 0, *, results: bool = True) -> list[StoredRun]:
        """Return the runs of the session's journal, newest first; see :func:`lpo_agent.list_runs`.

        It is faster without ``results``.
        """
        journal = self._runner.journal
        return [stored(journal, record, states=False, results=results) for record in journal.runs(limit, offset)]

    def read(self, run_id: str, *, state: bool = True) -> StoredRun:
        """Return a run of the session's journal; raises JournalError for an unknown one.

        Without ``state``, the progress of the run is not computed from its events.
        """
        return stored(self._runner.journal, self._runner.journal.run(run_id), states=state)

    def report(self, run_id: str) -> str:
        """Return a run's report as an HTML page; see :func:`lpo_agent.report_page`."""
        return page_of(self._runner.journal, self._runner.journal.run(run_id))[1]

    async def resume(self, run_id: str, *, budget: Budget | None = None, **parts: Unpack[Parts]) -> Run[Any]:
        """Continue, in the background, a run that was interrupted or stopped; ``budget`` replaces its caps.

        The run uses the bus of the session, whatever bus it used before.
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
        given = {"prompt": prompt, "examples": rows}
        spec = make_spec({**shared, **given, **names, **options})
        prepared = await self._runner.prepare(kind, spec, self._own(own, spec), other_prompt=other_prompt)
        return await self._runner.start(prepared)

    def _own(self, own: OwnParts, spec: RunSpec) -> OwnParts:
        """Return the objects of a run; those of the session are used if the run has none and names no other model."""
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


async def _waited(run: Run[R], emit: Callable[[Event], None] | None = None) -> R:
    """Wait for the run and return its result; if the caller is cancelled, the run is cancelled too."""
    try:
        if emit is not None:
            async for event in run:
                emit(event)
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
    say: Callable[[str], None] = silent,
    **options: Unpack[SessionOptions],
) -> AsyncIterator[Session]:
    """Open a session for any number of runs. The limits apply to each model, the budget to all runs together.

    ``model`` and ``optimizer_model`` are the defaults for the runs. Raises InputError for wrong input, before any
    call.
    """
    names, own = split_parts(model=model, optimizer_model=optimizer_model, bus=bus, providers=providers)
    common = make_spec({"prompt": NO_PROMPT, **names, **options})
    async with open_runner(common, env=env, say=say, own=own) as runner:
        yield Session(runner, common)
