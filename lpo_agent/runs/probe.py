"""Chooses the method for ``--method auto`` with a small test of what the optimizer model can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core.messages import MARK, PROPOSE, Critique, MarkAsk, ProposeAsk
from lpo_agent.core.text import MarkedPrompt, Prompt, rewritten, splice
from lpo_agent.errors import EditRejected, ReplyError, RequestFailed, RequestRejected
from lpo_agent.plugins import AUTO
from lpo_agent.runs.agents import is_embedded, open_agents, setting_of
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.choosing import full
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lpo_agent.bus.base import Bus
    from lpo_agent.runs.context import RunContext

SAMPLE = Prompt(text="Read the note below and say which country it comes from.\n\nNote: {input}")
FAULT = Critique(text="The answers are whole sentences, but only the name of the country is wanted.")
MOST_TAGGED = 0.7
"""The share of the sample's words that may be marked; a model that marks more does not choose."""

EMBEDDED: Final = 250
"""The longest reply of an embedded model in the probe, in tokens; edits of the sample take about 150."""


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The method to use and why."""

    method: str
    why: str


async def choose_method(context: RunContext, wanted: str, why: str = "asked for") -> MethodChoice:
    """Return the ``wanted`` method, or for "auto" the one that fits the optimizer model.

    The agents of method ``lpo`` edit a short sample prompt. A model that writes local edits, or at least a usable new
    prompt, can be a source of edits beside the operators; without any, ``local-search`` is the same search with less
    to wait for. Raises RequestFailed if the model cannot be called.
    """
    if wanted != AUTO:
        return MethodChoice(wanted, why)
    own = context.prepared.own
    if own.marker is not None and (own.proposer is not None or context.prepared.request.kind == "mark"):
        return MethodChoice("lpo", "marker and proposer are the caller's")
    spec, lpo = context.spec, full(METHODS.load("lpo"))
    plan = lpo.plan(spec.model_copy(update={"marker": "llm", "proposer": "llm", "method_options": {}}))
    setting = setting_of(spec, context.task, plan, "lpo")
    reply_tokens = min(setting.reply_tokens, EMBEDDED) if is_embedded(spec) else setting.reply_tokens
    setting = setting.model_copy(update={"optimizer_temperature": 0.0, "reply_tokens": reply_tokens})
    name = spec.optimizer_model or spec.model
    async with open_agents(context, setting, lpo, built_in=True) as bus:
        cannot_mark = await _unable(_marks, bus)
        if cannot_mark is None:
            return MethodChoice("lpo", f"{name} wrote local edits in a probe")
        cannot_write = await _unable(_writes, bus)
    if cannot_write is None:
        return MethodChoice("lpo", f"{name} wrote a new prompt in a probe, though no local edits ({cannot_mark})")
    return MethodChoice("local-search", f"{name} wrote no usable edits in a probe ({cannot_write})")


async def _unable(task: Callable[[Bus], Awaitable[str | None]], bus: Bus) -> str | None:
    """Return why the model cannot do a task with the sample, None if it can."""
    try:
        return await task(bus)
    except EditRejected as exc:
        return str(exc)
    except RequestFailed as exc:
        if exc.failure.kind not in {ReplyError.__name__, RequestRejected.__name__}:
            raise
        return exc.failure.detail


async def _marks(bus: Bus) -> str | None:
    marks = await bus.request(MARK, MarkAsk(prompt=SAMPLE, critique=FAULT), timeout=TIMEOUT)
    marked = marks.on(SAMPLE)
    if marks.written:
        return None
    if marked.tagged_fraction > MOST_TAGGED:
        return "it tags nearly everything"
    proposals = await bus.request(PROPOSE, ProposeAsk(marked=marked, critique=FAULT, n=1), timeout=TIMEOUT)
    splice(marked, proposals.proposals[0].replacements)
    return None


async def _writes(bus: Bus) -> str | None:
    marked = MarkedPrompt(prompt=SAMPLE, spans=tuple(SAMPLE.free_spans()))
    ask = ProposeAsk(marked=marked, critique=FAULT, locality="off", n=1)
    proposals = await bus.request(PROPOSE, ask, timeout=TIMEOUT)
    text = proposals.proposals[0].text or ""
    rewritten(SAMPLE, text)
    return "its new prompt is the old one" if text.strip() == SAMPLE.text.strip() else None
