"""The search methods: what each measures, how much it proposes, and whom it asks.

``lpo`` follows the paper: a critic reads failures, a token marker tags spans, a proposer fills
them; the tags are enforced. ``local-search`` needs no model that follows instructions: spans are
chosen by measured influence and filled by edit operators.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lpo_agent.search.plan import Plan

if TYPE_CHECKING:
    from lpo_agent.config import RunSpec

LOCAL_SEARCH = Plan(branches=4, steps=3, proposals=4, marks=4, measures=True)
LPO = Plan(branches=4, steps=3, proposals=4, marks=4, measures=False)


def plan_for(method: str, spec: RunSpec) -> Plan:
    """Return the method's plan with the spec's own numbers in it."""
    plan = LPO if method == "lpo" else LOCAL_SEARCH
    given = {name: getattr(spec, name) for name in ("branches", "steps", "proposals")}
    if spec.race_items is not None:
        first = min(plan.first_rung, max(1, spec.race_items // 4))
        plan = replace(plan, first_rung=first, last_rung=spec.race_items)
    measures = plan.measures if spec.marker == "auto" else spec.marker == "influence"
    return replace(plan, **{k: v for k, v in given.items() if v is not None}, measures=measures, seed=spec.seed)
