"""Estimates the number of calls, the cost and the time of a run, without calling a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lpo_agent.models.base import Usage
from lpo_agent.models.prices import load_prices
from lpo_agent.plugins import AUTO
from lpo_agent.runs.headroom import calls_of
from lpo_agent.runs.request import OwnParts, method_of
from lpo_agent.runs.task import SEARCHES, load_task, probe_calls, settled
from lpo_agent.search.task import call_tokens, calls_each, fit, shares, warn_of_few

if TYPE_CHECKING:
    from lpo_agent.runs.request import Kind
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


class PlanEstimate(BaseModel):
    """The estimate of `--dry-run`: between ``calls_low`` and ``calls_high`` calls; tokens and cost are for the latter.

    ``usd`` and ``seconds`` are None if the price, or the speed, is not known. Branches, steps and proposals are 0 for
    runs that are not a search. ``search_calls``: the calls of the search, for methods that are fitted to them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    method: str
    branches: int = 0
    steps: int = 0
    proposals: int = 0
    search_calls: int | None = None
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


def plan_run(spec: RunSpec, kind: Kind = "optimize", own: OwnParts | None = None) -> PlanEstimate:
    """Return the estimate without calling a model; raises the same errors as a run for wrong input."""
    own = own or OwnParts()
    task = load_task(spec, kind, own=own)
    if kind not in SEARCHES:
        calls = calls_each(task) * len(task.splits.dev) * (2 if kind == "compare" else 1)
        return _estimate(spec, kind, task, calls, calls)
    if kind == "headroom":
        calls = calls_of(spec, task)
        return _estimate(spec, kind, task, calls, calls)
    method = method_of(own, settled(spec.method))
    task, plan = fit(task, method.plan(spec), spec.budget, probe=probe_calls(spec, own))
    task = warn_of_few(task, spec.gain)
    divided = plan.fitted and kind == "optimize"
    if divided:
        task = replace(task, notes=(shares(task, plan), *task.notes))
    found = _estimate(spec, kind, task, *method.calls(spec, task, plan))
    size = {"branches": plan.branches, "steps": plan.steps, "proposals": plan.proposals}
    return found.model_copy(update=size | {"search_calls": plan.search if divided and spec.steps is None else None})


def estimate_calls(spec: RunSpec, task: Task, search_calls: int | None = None) -> tuple[int, int]:
    """Return the lowest and the highest number of calls of an optimization; ``search_calls`` as in :func:`fit`."""
    method = method_of(OwnParts(), settled(spec.method))
    task, plan = fit(task, method.plan(spec), spec.budget, search_calls=search_calls, probe=probe_calls(spec))
    return method.calls(spec, task, plan)


def _estimate(spec: RunSpec, kind: Kind, task: Task, low: int, high: int) -> PlanEstimate:
    if spec.budget.calls is not None:
        low, high = min(low, spec.budget.calls), min(high, spec.budget.calls)
    tokens, outputs = call_tokens(task) * high, task.max_tokens * high
    cost = load_prices(spec.prices).cost(spec.model, Usage(tokens - outputs, outputs))
    notes = [*task.notes]
    if kind in SEARCHES and kind != "headroom" and spec.method == AUTO:
        notes.append("the run first tests the optimizer model to choose the method; this estimate is for local-search")
    if cost is None:
        notes.append(f"the price of {spec.model} is not known; give it with --prices")
    return PlanEstimate(
        kind=kind,
        method=spec.method if kind in SEARCHES else "",
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
    """Return the time that the strictest of the given rate limits allows, None without any."""
    amounts = ((spec.rpm, calls), (spec.tpm, into + out), (spec.input_tpm, into), (spec.output_tpm, out))
    times = [60 * amount / limit for limit, amount in amounts if limit is not None]
    return max(times, default=None)
