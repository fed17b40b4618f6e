"""The proposer that asks a capable model to fill the marked spans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.agents.asking import ask as ask_model
from lpo_agent.agents.asking import show_traces
from lpo_agent.agents.parsing import slot_options
from lpo_agent.core.messages import Proposal, Proposals, ProposeAsk
from lpo_agent.core.text import Replacement
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.models.base import Model

REMEMBERED = 6


def _template() -> Template:
    return load("propose", {"slotted", "critique", "failures", "tried", "n"})


@dataclass(frozen=True, slots=True)
class Proposer:
    """Fills the spans as numbered slots, so the rest of the prompt is never in the model's hands.

    (In the paper the model rewrites the whole prompt and is trusted to leave the rest alone.)
    """

    model: Model
    temperature: float | None = 0.7
    template: Template = field(default_factory=_template)

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return at most ``ask.n`` fillings; raises ReplyError after one re-ask, and ProviderError."""
        question = self.template.substitute(
            slotted=fenced(slotted(ask.marked), limit=40_000),
            critique=fenced(ask.critique.text),
            failures=show_traces(ask.failures),
            tried="\n".join(fenced(text) for text in ask.tried[-REMEMBERED:]) or "(none yet)",
            n=ask.n,
        )
        options = await ask_model(
            self.model,
            question,
            lambda reply: slot_options(reply, len(ask.marked.spans)),
            max_tokens=150 * ask.n + 200,
            temperature=self.temperature,
            replicate=ask.seed,
        )
        return Proposals(proposals=tuple(_proposal(option) for option in options[: ask.n]))


def slotted(marked: MarkedPrompt) -> str:
    """Return the prompt with its spans as numbered slots, from 1."""
    text, parts, at = marked.prompt.text, [], 0
    for number, span in enumerate(marked.spans, start=1):
        parts += [text[at : span.start], f'<slot number="{number}">{span.of(text)}</slot>']
        at = span.end
    return "".join([*parts, text[at:]])


def _proposal(option: dict[int, str]) -> Proposal:
    return Proposal(replacements=tuple(Replacement(n, text) for n, text in sorted(option.items())))
