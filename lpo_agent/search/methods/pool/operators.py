"""Edits that need no model: deletions and swaps of phrases, general instructions, and demonstrations from the data.

The operators on phrases are those of GrIPS (Prasad et al. 2022, arXiv 2203.07281); what is added is made from the
task's data. Edits come in the order of their promise, so that a small pool begins with the best of them.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Final

from lpo_agent.core import demos
from lpo_agent.core.editpool import PoolEdit, fitted
from lpo_agent.core.fragments import fragments_of
from lpo_agent.core.influence import insertion_points, phrases
from lpo_agent.core.text import PLACEHOLDER, Span

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.fragments import Fragment
    from lpo_agent.core.messages import Row
    from lpo_agent.core.task_facts import TaskFacts
    from lpo_agent.core.text import Prompt

LONG: Final = 10
"""A prompt of more sentences than that is long: whole sentences are left out first, then phrases."""
SENTENCE: Final = "cut sentence"
"""The source of edits that leave out a sentence."""
SHOWN: Final = (2, 1, 4)
"""How many demonstrations an edit puts in; it is one edit, because examples work together."""
MANY_PHRASES: Final = 120
"""A prompt with more phrases is too long for a deletion of each."""
SAMPLED: Final = 24
"""Sentences of such a prompt that may be left out."""


def first_places(prompt: Prompt) -> list[Span]:
    """Return where instructions are tried first: at the end of the instructions, at the end of all, and at the start.

    The other insertion points follow, so that one text may be moved to each of them.
    """
    points = insertion_points(prompt)
    if not points:
        return []
    hole = PLACEHOLDER.search(prompt.text)
    ahead = [point for point in points if hole is None or point.end <= hole.start()]
    chosen = [*ahead[-1:], points[-1], points[0], *points]
    return list(dict.fromkeys(chosen))


def insertions(prompt: Prompt, facts: TaskFacts, places: int) -> list[PoolEdit]:
    """Return the general instructions, each at its first place, then all at their second, up to ``places``."""
    return [
        insertion(prompt, fragment, where[number])
        for number in range(places)
        for turn, fragment in enumerate(fragments_of(facts))
        if number < len(where := places_of(prompt, fragment, turn))
    ]


def places_of(prompt: Prompt, fragment: Fragment, turn: int) -> list[Span]:
    """Return the places of a fragment, the first to try first; fragments begin at different places in turn."""
    places = first_places(prompt)
    if not places:
        return []
    if fragment.home == "start":
        return [min(places)]
    if fragment.home == "end":
        return [max(places)]
    usual = places[:3]
    shift = turn % len(usual)
    return [*usual[shift:], *usual[:shift], *places[3:]]


def insertion(prompt: Prompt, fragment: Fragment, place: Span) -> PoolEdit:
    """Return the edit that puts a fragment at a place."""
    text = fitted(prompt.text, place.start, fragment.text)
    rank = {"start": -1, "any": 0, "end": 1}[fragment.home]
    return PoolEdit(place, text, "fragment", fragment.theme, fragment.text, stacks=True, rank=rank)


def deletions(prompt: Prompt, rng: random.Random) -> list[PoolEdit]:
    """Return the edits that leave out a sentence of a long prompt, or a phrase, with the blank after it.

    Of a prompt with very many phrases only some sentences are left out, drawn at random: one phrase of a thousand is
    hardly ever worth its trials, and the edits of other sources would wait for all of them.
    """
    whole, spans = sentence_deletions(prompt), phrases(prompt)
    if len(spans) > MANY_PHRASES:
        return sorted(rng.sample(whole, min(SAMPLED, len(whole))), key=lambda each: each.span)
    return [*whole, *(_without(prompt, span) for span in spans)]


def _without(prompt: Prompt, span: Span) -> PoolEdit:
    """Return the edit that leaves a phrase out, with the blank after it where that may be edited too."""
    end = span.end + (prompt.text[span.end : span.end + 1] == " ")
    free = any(region.start <= span.start and end <= region.end for region in prompt.free_spans())
    return PoolEdit(Span(span.start, end) if free else span, "", "delete")


def sentence_deletions(prompt: Prompt) -> list[PoolEdit]:
    """Return for a long prompt the edits that leave out one sentence each, none for a short one."""
    text, found = prompt.text, []
    points = [each for each in insertion_points(prompt) if text[each.start - 1 : each.start] != ":"]
    for one, other in pairwise(points):
        if any(region.start <= one.start and other.end <= region.end for region in prompt.free_spans()):
            blank = len(text[one.start : other.end]) - len(text[one.start : other.end].lstrip())
            if text[one.start + blank : other.end].strip(" \t\n.:!?-*#"):
                found.append(PoolEdit(Span(one.start, other.end), "", SENTENCE))
    return found if len(found) > LONG else []


def swaps(prompt: Prompt, rng: random.Random, most: int) -> list[PoolEdit]:
    """Return edits that change the order of two neighbouring phrases in one sentence."""
    text, found = prompt.text, phrases(prompt)
    pairs = [(a, b) for a, b in pairwise(found) if not text[a.end : b.start].strip(" \t")]
    chosen = rng.sample(pairs, min(most, len(pairs)))
    return [PoolEdit(Span(a.start, b.end), b.of(text) + text[a.end : b.start] + a.of(text), "swap") for a, b in chosen]


def demonstrations(prompt: Prompt, shown: Sequence[Row], most: int, rng: random.Random) -> list[PoolEdit]:
    """Return edits that put in two, one and four examples, with different answers as far as there are."""
    where = demos.place(prompt)
    if where is None or not shown or most < 1:
        return []
    at_line = where.start == 0 or prompt.text[where.start - 1] == "\n"
    found = []
    for count in [each for each in SHOWN if each <= min(most, len(shown))]:
        blocks = [demos.block_text(row) for row in _mixed(shown, count, rng)]
        body = "\n\n".join(blocks)
        text = f"{body}\n\n" if at_line else f"\n\n{body}"
        found.append(PoolEdit(where, text, "example", "example", stacks=True, rank=2, alone="examples"))
    return found


def _mixed(shown: Sequence[Row], count: int, rng: random.Random) -> list[Row]:
    """Draw rows, as many different answers among them as possible, in random order."""
    groups: dict[str, list[Row]] = {}
    for row in rng.sample(list(shown), len(shown)):
        groups.setdefault(row.target, []).append(row)
    turns = [row for round_ in zip_longest(*groups.values()) for row in round_ if row is not None]
    return rng.sample(turns[:count], count)


def interleaved(*lists: Sequence[PoolEdit]) -> Iterator[PoolEdit]:
    """Yield the edits of several sources in turn."""
    for turn in zip_longest(*lists):
        yield from (each for each in turn if each is not None)
