"""The token markers, which choose the spans of a prompt to edit: by a model, by measured influence, or at random."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.agents.briefing import briefing
from lpo_agent.agents.quoting import QuotingMarker
from lpo_agent.core.influence import describe, insertion_points, phrases
from lpo_agent.core.messages import Mark, MarkAsk, Marks
from lpo_agent.core.places import drawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.core.messages import Effect
    from lpo_agent.core.text import Span
    from lpo_agent.models.base import Model


@dataclass(frozen=True, slots=True)
class InfluenceMarker:
    """Chooses spans by their measured influence and by the credit of earlier edits there; uses no model.

    Insertion points and phrases are ranked together by their priority, which is partly random (see
    :func:`lpo_agent.core.places.drawn`); at least one of each kind is marked. If the influence of any phrase
    was measured, only measured phrases are ranked.
    """

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return spans chosen with the request's seed, so that concurrent branches edit different places."""
        rng, known = random.Random(ask.seed), {credit.span: credit for credit in ask.credits}
        effects = {effect.span: effect for effect in ask.effects}
        points = [_place(span) for span in insertion_points(ask.prompt)]
        worded = [_phrase(span, effects.get(span)) for span in (effects or phrases(ask.prompt))]
        worth = {mark.span: drawn(rng, known.get(mark.span), mark.influence) for mark in (*points, *worded)}

        def ranked(marks: Sequence[Mark]) -> list[Mark]:
            return sorted(marks, key=lambda mark: (-worth[mark.span], mark.span))

        if ask.reach == "all" or not ask.budget:
            return Marks(marks=tuple(sorted((*points, *worded), key=lambda mark: mark.span)))
        sure = [*ranked(points)[:1], *ranked(worded)[:1]][: ask.budget]
        rest = [mark for mark in ranked([*points, *worded]) if mark not in sure]
        return Marks(marks=tuple(sorted([*sure, *rest][: ask.budget], key=lambda mark: mark.span)))


@dataclass(frozen=True, slots=True)
class RandomMarker:
    """Marks random phrases and insertion points: the control that shows whether the choice of spans matters."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return at most ``ask.budget`` spans, drawn with the request's seed."""
        spans = [*phrases(ask.prompt), *insertion_points(ask.prompt)]
        chosen = random.Random(ask.seed).sample(spans, min(ask.budget, len(spans)))
        return Marks(marks=tuple(Mark(span=span, reason="chosen at random") for span in sorted(chosen)))


@dataclass(frozen=True, slots=True)
class ManualMarker:
    """Marks the regions that the prompt's author marked with ``<edit>`` tags."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return all regions that may change."""
        spans = ask.prompt.free_spans()
        return Marks(marks=tuple(Mark(span=span, reason="marked by the author") for span in spans))


def _place(span: Span) -> Mark:
    return Mark(span=span, reason="text may be added here")


def _phrase(span: Span, effect: Effect | None) -> Mark:
    if effect is None:
        return Mark(span=span, reason="not measured")
    return Mark(span=span, reason=describe(effect), influence=effect.influence)


def quoting_marker(setting: AgentSetting, model: Model) -> QuotingMarker:
    """Make the marker that asks a model."""
    return QuotingMarker(model, setting.optimizer_temperature, briefing(setting), setting.reply_tokens)


def influence_marker(_setting: AgentSetting, _model: Model) -> InfluenceMarker:
    """Make the marker that uses measured influence."""
    return InfluenceMarker()


def random_marker(_setting: AgentSetting, _model: Model) -> RandomMarker:
    """Make the marker that draws."""
    return RandomMarker()


def manual_marker(_setting: AgentSetting, _model: Model) -> ManualMarker:
    """Make the marker that keeps to the author's tags."""
    return ManualMarker()
