"""Measures the influence of phrases of a prompt, by scoring the prompt without each of them on a few examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core import influence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Effect, Row
    from lpo_agent.core.text import Prompt, Span
    from lpo_agent.search.scoring import Scoring


class MeasuredEffects(NamedTuple):
    """Measured influences of spans, and the pairs of prompt text and row id that were scored to measure them."""

    effects: tuple[Effect, ...] = ()
    pairs: frozenset[tuple[str, str]] = frozenset()


async def measure_effects(
    scoring: Scoring, prompt: Prompt, spans: Sequence[Span], rows: Sequence[Row]
) -> MeasuredEffects:
    """Return the influence of the spans on ``rows``; spans that cannot be removed are left out."""
    parts = [(span, influence.without(prompt, span)) for span in spans if span.start < span.end]
    ablated = [(span, without.text) for span, without in parts if without is not None]
    texts = [prompt.text, *(text for _, text in ablated)]
    await scoring.score_all(texts, rows)
    whole, ids = scoring.known(prompt.text, rows), [row.id for row in rows]
    effects = (influence.effect(span, whole, scoring.known(text, rows), ids) for span, text in ablated)
    pairs = frozenset((text, row) for text in texts for row in ids)
    return MeasuredEffects(tuple(effect for effect in effects if effect is not None), pairs)
