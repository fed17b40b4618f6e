"""Learns at which places of a prompt edits pay: a bandit over places, with Thompson sampling.

A place is a span in the offsets of the seed prompt, so what is learned about it holds for every prompt
that descends from the seed. Each raced edit gives its place a reward from 0 to 1: the probability that the
edit is worthwhile, given its measured gain. Places to edit next are drawn from beta distributions over
these rewards (Thompson 1933; fractional rewards: Agrawal and Goyal 2012). So places where edits paid are
edited more often, places where they did not are edited less often, and untried places can still be drawn.
"""

from __future__ import annotations

import math
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.edits import edits_between, origin
from lpo_agent.core.influence import insertion_points, phrases
from lpo_agent.core.messages import Credit, Rejected

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span

SPREAD: Final = 0.5
"""Assumed standard deviation of the score difference on one item: that of 0/1 scores which differ on 25 % of items."""
WORTHWHILE: Final = 0.05
"""The smallest gain that counts as worthwhile, so that edits without any effect lower the credit of their place."""
INFLUENCE: Final = 2.0
"""The weight of a measured influence relative to credit, when places are ranked."""


class Try(NamedTuple):
    """An edit that was raced: ``text`` was put at ``place``, a span of the seed prompt.

    ``gain``: mean score minus the parent's mean score, over ``items`` items.
    """

    place: Span
    text: str
    gain: float
    items: int

    @property
    def reward(self) -> float:
        """The probability, 0 to 1, that the edit is worthwhile, with the gain taken one standard error too low."""
        return NormalDist().cdf((self.gain - WORTHWHILE) * math.sqrt(self.items) / SPREAD - 1)


def tries_of(
    seed: Prompt, marked: MarkedPrompt, filled: Iterable[Replacement], *, gain: float, items: int
) -> list[Try]:
    """Return one try for each text that was put into a span of a marked parent and changed it.

    ``gain`` and ``items`` are those of the candidate that holds all of these texts.
    """
    own = edits_between(seed, marked.prompt.text)
    new = [(marked.spans[each.span], each.text) for each in filled]
    changed = [(span, text) for span, text in new if text != span.of(marked.prompt.text)]
    return [Try(origin(own, span), text, gain, items) for span, text in changed]


def same_place(one: Span, other: Span) -> bool:
    """Return whether two places are equal or overlap."""
    return one == other or (one.start < other.end and other.start < one.end)


def learned(seed: Prompt, prompt: Prompt, tries: Sequence[Try], spans: Iterable[Span] | None = None) -> list[Credit]:
    """Return the credit of each span of ``prompt`` whose place was edited before.

    ``spans`` default to all phrases and insertion points of the prompt.
    """
    own = edits_between(seed, prompt.text)
    found = []
    for span in dict.fromkeys([*phrases(prompt), *insertion_points(prompt)] if spans is None else spans):
        place = origin(own, span)
        rewards = [each.reward for each in tries if same_place(each.place, place)]
        if rewards:
            paid = math.fsum(rewards)
            found.append(Credit(span=span, paid=paid, barren=len(rewards) - paid))
    return found


def rejected(seed: Prompt, marked: MarkedPrompt, tries: Sequence[Try]) -> tuple[Rejected, ...]:
    """Return the texts that were put at the places of the marked spans before and gained nothing, each once."""
    own = edits_between(seed, marked.prompt.text)
    found = {
        Rejected(span=number, text=each.text): None
        for number, span in enumerate(marked.spans)
        for each in tries
        if each.gain <= 0 and each.place == origin(own, span)
    }
    return tuple(found)


def drawn(rng: random.Random, credit: Credit | None, influence: float | None) -> float:
    """Return the priority of a span for the next edit: a draw from the beta distribution of its credit.

    It is lowered by the measured influence of the span's words, so that words which help are kept.
    """
    paid, barren = (0.0, 0.0) if credit is None else (credit.paid, credit.barren)
    return rng.betavariate(1 + paid, 1 + barren) - INFLUENCE * (influence or 0.0)


class PlaceRecord(NamedTuple):
    """Statistics of one place of the seed prompt: edits tried, edits that gained, and the mean gain."""

    place: Span
    tried: int
    paid: int
    gain: float


def records(tries: Iterable[Try]) -> list[PlaceRecord]:
    """Return the statistics of all places that were edited, sorted by their position in the prompt."""
    gains: dict[Span, list[float]] = {}
    for each in tries:
        gains.setdefault(each.place, []).append(each.gain)
    return [PlaceRecord(place, len(g), sum(x > 0 for x in g), fmean(g)) for place, g in sorted(gains.items())]
