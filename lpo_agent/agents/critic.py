"""The critic: why does the prompt fail? One by asking a model, one by counting."""

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
"""Characters of an input or an answer that the critic reads: long enough for whole traces of reasoning."""


@dataclass(frozen=True, slots=True)
class Critic:
    """Explains failures by reading them with a capable model: ProTeGi's textual gradient
    (Pryzant et al. 2023, section 2.2)."""  # noqa: D205, D209 - one sentence

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
    """Describes failures by counting them, for models too weak to explain anything.

    ``labels``: the possible answers where they are few, else empty.
    """

    labels: tuple[str, ...] = ()

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return what the failures have in common: answers in no known form, answers never given."""
        share = offtopic(ask.failures, self.labels)
        wanted = Counter(trace.row.target for trace in ask.failures)
        text = f"{len(ask.failures)} failures; {share:.0%} name no possible answer"
        if self.labels and wanted:
            text += f"; most missed: {', '.join(label for label, _ in wanted.most_common(3))}"
        return Critique(text=text, offtopic=share)


def offtopic(failures: tuple[Trace, ...], labels: tuple[str, ...]) -> float:
    """Return the share of failed answers that name none of the labels (0 without labels)."""
    if not failures or not labels:
        return 0.0
    folded = [label.casefold() for label in labels]
    missed = sum(not any(label in trace.result.output.casefold() for label in folded) for trace in failures)
    return missed / len(failures)
