"""What a run would do and cost, told before anything is asked of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lpo_agent.core import policy
from lpo_agent.core.beam_options import BEAM_METHODS, beam_options_for
from lpo_agent.core.influence import phrases
from lpo_agent.models.base import Usage
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.task import (
    call_tokens,
    calls_each,
    choosing_items,
    fit,
    load_task,
    panel_of,
    warn_of_few,
)
from lpo_agent.runs.wiring import marker_kind
from lpo_agent.search.methods import plan_for
from lpo_agent.search.methods.beam.counting import most_calls

if TYPE_CHECKING:
    from lpo_agent.runs.run import Kind
    from lpo_agent.runs.task import Task
    from lpo_agent.search.plan import Plan
    from lpo_agent.spec import RunSpec


class PlanEstimate(BaseModel):
    """An estimate for `--dry-run`: calls between ``calls_low`` and ``calls_high``, the rest for the latter.

    ``usd`` and ``seconds`` are None where the price, or the speed, is not known. Branches, steps and
    proposals are 0 for what is no search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    method: str
    branches: int = 0
    steps: int = 0
    proposals: int = 0
    train: int
    dev: int
    test: int
    calls_low: int
    calls_high: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float | None
    notes: tuple[str, ...] = ()


def plan_run(spec: RunSpec, kind: Kind = "optimize") -> PlanEstimate:
    """Return the estimate without asking a model; raises what a run would raise for bad input."""
    task = load_task(spec, kind)
    if kind != "optimize":
        calls = calls_each(task) * len(task.splits.dev) * (2 if kind == "compare" else 1)
        return _estimate(spec, kind, task, calls, calls)
    method = "local-search" if spec.method == "auto" else spec.method
    task, plan = fit(task, plan_for(method, spec, marker_kind(spec, method)), spec.budget)
    task = warn_of_few(task, spec.gain)
    found = _estimate(spec, kind, task, *_calls(spec, method, task, plan))
    return found.model_copy(update={"branches": plan.branches, "steps": plan.steps, "proposals": plan.proposals})


def estimate_calls(spec: RunSpec, task: Task) -> tuple[int, int]:
    """Return the fewest and the most calls of an optimization."""
    method = "local-search" if spec.method == "auto" else spec.method
    return _calls(spec, method, task, plan_for(method, spec, marker_kind(spec, method)))


def _calls(spec: RunSpec, method: str, task: Task, plan: Plan) -> tuple[int, int]:
    splits, each = task.splits, calls_each(task)
    dev, test = len(splits.dev), len(splits.test)
    if method in BEAM_METHODS:
        end = each * (2 * test + plan.finalists * dev)
        return each * (dev + test), end + _host_calls(spec, method, task, plan)
    panel = len(panel_of(task, plan)[0])
    end = choosing_items(task, plan) + 2 * test
    return each * (dev + test + panel), each * (end + search_calls(plan, panel, len(phrases(task.prompt))))


def _host_calls(spec: RunSpec, method: str, task: Task, plan: Plan) -> int:
    numbers, splits = beam_options_for(method, spec.method_options), task.splits
    tags = spec.locality in {"nudge", "enforce"} and marker_kind(spec, method) in {"llm", "auto"}
    return most_calls(
        method,
        numbers,
        plan,
        tagged=tags or spec.locality == "think",
        train=len(splits.train),
        rows=len(splits.dev if numbers.select_on == "dev" else splits.train),
        calls_each=calls_each(task),
    )


def _estimate(spec: RunSpec, kind: Kind, task: Task, low: int, high: int) -> PlanEstimate:
    if spec.budget.calls is not None:
        low, high = min(low, spec.budget.calls), min(high, spec.budget.calls)
    tokens, outputs = call_tokens(task) * high, task.max_tokens * high
    cost = load_prices(spec.prices).cost(spec.model, Usage(tokens - outputs, outputs))
    notes = [*task.notes]
    if kind == "optimize" and spec.method == "auto":
        notes.append("the method is chosen by a probe of the optimizer model at the start; counted here: local-search")
    if cost is None:
        notes.append(f"the price of {spec.model} is not known; give it with --prices")
    return PlanEstimate(
        kind=kind,
        method=spec.method if kind == "optimize" else "",
        train=len(task.splits.train),
        dev=len(task.splits.dev),
        test=len(task.splits.test),
        calls_low=low,
        calls_high=high,
        input_tokens=tokens - outputs,
        output_tokens=outputs,
        usd=cost,
        seconds=_seconds(spec, high, tokens - outputs, outputs),
        notes=tuple(notes),
    )


def _seconds(spec: RunSpec, calls: int, into: int, out: int) -> float | None:
    """Return how long the strictest of the given limits makes it, None without any."""
    amounts = ((spec.rpm, calls), (spec.tpm, into + out), (spec.input_tpm, into), (spec.output_tpm, out))
    times = [60 * amount / limit for limit, amount in amounts if limit is not None]
    return max(times, default=None)


def search_calls(plan: Plan, panel: int, spans: int) -> int:
    """Return the most task and optimizer calls that the search, and explaining its answer, make.

    ``panel``: training items of a race; ``spans``: phrases of the prompt.
    """
    field, done, race = plan.proposals + 1 + (plan.demos > 0), 0, 0
    for count in policy.rungs(plan.first_rung, panel):
        race += (count - done) * field
        field, done = (field + 1) // 2, count
    shown = plan.failures + plan.passes
    measuring = (min(spans, plan.probes) * plan.measures + (2 * plan.marks + 2) * plan.reranks) * shown
    agents = 2 * (3 if plan.reranks else plan.proposals)
    explaining = (3 * plan.explained + 2) * min(plan.explained_on, panel) + panel
    return panel + plan.branches * plan.steps * (race + measuring + agents) + explaining
