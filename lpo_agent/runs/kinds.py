"""The kinds of run: optimize, evaluate and mark a prompt, compare two prompts; headroom is in a module of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from lpo_agent.core.events import PhaseStarted, RunFinished, RunStarted, read_event
from lpo_agent.core.result import CompareResult, EndStatus, EvaluateResult, MarkResult, MarkSpan, RunResult, delta
from lpo_agent.core.scores import Scored, Unscored, paired, summarize
from lpo_agent.core.tally import Tally
from lpo_agent.core.text import parse_prompt
from lpo_agent.errors import BudgetExceeded, TooManyUnscored, worst
from lpo_agent.models.base import Usage
from lpo_agent.plugins import AUTO
from lpo_agent.runs.agents import open_agents, setting_of
from lpo_agent.runs.headroom import headroom
from lpo_agent.runs.probe import choose_method
from lpo_agent.runs.request import method_of
from lpo_agent.runs.results import build_result
from lpo_agent.runs.stopping import until_stopped
from lpo_agent.runs.task import probe_calls
from lpo_agent.search.analysis import PromptAnalyzer
from lpo_agent.search.candidates import LocalityChecks
from lpo_agent.search.context import Search
from lpo_agent.search.coordinator import Coordinator
from lpo_agent.search.methods.choosing import check_options
from lpo_agent.search.outcome import SearchOutcome, SearchTask
from lpo_agent.search.scoring import Outcomes, until_spent
from lpo_agent.search.task import call_tokens, calls_each, end_cost, fit, shares, warn_of_few

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.core.events import Event
    from lpo_agent.core.scores import Score
    from lpo_agent.runs.context import RunContext
    from lpo_agent.runs.probe import MethodChoice
    from lpo_agent.search.methods.base import FullMethod
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.task import Task

MARKED_ROWS: Final = 16
"""The number of training rows that are scored to find failures before a prompt is marked."""


async def optimize(context: RunContext) -> RunResult:
    """Search for a better prompt; raises BudgetExceeded if the budget ends before the seed prompt is scored."""
    spec = context.spec
    choice = await _choose(context)
    method = method_of(context.prepared.own, choice.method)
    check_options(method, spec)
    probe = probe_calls(spec, context.prepared.own)
    task, plan = fit(context.task, method.plan(spec), spec.budget, search_calls=context.search_calls, probe=probe)
    task = warn_of_few(task, spec.gain)
    if plan.fitted:
        context.say(shares(task, plan))
    context.emit(_started(context, task, plan, replace(choice, method=method.name)))
    tally = Tally()

    def emit(event: Event) -> None:
        tally.note(event)
        context.emit(event)

    seed = task.seed
    outcome, checks = SearchOutcome(seed, seed), LocalityChecks()
    async with open_agents(context, setting_of(spec, task, plan, choice.method), method) as bus:
        scoring, rows = context.scoring(bus), _rows(context, task, plan)
        search = Search(spec, task, plan, rows, bus, scoring, outcome, checks, emit)
        coordinator = Coordinator(method.start(search), outcome, scoring, rows, emit)
        async with until_stopped(context.stop, partial(coordinator.stop, "asked to stop")):
            await coordinator.run()
    if not _whole(outcome.seed_dev, len(task.splits.dev)):
        raise BudgetExceeded(f"{outcome.stopped_by or 'the run was stopped'} before the seed prompt was scored")
    result = build_result(search, tally, run_id=context.run_id, method=method.name, usage=context.usage())
    context.emit(RunFinished(status=result.status, stop_reason=result.stop_reason, verdict=result.verdict))
    return result


async def _choose(context: RunContext) -> MethodChoice:
    """Return the method; "auto" becomes the method that an earlier session of the run chose, or that a probe finds."""
    if context.spec.method != AUTO or context.prepared.own.method is not None:
        return await choose_method(context, context.spec.method)
    for body in context.journal.events(context.run_id):
        event = read_event(body)
        if isinstance(event, RunStarted):
            return await choose_method(context, event.method, event.why)
    return await choose_method(context, AUTO)


def _rows(context: RunContext, task: Task, plan: Plan) -> SearchTask:
    """Return the rows of a search, with the highest cost of its confirmation and test."""
    spec, splits = context.spec, task.splits
    tokens = call_tokens(task)
    price = context.prices.cost(spec.model, Usage(tokens - task.max_tokens, task.max_tokens))
    ends = (splits.must, splits.test)
    paid = max(0, context.outcomes.paid(splits.dev) - len(splits.dev)) + sum(map(context.outcomes.paid, ends))
    end = end_cost(task, plan, price, paid)
    return SearchTask(
        splits.train, splits.dev, splits.test, context.ledger, end, calls_each(task), splits.must, spec.class_gate
    )


def _whole(score: Score | None, items: int) -> bool:
    return score is not None and score.n > 0 and score.n + score.unscored == items


def _started(context: RunContext, task: Task, plan: Plan, choice: MethodChoice) -> RunStarted:
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
        search_calls=plan.search if plan.fitted and spec.steps is None else None,
        seed_prompt=task.prompt.text,
        chosen_on=plan.chosen_on,
    )


async def evaluate(context: RunContext) -> EvaluateResult:
    """Score one prompt on every row; if too many calls fail, the result says so and has the scores so far."""
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


async def compare(context: RunContext) -> CompareResult:
    """Score two prompts on every row, and compare them by a paired test."""
    rows = context.task.splits.dev
    other = parse_prompt(context.prepared.request.other_prompt or "", set(rows[0].variables), to_change=False)
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


async def mark(context: RunContext) -> MarkResult:
    """Mark the spans that the first step of a search would edit, with a reason for each."""
    spec, task = context.spec, context.task
    choice = await _choose(context)
    method = method_of(context.prepared.own, choice.method)
    check_options(method, spec)
    plan = method.plan(spec)
    async with open_agents(context, setting_of(spec, task, plan, choice.method), method) as bus:
        rows = task.splits.train[:MARKED_ROWS]
        marks = await PromptAnalyzer(bus, context.scoring(bus), rows, plan).analyze(task.prompt)
    marked = marks.on(task.prompt)
    return MarkResult(
        run_id=context.run_id,
        status="completed",
        stop_reason="the prompt is marked",
        prompt=task.prompt.text,
        marked=marked.render(),
        spans=tuple(
            MarkSpan(
                start=each.span.start,
                end=each.span.end,
                text=each.span.of(task.prompt.text),
                reason=each.reason,
                influence=each.influence,
            )
            for each in marks.marks
        ),
        usage=context.usage(),
    )


class End(NamedTuple):
    """The status of a run that only scores, and the reason why it ended."""

    status: EndStatus
    reason: str


async def _score_all(context: RunContext, texts: list[str]) -> tuple[list[Outcomes], End]:
    """Score every row with every text; if the budget ends or the run is stopped, the other rows have no outcome.

    Raises BudgetExceeded if the budget ends before the first score.
    """
    spec, task = context.spec, context.task
    rows, end = task.splits.dev, End("completed", "all items scored")
    method, plan = plain_method()
    async with open_agents(context, setting_of(spec, task, plan, method.name), method) as bus:
        scoring = context.scoring(bus)
        with anyio.CancelScope() as scope:
            async with until_stopped(context.stop, scope.cancel):
                try:
                    if spent := await until_spent(partial(scoring.score_all, texts, rows)):
                        end = End("stopped", spent)
                except* TooManyUnscored as group:
                    end = End("failed", str(worst(group)))
    if context.stop.is_set():
        end = End("stopped", "asked to stop")
    outcomes = [scoring.known(text, rows) for text in texts]
    scored = sum(isinstance(outcome, Scored) for found in outcomes for outcome in found.values())
    if not scored and end.status == "stopped":
        raise BudgetExceeded(end.reason)
    if not scored and end.status == "completed":
        end = End("failed", "not one item could be scored")
    return outcomes, end


def plain_method() -> tuple[FullMethod, Plan]:
    """Return any method, for a run that only scores and therefore uses no agent of the method."""
    from lpo_agent.search.methods.pool import LOCAL_SEARCH  # noqa: PLC0415 - one method of many, named here only

    return LOCAL_SEARCH, LOCAL_SEARCH.numbers


JOBS: Final[Mapping[str, Callable[[RunContext], Awaitable[Any]]]] = {
    "optimize": optimize,
    "evaluate": evaluate,
    "compare": compare,
    "mark": mark,
    "headroom": headroom,
}
