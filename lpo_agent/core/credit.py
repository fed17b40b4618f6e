"""What edits at each place of the prompt were worth so far: a bandit over places.

Places stand in the seed prompt's offsets, so that what was learned of one holds in all of its
descendants. Each race gives its candidate's places a reward, the chance that the edit pays by what was
measured; places are then drawn by Thompson sampling from beta distributions over these (Thompson 1933;
fractional rewards: Agrawal and Goyal 2012). Where edits paid, more follow; barren places rest; those
never tried stay in the draw.
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
"""Standard deviation of the difference that one item makes: that of 0/1 scores which differ on a quarter of items."""
WORTHWHILE: Final = 0.05
"""The gain from which on an edit pays: so that edits which change nothing let their place rest."""
INFLUENCE: Final = 2.0
"""What a point of measured influence weighs against a point of credit."""


class Try(NamedTuple):
    """An edit that was raced: at ``place`` of the seed prompt, ``text`` was put in.

    ``gain``: mean score minus its parent's, over ``items`` items.
    """

    place: Span
    text: str
    gain: float
    items: int

    @property
    def reward(self) -> float:
        """The chance that the edit is worthwhile, from 0 to 1, if its gain is one standard error less than measured."""
        return NormalDist().cdf((self.gain - WORTHWHILE) * math.sqrt(self.items) / SPREAD - 1)


def tries_of(
    seed: Prompt, marked: MarkedPrompt, filled: Iterable[Replacement], *, gain: float, items: int
) -> list[Try]:
    """Return what a race told about the places where texts were put into a marked parent."""
    own = edits_between(seed, marked.prompt.text)
    new = [(marked.spans[each.span], each.text) for each in filled]
    changed = [(span, text) for span, text in new if text != span.of(marked.prompt.text)]
    return [Try(origin(own, span), text, gain, items) for span, text in changed]


def same_place(one: Span, other: Span) -> bool:
    """Tell whether two places are one, or share text."""
    return one == other or (one.start < other.end and other.start < one.end)


def learned(seed: Prompt, prompt: Prompt, tries: Sequence[Try], spans: Iterable[Span] | None = None) -> list[Credit]:
    """Return the credit of spans of ``prompt`` (default: all phrases and insertion points) that were tried."""
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
    """Return the texts that did not pay where the spans are now, each once."""
    own = edits_between(seed, marked.prompt.text)
    found = {
        Rejected(span=number, text=each.text): None
        for number, span in enumerate(marked.spans)
        for each in tries
        if each.gain <= 0 and each.place == origin(own, span)
    }
    return tuple(found)


def drawn(rng: random.Random, credit: Credit | None, influence: float | None) -> float:
    """Return how much a span deserves the next edit: a draw of its credit, less for words that help."""
    paid, barren = (0.0, 0.0) if credit is None else (credit.paid, credit.barren)
    return rng.betavariate(1 + paid, 1 + barren) - INFLUENCE * (influence or 0.0)


class Record(NamedTuple):
    """A place of the seed prompt: how often it was edited, how often that scored more, and its mean gain."""

    place: Span
    tried: int
    paid: int
    gain: float


def records(tries: Iterable[Try]) -> list[Record]:
    """Return the places that were edited, in the order of the prompt."""
    gains: dict[Span, list[float]] = {}
    for each in tries:
        gains.setdefault(each.place, []).append(each.gain)
    return [Record(place, len(g), sum(x > 0 for x in g), fmean(g)) for place, g in sorted(gains.items())]
