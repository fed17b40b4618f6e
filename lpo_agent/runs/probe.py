"""Chooses the method for ``--method auto`` with a small test of what the optimizer model can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core.messages import MARK, PROPOSE, Critique, MarkAsk, ProposeAsk
from lpo_agent.core.text import Prompt, splice
from lpo_agent.errors import EditRejected, ReplyError, RequestFailed, RequestRejected
from lpo_agent.plugins import AUTO
from lpo_agent.runs.agents import open_agents, setting_of
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.choosing import full
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from lpo_agent.bus.base import Bus
    from lpo_agent.runs.context import RunContext

SAMPLE = Prompt(text="Read the note below and say which country it comes from.\n\nNote: {input}")
FAULT = Critique(text="The answers are whole sentences, but only the name of the country is wanted.")
MOST_TAGGED = 0.7
"""The share of the sample's words that may be marked; a model that marks more does not choose."""


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The method to use and why."""

    method: str
    why: str


async def choose_method(context: RunContext, wanted: str, why: str = "asked for") -> MethodChoice:
    """Return the ``wanted`` method, or for "auto" the one that fits the optimizer model.

    The agents of method ``lpo`` tag and then edit a short sample prompt. Both replies must be usable, and the tags must
    not cover nearly the whole prompt. Raises RequestFailed if the model cannot be called.
    """
    if wanted != AUTO:
        return MethodChoice(wanted, why)
    own = context.prepared.own
    if own.marker is not None and (own.proposer is not None or context.prepared.request.kind == "mark"):
        return MethodChoice("lpo", "marker and proposer are the caller's")
    spec, lpo = context.spec, full(METHODS.load("lpo"))
    plan = lpo.plan(spec.model_copy(update={"marker": "llm", "proposer": "llm", "method_options": {}}))
    setting = setting_of(spec, context.task, plan, "lpo").model_copy(update={"optimizer_temperature": 0.0})
    name = spec.optimizer_model or spec.model
    async with open_agents(context, setting, lpo, built_in=True) as bus:
        problem = await _problem(bus)
    if problem is None:
        return MethodChoice("lpo", f"{name} marked and filled spans in a probe")
    return MethodChoice("local-search", f"{name} cannot mark and fill spans in a probe ({problem})")


async def _problem(bus: Bus) -> str | None:
    """Return why the sample could not be marked and edited, None if it could."""
    try:
        marks = await bus.request(MARK, MarkAsk(prompt=SAMPLE, critique=FAULT), timeout=TIMEOUT)
        marked = marks.on(SAMPLE)
        if marked.tagged_fraction > MOST_TAGGED:
            return "it tags nearly everything"
        proposals = await bus.request(PROPOSE, ProposeAsk(marked=marked, critique=FAULT, n=1), timeout=TIMEOUT)
        splice(marked, proposals.proposals[0].replacements)
    except EditRejected as exc:
        return str(exc)
    except RequestFailed as exc:
        if exc.failure.kind not in {ReplyError.__name__, RequestRejected.__name__}:
            raise
        return exc.failure.detail
    return None
