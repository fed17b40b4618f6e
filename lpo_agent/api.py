"""The functions of the public API: optimize, evaluate, compare, mark, headroom, and opening and resuming runs.

The command line and the MCP server use them too. Each function is a thin, typed layer over :mod:`lpo_agent.runs`: it
separates names from the caller's own objects, starts a run, and returns the result.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

from lpo_agent.arguments import MetricLike, Parts, Rows, silent
from lpo_agent.bench.running import KIND as BENCH
from lpo_agent.bench.running import open_bench, resume_bench
from lpo_agent.core.budget import Budget
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.journal import open_journal
from lpo_agent.runs.request import OwnParts, read_request, split_parts
from lpo_agent.runs.runner import check_resumable, open_runner
from lpo_agent.spec import RunSpec, make_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.bus.base import Bus
    from lpo_agent.core.result import CompareResult, EvaluateResult, HeadroomResult, MarkResult, RunResult
    from lpo_agent.environment import Environment
    from lpo_agent.history import Result
    from lpo_agent.models.base import Model
    from lpo_agent.models.providers.base import Provider
    from lpo_agent.options import RunOptions, ScoreOptions
    from lpo_agent.runs.request import Kind
    from lpo_agent.runs.run import Run
    from lpo_agent.search.methods.base import Method

__all__ = [
    "compare",
    "evaluate",
    "headroom",
    "mark",
    "open_bench",
    "open_resumed",
    "open_run",
    "optimize",
    "resume",
]


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
    say: Callable[[str], None] = silent,
    **options: Unpack[RunOptions],
) -> RunResult:
    """Search for a better prompt and return the result.

    ``rows`` are split, depending on ``seed``, into train rows for the search, dev rows to choose the prompt, and test
    rows for one final comparison. Model, metric, method, marker, proposer and bus are names or objects of the caller
    (see the Protocols of this package). ``say`` is called with messages for the user. Raises LpoError, never an
    exception group.
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
    spec = make_spec({"prompt": prompt, "examples": rows, **names, **options})
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
    say: Callable[[str], None] = silent,
    **options: Unpack[ScoreOptions],
) -> EvaluateResult:
    """Score one prompt on every row; raises LpoError. With the metric "judge", ``optimizer_model`` is the judge."""
    names, own = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, bus=bus, providers=providers)
    spec = make_spec({"prompt": prompt, "examples": rows, **names, **options})
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
    say: Callable[[str], None] = silent,
    **options: Unpack[ScoreOptions],
) -> CompareResult:
    """Score two prompts on the same rows, and test whether ``b`` is better than ``a``; raises LpoError."""
    names, own = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, bus=bus, providers=providers)
    spec = make_spec({"prompt": a, "examples": rows, **names, **options})
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
    say: Callable[[str], None] = silent,
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
    spec = make_spec({"prompt": prompt, "examples": rows, **names, **options})
    async with _opened(spec, "mark", own, env=env, say=say) as run:
        result: MarkResult = await run.wait()
    return result


async def headroom(
    prompt: str,
    rows: Rows = (),
    *,
    model: str | Model,
    optimizer_model: str | Model | None = None,
    metric: MetricLike | None = None,
    bus: str | Bus = "memory",
    providers: Mapping[str, Provider] | None = None,
    env: Environment | None = None,
    say: Callable[[str], None] = silent,
    **options: Unpack[RunOptions],
) -> HeadroomResult:
    """Say what goes wrong with a prompt, how much a better one may gain, and whether a search is worth it.

    It takes about 60 answers, which a search with the same rows, model and options uses too. ``rows`` are split as
    :func:`optimize` does. Raises LpoError.
    """
    names, own = split_parts(model=model, optimizer_model=optimizer_model, metric=metric, bus=bus, providers=providers)
    spec = make_spec({"prompt": prompt, "examples": rows, **names, **options})
    async with _opened(spec, "headroom", own, env=env, say=say) as run:
        result: HeadroomResult = await run.wait()
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
    spec: RunSpec, *, kind: Literal["headroom"], env: Environment | None = ..., say: Callable[[str], None] = ...,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[HeadroomResult]]: ...  # fmt: skip
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
    say: Callable[[str], None] = silent,
    **parts: Unpack[Parts],
) -> AbstractAsyncContextManager[Run[Any]]:
    """Start a run, and observe it while it is in progress; leaving the block before its end cancels it.

    A cancelled run can be resumed. ``parts`` are objects of the caller that replace what ``spec`` names. Raises
    InputError for wrong input, before any call.
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
    say: Callable[[str], None] = silent,
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
    say: Callable[[str], None] = silent,
    budget: Budget | None = None,
    **parts: Unpack[Parts],
) -> AsyncIterator[Run[Any]]:
    """Continue a run or benchmark that was interrupted or stopped; only missing answers are requested.

    ``run_id`` may be a unique prefix, or "last". Objects of the caller that the run used must be passed again.
    ``budget`` replaces the caps of the run; what was spent before counts. Raises JournalError for an unknown run, and
    ConfigError for a run that cannot be resumed.
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
        request = read_request(record.spec_json)
        own.check_against(request, record.run_id)
        common = request.spec.model_copy(update={"budget": Budget()})
        async with (
            open_runner(common, env=env, say=say, own=own, journal=journal) as runner,
            runner.open(await runner.reopen(record, budget=budget)) as run,
        ):
            yield run


async def resume(
    run_id: str,
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = silent,
    budget: Budget | None = None,
    **parts: Unpack[Parts],
) -> Result:
    """Continue a run as :func:`open_resumed` does, wait for its end, and return its result."""
    async with open_resumed(run_id, env=env, say=say, budget=budget, **parts) as run:
        return cast("Result", await run.wait())
