"""The search methods, and the plan of each: its numbers of branches, steps, proposals and spans.

``lpo`` follows the LPO paper: a critic explains failures, a token marker tags spans, and a proposer fills
them; text outside of tags cannot change. ``local-search`` is the same search with agents that need no model
which follows instructions: spans are chosen by measured influence and filled by edit operators. ``ape``,
``apo`` and ``pe2`` are beam methods; their options are in :mod:`lpo_agent.core.beam_options`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lpo_agent.core.beam_options import BEAM_METHODS, PROPOSALS, STEPS, beam_options_for
from lpo_agent.search.plan import Plan

if TYPE_CHECKING:
    from lpo_agent.spec import RunSpec

LOCAL_SEARCH = Plan(branches=4, steps=3, proposals=4, marks=4, measures=True)
LPO = Plan(branches=4, steps=4, proposals=4, marks=4, measures=False)


def plan_for(method: str, spec: RunSpec, marker: str = "llm") -> Plan:
    """Return the method's plan with the numbers that the spec sets; ``marker``: the kind of marker that is used."""
    if method in BEAM_METHODS:
        return _beam_plan(method, spec)
    plan = LPO if method == "lpo" else LOCAL_SEARCH
    given = {name: getattr(spec, name) for name in ("branches", "steps", "proposals")}
    if spec.race_items is not None:
        first = min(plan.first_rung, max(1, spec.race_items // 4))
        plan = replace(plan, look=first, first_rung=first, last_rung=spec.race_items)
    given["marks"] = int(spec.host["tags"]) or None if "tags" in spec.host else None
    chosen = {name: value for name, value in given.items() if value is not None}
    measures, reranks = marker == "influence", marker == "auto"
    return replace(plan, **chosen, measures=measures, reranks=reranks, demos=spec.demos, seed=spec.seed)


def _beam_plan(method: str, spec: RunSpec) -> Plan:
    options = beam_options_for(method, spec.host)
    scored = options.selection == "all" and options.select_on == "dev"
    return Plan(
        branches=1,
        steps=spec.steps or STEPS[method],
        proposals=spec.proposals or PROPOSALS,
        beam=options.beam,
        finalists=0 if scored else options.beam,
        confirms=False,
        measures=False,
        seed=spec.seed,
    )
