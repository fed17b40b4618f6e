"""What was learned of the places of a prompt: the draw of places to edit next, and statistics for the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import random

    from lpo_agent.core.messages import Credit
    from lpo_agent.core.text import Span

INFLUENCE: Final = 2.0
"""The weight of a measured influence relative to credit, when places are ranked."""


def drawn(rng: random.Random, credit: Credit | None, influence: float | None) -> float:
    """Return the priority of a span for the next edit: a draw from the beta distribution of its credit.

    This is Thompson sampling over places (Thompson 1933; fractional rewards: Agrawal and Goyal 2012). The draw is
    lowered by the measured influence of the span's words, so that words which help are kept.
    """
    paid, barren = (0.0, 0.0) if credit is None else (credit.paid, credit.barren)
    return rng.betavariate(1 + paid, 1 + barren) - INFLUENCE * (influence or 0.0)


class PlaceRecord(NamedTuple):
    """Statistics of one place of the seed prompt: edits tried, edits that seem to pay, and their mean worth."""

    place: Span
    tried: int
    paid: int
    gain: float
