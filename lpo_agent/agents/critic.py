"""The critics, which explain why a prompt fails on examples: one asks a model, one counts failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lpo_agent.agents.rendering import show_traces
from lpo_agent.core.messages import Critique, CritiqueAsk, Trace
from lpo_agent.models.base import Call, Model, Turn
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from string import Template

MAX_TOKENS = 400
WHOLE = 6_000
"""Longest input or answer, in characters, that is shown to the critic: enough for a whole chain of reasoning."""


@dataclass(frozen=True, slots=True)
class Critic:
    """Asks a capable model to explain the failures: the textual gradient of ProTeGi.

    Pryzant et al. 2023, section 2.2.
    """

    model: Model
    temperature: float | None = 0.7
    template: Template = field(default_factory=partial(load, "critique", {"prompt", "failures", "passes"}))

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return the model's explanation; raises ProviderError."""
        question = self.template.substitute(
            prompt=fenced(ask.prompt.text, limit=40_000),
            failures=show_traces(ask.failures, limit=WHOLE),
            passes=show_traces(ask.passes, limit=WHOLE),
        )
        call = Call((Turn("user", question),), MAX_TOKENS, self.temperature, ask.replicate)
        reply = await self.model.complete(call)
        return Critique(text=reply.text.strip(), offtopic=offtopic(ask.failures, ()), calls=1)


@dataclass(frozen=True, slots=True)
class CountingCritic:
    """Describes failures by counts, for models that are too weak to explain them.

    ``labels``: the possible answers, empty if they are not few.
    """

    labels: tuple[str, ...] = ()

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return counts: answers that name none of the labels, and the labels that are missed most often."""
        share = offtopic(ask.failures, self.labels)
        wanted = Counter(trace.row.target for trace in ask.failures)
        text = f"{len(ask.failures)} failures; {share:.0%} name no possible answer"
        if self.labels and wanted:
            text += f"; most missed: {', '.join(label for label, _ in wanted.most_common(3))}"
        return Critique(text=text, offtopic=share)


def offtopic(failures: tuple[Trace, ...], labels: tuple[str, ...]) -> float:
    """Return the share of failed answers that name none of the labels, 0 to 1 (0 without labels)."""
    if not failures or not labels:
        return 0.0
    folded = [label.casefold() for label in labels]
    missed = sum(not any(label in trace.result.output.casefold() for label in folded) for trace in failures)
    return missed / len(failures)
