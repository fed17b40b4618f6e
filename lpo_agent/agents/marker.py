"""The token marker: which words may change next? One asks a model, one goes by measurement."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.agents.asking import ask as ask_model
from lpo_agent.agents.parsing import tagged_spans
from lpo_agent.core.influence import describe, insertion_points, phrases
from lpo_agent.core.messages import Effect, Mark, MarkAsk, Marks
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.core.text import Prompt, Span
    from lpo_agent.models.base import Model


def _template() -> Template:
    return load("mark", {"prompt", "critique", "budget", "protected"})


@dataclass(frozen=True, slots=True)
class TokenMarker:
    """Lets a capable model put ``<edit>`` tags into the prompt, as the paper does (section 2.2).

    The reply counts only if it is the prompt itself once its tags are gone.
    """

    model: Model
    temperature: float | None = 0.5
    template: Template = field(default_factory=_template)

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return the model's spans; raises ReplyError after one re-ask, and ProviderError."""
        question = self.template.substitute(
            prompt=fenced(ask.prompt.text, limit=40_000),
            critique=fenced(ask.critique.text),
            budget=ask.budget,
            protected=_protected(ask.prompt),
        )
        spans = await ask_model(
            self.model,
            question,
            lambda reply: tagged_spans(reply, ask.prompt),
            max_tokens=len(ask.prompt.text) // 2 + 64,
            temperature=self.temperature,
            replicate=ask.seed,
        )
        reason = "tagged by the model"
        return Marks(marks=tuple(Mark(span=span, reason=reason) for span in spans[: ask.budget]))


def _protected(prompt: Prompt) -> str:
    texts = [span.of(prompt.text) for span in prompt.frozen_spans()]
    return ", ".join(dict.fromkeys(texts)) if texts else "(nothing)"


@dataclass(frozen=True, slots=True)
class InfluenceMarker:
    """Chooses spans by their measured influence; needs no model that can follow instructions.

    Half of the budget goes to insertion points, half to measured phrases, the most harmful
    first: leaving out what hurts, or saying it otherwise, is what can help. Phrases that help
    clearly are left alone unless nothing else is there.
    """

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return seeded choices, so that concurrent branches look at different places."""
        rng = random.Random(ask.seed)
        ranked = sorted(ask.effects, key=lambda effect: (effect.influence + rng.gauss(0, 0.1), effect.span))
        points = insertion_points(ask.prompt)
        places = rng.sample(points, min(len(points), max(1, (ask.budget + 1) // 2)))
        phrases = ranked[: max(0, ask.budget - len(places))]
        marks = [_place(span) for span in places] + [_phrase(effect) for effect in phrases]
        return Marks(marks=tuple(sorted(marks, key=lambda mark: mark.span)))


@dataclass(frozen=True, slots=True)
class RandomMarker:
    """Marks random phrases and places: the control for "does it matter where one edits?"."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return ``ask.budget`` seeded spans."""
        spans = [*phrases(ask.prompt), *insertion_points(ask.prompt)]
        chosen = random.Random(ask.seed).sample(spans, min(ask.budget, len(spans)))
        return Marks(marks=tuple(Mark(span=span, reason="chosen at random") for span in sorted(chosen)))


@dataclass(frozen=True, slots=True)
class ManualMarker:
    """Marks what the prompt's author marked: all of its ``<edit>`` regions, whole."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return the free regions."""
        spans = ask.prompt.free_spans()
        return Marks(marks=tuple(Mark(span=span, reason="marked by the author") for span in spans))


def _place(span: Span) -> Mark:
    return Mark(span=span, reason="text may be added here")


def _phrase(effect: Effect) -> Mark:
    return Mark(span=effect.span, reason=describe(effect), influence=effect.influence)
