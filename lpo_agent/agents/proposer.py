"""The proposer that asks a capable model for new text for the marked spans of a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lpo_agent.agents.parsing import slot_options
from lpo_agent.agents.rendering import show_traces
from lpo_agent.core.messages import Proposal, Proposals, ProposeAsk
from lpo_agent.core.text import Replacement
from lpo_agent.models.base import Call, Turn
from lpo_agent.models.conversation import converse
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.models.base import Model

REMEMBERED = 6
"""How many of the texts that were tried last are shown to the model."""
REJECTED = 24
"""How many of the fillings that were rejected last are shown to the model."""


@dataclass(frozen=True, slots=True)
class ModelProposer:
    """Asks a model to fill the spans as numbered slots, so that it cannot change the rest of the prompt.

    In the LPO paper the model rewrites the whole prompt and is asked to keep the rest.
    """

    model: Model
    temperature: float | None = 0.7
    template: Template = field(
        default_factory=partial(load, "propose", {"slotted", "critique", "failures", "tried", "rejected", "n"})
    )

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return at most ``ask.n`` fillings; raises ReplyError after two invalid replies, and ProviderError."""
        question = self.template.substitute(
            slotted=fenced(slotted(ask.marked), limit=40_000),
            critique=fenced(ask.critique.text),
            failures=show_traces(ask.failures),
            tried="\n".join(fenced(text) for text in ask.tried[-REMEMBERED:]) or "(none yet)",
            rejected=_rejected(ask),
            n=ask.n,
        )
        call = Call((Turn("user", question),), _most_tokens(ask), self.temperature, ask.seed)
        spans = len(ask.marked.spans)
        answer = await converse(self.model, call, lambda reply: slot_options(reply, spans), reasks=1)
        options = tuple(_proposal(option) for option in answer.value[: ask.n])
        return Proposals(proposals=options, malformed=answer.malformed, calls=answer.malformed + 1)


def _most_tokens(ask: ProposeAsk) -> int:
    """Return the maximal number of tokens of the reply; with the reach "all", options may be as long as the prompt."""
    whole = len(ask.marked.prompt.text) // 3 if ask.reach == "all" else 0
    return (150 + whole) * ask.n + 200


def _rejected(ask: ProposeAsk) -> str:
    """Return, as text for the model, the fillings of these slots that did not help before, the latest last."""
    lines = [f"slot {each.span + 1}: {each.text.strip() or '(no words)'}" for each in ask.rejected[-REJECTED:]]
    return fenced("\n".join(lines)) if lines else "(nothing yet)"


def slotted(marked: MarkedPrompt) -> str:
    """Return the prompt with its spans in ``<slot>`` tags, numbered from 1."""
    text, parts, at = marked.prompt.text, [], 0
    for number, span in enumerate(marked.spans, start=1):
        parts += [text[at : span.start], f'<slot number="{number}">{span.of(text)}</slot>']
        at = span.end
    return "".join([*parts, text[at:]])


def _proposal(option: dict[int, str]) -> Proposal:
    return Proposal(replacements=tuple(Replacement(n, text) for n, text in sorted(option.items())))


def llm_proposer(setting: AgentSetting, model: Model) -> ModelProposer:
    """Make the proposer that asks a model."""
    return ModelProposer(model, setting.optimizer_temperature)
