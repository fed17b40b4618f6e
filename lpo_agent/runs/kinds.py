"""The kinds of run: optimize a prompt, evaluate one, compare two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from lpo_agent.bench.rows import BenchResult
from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.events import PhaseStarted, RunFinished, RunStarted
from lpo_agent.core.result import (
    CompareResult,
    EndStatus,
    EvaluateResult,
    RunResult,
    UsageResult,
    delta,
)
from lpo_agent.core.scores import Scored, Unscored, paired, summarize
from lpo_agent.core.tally import Tally
from lpo_agent.core.text import parse_prompt
from lpo_agent.errors import BudgetExceeded, TooManyUnscored, worst
from lpo_agent.runs.probe import choose_method
from lpo_agent.runs.results import SearchRecords, Setup, build_result, build_search
from lpo_agent.runs.task import build_metric, fit, warn_of_few
from lpo_agent.runs.wiring import marker_kind, serve_agents
from lpo_agent.search.candidates import LocalityChecks
from lpo_agent.search.methods import plan_for
from lpo_agent.search.scoring import Outcomes, Scoring, until_spent
from lpo_agent.workers.connecting import open_scoring

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.core.scores import Score
    from lpo_agent.models.prices import Prices
    from lpo_agent.runs.probe import Choice
    from lpo_agent.runs.task import Task
    from lpo_agent.runs.wiring import Models
    from lpo_agent.search.coordinator import Coordinator
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Memory
    from lpo_agent.spec import RunSpec

Result = RunResult | EvaluateResult | CompareResult | BenchResult


@dataclass(frozen=True, slots=True)
class Context:
    """What a job works with. ``metric`` is the caller's own, or None; ``stop`` asks for an early end.

    ``say`` is told what a user should know now.
    """

    run_id: str
    spec: RunSpec
    task: Task
    metric: object | None
    other_prompt: str | None
    models: Models
    ledger: Ledger
    prices: Prices
    memory: Memory
    emit: Callable[[Event], None]
    usage: Callable[[], UsageResult]
    stop: anyio.Event
    say: Callable[[str], None] = lambda _: None


async def optimize(context: Context) -> RunResult:
    """Search for a better prompt; raises BudgetExceeded if not even the seed could be scored."""
    spec, choice = context.spec, await choose_method(context.models.optimizer, context.spec.method)
    task, plan = fit(context.task, plan_for(choice.method, spec, marker_kind(spec, choice.method)), spec.budget)
    task = warn_of_few(task, spec.gain)
    context.emit(_started(context, task, plan, choice))
    setup, books = Setup(context, choice.method, task, plan), SearchRecords(LocalityChecks(), Tally(), context.emit)
    async with open_scoring(context, task) as through, MemoryBus() as bus, anyio.create_task_group() as agents:
        await serve_agents(
            agents,
            bus,
            spec=spec,
            task=task,
            models=context.models,
            metric=build_metric(task, context.metric, context.models.optimizer),
            method=choice.method,
            branches=plan.branches,
            through=through,
        )
        coordinator = build_search(setup, bus, books)
        agents.start_soon(_relay_stop, context.stop, coordinator)
        findings = await coordinator.run()
        agents.cancel_scope.cancel()
    if not _whole(findings.seed_dev, len(task.splits.dev)):
        raise BudgetExceeded(f"{findings.stopped_by or 'the run was stopped'} before the seed prompt was scored")
    result = build_result(setup, findings, books)
    context.emit(RunFinished(status=result.status, stop_reason=result.stop_reason, verdict=result.verdict))
    return result


def _whole(score: Score | None, items: int) -> bool:
    return score is not None and score.n > 0 and score.n + score.unscored == items


async def _relay_stop(stop: anyio.Event, coordinator: Coordinator) -> None:
    await stop.wait()
    coordinator.stop("asked to stop")


def _started(context: Context, task: Task, plan: Plan, choice: Choice) -> RunStarted:
    spec = context.spec
    return RunStarted(
        run_id=context.run_id,
        method=choice.method,
        why=choice.why,
        model=spec.model,
        optimizer_model=spec.optimizer_model or spec.model,
        metric=task.metric_name,
        train=len(task.splits.train),
        dev=len(task.splits.dev),
        test=len(task.splits.test),
        branches=plan.branches,
        steps=plan.steps,
        seed_prompt=task.prompt.text,
    )


async def evaluate(context: Context) -> EvaluateResult:
    """Score one prompt on every row; if too many fail, the result says so and keeps what there is."""
    began, before = time.monotonic(), context.usage().calls
    context.emit(PhaseStarted(phase="test", total=len(context.task.splits.dev)))
    (outcomes,), end = await _score_all(context, [context.task.prompt.text])
    usage, seconds = context.usage(), time.monotonic() - began
    return EvaluateResult(
        run_id=context.run_id,
        status=end.status,
        stop_reason=end.reason,
        score=summarize(outcomes.values()),
        unscored=tuple((row, o.reason) for row, o in outcomes.items() if isinstance(o, Unscored)),
        usage=usage,
        calls_per_s=(usage.calls - before) / seconds if seconds > 0 else 0.0,
    )


async def compare(context: Context) -> CompareResult:
    """Score two prompts on every row, and compare them pair by pair."""
    rows = context.task.splits.dev
    other = parse_prompt(context.other_prompt or "", set(rows[0].variables), to_change=False)
    context.emit(PhaseStarted(phase="test", total=2 * len(rows)))
    (old, new), end = await _score_all(context, [context.task.prompt.text, other.text])
    return CompareResult(
        run_id=context.run_id,
        status=end.status,
        stop_reason=end.reason,
        a=summarize(old.values()),
        b=summarize(new.values()),
        delta=delta(paired(new, old, [row.id for row in rows])),
        usage=context.usage(),
    )


class End(NamedTuple):
    """How a scoring ended, and why."""

    status: EndStatus
    reason: str


async def _score_all(context: Context, texts: list[str]) -> tuple[list[Outcomes], End]:
    """Score every row under every text; what a spent budget or a stop cut off is not in the outcomes.

    Raises BudgetExceeded if nothing could be scored for it.
    """
    spec, task = context.spec, context.task
    rows, end = task.splits.dev, End("completed", "all items scored")
    async with open_scoring(context, task) as through, MemoryBus() as bus, anyio.create_task_group() as agents:
        metric = build_metric(task, context.metric, context.models.optimizer)
        await serve_agents(
            agents,
            bus,
            spec=spec,
            task=task,
            models=context.models,
            metric=metric,
            method="local-search",
            branches=1,
            through=through,
        )
        scoring = Scoring(bus, in_flight=spec.concurrency, memory=context.memory)
        agents.start_soon(_cancel_on, context.stop, agents.cancel_scope)
        try:
            if spent := await until_spent(partial(scoring.score_all, texts, rows)):
                end = End("stopped", spent)
        except* TooManyUnscored as group:
            end = End("failed", str(worst(group)))
        agents.cancel_scope.cancel()
    if context.stop.is_set():
        end = End("stopped", "asked to stop")
    outcomes = [scoring.known(text, rows) for text in texts]
    scored = sum(isinstance(outcome, Scored) for found in outcomes for outcome in found.values())
    if not scored and end.status == "stopped":
        raise BudgetExceeded(end.reason)
    if not scored and end.status == "completed":
        end = End("failed", "not one item could be scored")
    return outcomes, end


async def _cancel_on(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


JOBS: Final[Mapping[str, Callable[[Context], Awaitable[Result]]]] = {
    "optimize": optimize,
    "evaluate": evaluate,
    "compare": compare,
}
