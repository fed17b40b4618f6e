"""What a run would do and cost, told before anything is asked of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lpo_agent.core import policy
from lpo_agent.core.influence import phrases
from lpo_agent.models.base import Usage
from lpo_agent.models.prices import load_prices
from lpo_agent.runtime.task import call_tokens, fit, load_task
from lpo_agent.search.methods import plan_for

if TYPE_CHECKING:
    from lpo_agent.config import RunSpec
    from lpo_agent.search.plan import Plan


class PlanEstimate(BaseModel):
    """An estimate for `--dry-run`: calls between ``calls_low`` and ``calls_high``, the rest for the latter.

    ``usd`` and ``seconds`` are None where the price, or the speed, is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    branches: int
    steps: int
    proposals: int
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


def plan_run(spec: RunSpec) -> PlanEstimate:
    """Return the estimate without asking a model; raises what a run would raise for bad input."""
    task = load_task(spec)
    method = "local-search" if spec.method == "auto" else spec.method
    task, plan = fit(task, plan_for(method, spec), spec.budget)
    splits = task.splits
    end = len(splits.dev) * (1 + plan.finalists) + 2 * len(splits.test)
    search = search_calls(plan, len(splits.train), len(phrases(task.prompt)))
    high = end + search if spec.budget.calls is None else min(end + search, spec.budget.calls)
    tokens, outputs = call_tokens(task) * high, task.max_tokens * high
    cost = load_prices(spec.prices).cost(spec.model, Usage(tokens - outputs, outputs))
    notes = [*task.notes]
    if spec.method == "auto":
        notes.append("the method is chosen by a probe of the optimizer model at the start; counted here: local-search")
    if cost is None:
        notes.append(f"the price of {spec.model} is not known; give it with --prices")
    return PlanEstimate(
        method=spec.method,
        branches=plan.branches,
        steps=plan.steps,
        proposals=plan.proposals,
        train=len(splits.train),
        dev=len(splits.dev),
        test=len(splits.test),
        calls_low=min(high, len(splits.dev) + len(splits.test) + plan.last_rung),
        calls_high=high,
        input_tokens=tokens - outputs,
        output_tokens=outputs,
        usd=cost,
        seconds=None if spec.rpm is None else 60 * high / spec.rpm,
        notes=tuple(notes),
    )


def search_calls(plan: Plan, rows: int, spans: int) -> int:
    """Return the most task and optimizer calls that the search phase makes."""
    field, done, race = plan.proposals, 0, 0
    for count in policy.rungs(plan.first_rung, min(plan.last_rung, rows)):
        race += (count - done) * field
        field, done = (field + 1) // 2, count
    measuring = min(spans, plan.probes) * (plan.failures + plan.passes) if plan.measures else 0
    agents = plan.proposals if plan.measures else 3
    return plan.branches * plan.steps * (race + done + measuring + agents)
