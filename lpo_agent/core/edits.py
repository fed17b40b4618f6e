"""Computes how a prompt differs from the seed prompt, as disjoint edits that can be reverted and combined.

The span of an edit is in the offsets of the seed prompt. So a single edit can be reverted to measure its
worth, edits of two prompts at different places can be combined exactly, and a place keeps its span while
the text around it changes. Edits are computed from the two texts alone, whatever method made the prompt.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core.text import MarkedPrompt, Replacement, Span, aligned, outside, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.text import Prompt

_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_COARSE = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_WORD = re.compile(r"\w")


class Edit(NamedTuple):
    """``text`` replaces the seed prompt's text at ``span``; an empty span makes it an insertion."""

    span: Span
    text: str


def edits_between(seed: Prompt, text: str) -> tuple[Edit, ...]:
    """Return the edits that turn the seed into ``text``, sorted and disjoint, with word boundaries.

    Changes without a word between them are joined into one edit. Raises EditRejected if ``text`` changes
    protected text.
    """
    marked, replacements = aligned(seed, text)
    new = [replacement.text for replacement in replacements]
    kept = [*outside(seed.text, marked.spans)][1:-1]
    if any(text.find(piece) != text.rfind(piece) for piece in kept):
        new = list(_nearest(seed.text, marked.spans, text))
    return tuple(edit for old, found in zip(marked.spans, new, strict=True) for edit in _diff(seed.text, old, found))


def _nearest(old: str, regions: Sequence[Span], text: str) -> Iterator[str]:
    """Yield the new text of each region, where protected text between regions occurs more than once in ``text``.

    Such protected text may be a single space. Of all its occurrences, the one is taken that is nearest to
    the new position of the words around it.
    """
    first, *kept, last = outside(old, regions)
    latest = [len(text) - len(last)]
    for piece in reversed(kept):
        latest.append(text.rfind(piece, 0, latest[-1]))
    end, *limits = latest
    moved, at = _moves(old, text), len(first)
    for piece, region, limit in zip(kept, regions, reversed(limits), strict=False):
        likely = min(max(moved[region.end], at), limit)
        found = [text.rfind(piece, at, likely + len(piece)), text.find(piece, likely, limit + len(piece))]
        start = min((place for place in found if place >= 0), key=lambda place: abs(place - likely))
        yield text[at:start]
        at = start + len(piece)
    yield text[at:end]


def _moves(old: str, new: str) -> list[int]:
    """Return for each offset of the old text the corresponding offset in the new text, by aligning words."""
    one, other = _TOKEN.findall(old), _TOKEN.findall(new)
    starts, ends = [list(accumulate(map(len, tokens), initial=0)) for tokens in (one, other)]
    moved, at = [0] * (len(old) + 1), 0
    for i, j, size in SequenceMatcher(a=one, b=other, autojunk=False).get_matching_blocks():
        moved[at : starts[i]] = [ends[j]] * (starts[i] - at)
        at = starts[i + size]
        moved[starts[i] : at] = range(ends[j], ends[j + size])
    moved[-1] = len(new)
    return moved


def _diff(text: str, region: Span, new: str) -> Iterator[Edit]:
    """Yield the edits within one region that may change."""
    old = region.of(text)
    changes: list[tuple[int, int, int, int]] = []
    for found in _changes(old, new):
        joined = found
        if changes and not _WORD.search(old, changes[-1][1], found[0]):
            first = changes.pop()
            joined = (first[0], found[1], first[2], found[3])
        changes.append(joined)
    least = 0
    for i, j, k, m in changes:
        ahead, behind = _alike(_TOKEN.findall(old[i:j]), _TOKEN.findall(new[k:m]))
        start, cut, added = _leftmost(old, least, i + ahead, old[i + ahead : j - behind], new[k + ahead : m - behind])
        least = start + len(cut)
        yield Edit(Span(region.start + start, region.start + least), added)


def _leftmost(old: str, least: int, start: int, cut: str, added: str) -> tuple[int, str, str]:
    """Move an insertion or deletion to the left over white space that it could equally well begin with.

    The same change can often be described at two places; this makes the description unique.
    """
    while start > least and not (cut and added) and (cut or added)[-1] == old[start - 1] and old[start - 1].isspace():
        blank, start = old[start - 1], start - 1
        cut, added = (blank + cut[:-1], "") if cut else ("", blank + added[:-1])
    return start, cut, added


def _changes(old: str, new: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield the differences of the texts, as offsets (old start, old end, new start, new end).

    The texts are compared by words with the white space after them, then the differences are compared by
    single tokens. Comparing single tokens at once would take quadratic time, as spaces are so frequent.
    """
    for i, j, k, m in _compared(old, new, _COARSE):
        for a, b, c, d in _compared(old[i:j], new[k:m], _TOKEN):
            yield i + a, i + b, k + c, k + d


def _compared(old: str, new: str, token: re.Pattern[str]) -> Iterator[tuple[int, int, int, int]]:
    one, other = token.findall(old), token.findall(new)
    ahead, behind = _shared(one, other)
    starts, ends = [list(accumulate(map(len, tokens), initial=0)) for tokens in (one, other)]
    inner = SequenceMatcher(
        a=one[ahead : len(one) - behind], b=other[ahead : len(other) - behind], autojunk=False
    ).get_opcodes()
    for what, i, j, k, m in inner:
        if what != "equal":
            yield starts[ahead + i], starts[ahead + j], ends[ahead + k], ends[ahead + m]


def _shared(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """Return the lengths, in tokens, of the common prefix and of the common suffix of what is left."""
    least = min(len(one), len(other))
    ahead = next((n for n in range(least) if one[n] != other[n]), least)
    behind = next((n for n in range(least - ahead) if one[-1 - n] != other[-1 - n]), least - ahead)
    return ahead, behind


def _alike(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """Return the lengths, in characters, of the common prefix and the common suffix of two lists of tokens."""
    ahead, behind = _shared(one, other)
    return sum(map(len, one[:ahead])), sum(map(len, one[len(one) - behind :]))


def applied(seed: Prompt, edits: Sequence[Edit]) -> Prompt:
    """Return the seed with these edits applied; raises EditRejected if they change protected text."""
    marked = MarkedPrompt(prompt=seed, spans=tuple(edit.span for edit in edits))
    return splice(marked, [Replacement(number, edit.text) for number, edit in enumerate(edits)])


def reverted(seed: Prompt, edits: Sequence[Edit], number: int) -> Prompt:
    """Return the seed with all of the edits applied except the one with index ``number``."""
    return applied(seed, [edit for other, edit in enumerate(edits) if other != number])


def new_spans(edits: Sequence[Edit]) -> list[Span]:
    """Return the spans of the edits' new texts in the edited text."""
    found, shift = [], 0
    for edit in edits:
        start = edit.span.start + shift
        found.append(Span(start, start + len(edit.text)))
        shift += len(edit.text) - (edit.span.end - edit.span.start)
    return found


def origin(edits: Sequence[Edit], span: Span) -> Span:
    """Return the span of the seed that corresponds to a span of the edited text.

    A position inside an edit's new text, or at its end, corresponds to the whole span of that edit.
    """
    if span.start == span.end:
        return _place(edits, span)
    first, last = Span(span.start, span.start + 1), Span(span.end - 1, span.end)
    return Span(_place(edits, first).start, _place(edits, last).end)


def _place(edits: Sequence[Edit], at: Span) -> Span:
    """Return the span of the seed that corresponds to one character, or to an empty span, of the edited text."""
    shift = 0
    for edit, new in zip(edits, new_spans(edits), strict=True):
        if new.start <= at.start and at.end <= new.end:
            return edit.span
        if new.start > at.start:
            break
        shift = new.end - edit.span.end
    return Span(at.start - shift, at.end - shift)


def carried(edits: Sequence[Edit], text: str, span: Span, new: str) -> Edit:
    """Return, as an edit of the seed, the edit that puts ``new`` at a span of the edited ``text``.

    Where the span reaches into new text of ``edits``, the result replaces these edits: its place holds theirs, and its
    text holds what they put in, changed. Raises EditRejected where an insertion at an end of the seed is only partly
    covered, because no place holds it.
    """
    place, reach = origin(edits, span), span
    for edit, own in zip(edits, new_spans(edits), strict=True):
        if not (place.start <= edit.span.start and edit.span.end <= place.end):
            continue
        if edit.span.start < edit.span.end or place.start < edit.span.start < place.end or place == edit.span:
            reach = Span(min(reach.start, own.start), max(reach.end, own.end))
        elif own.start < span.end and span.start < own.end:  # an insertion at an end: its point must lie within
            before = edit.span.start == place.start
            place = Span(place.start - before, place.end + (not before))
            reach = Span(min(reach.start, own.start - before), max(reach.end, own.end + (not before)))
    if reach.start < 0 or reach.end > len(text):
        raise EditRejected("the edit covers a part of what was added at an end of the prompt")
    return Edit(place, text[reach.start : span.start] + new + text[span.end : reach.end])


def moved_place(edits: Sequence[Edit], place: Span) -> Span | None:
    """Return the span of the edited text that corresponds to a span of the seed, None if an edit touches it."""
    if any(touch(edit.span, place) for edit in edits):
        return None
    shift = sum(len(e.text) - (e.span.end - e.span.start) for e in edits if e.span.end <= place.start)
    return Span(place.start + shift, place.end + shift)


def touch(one: Span, other: Span) -> bool:
    """Return whether two spans overlap or are adjacent, so that edits of them may depend on each other."""
    return one.start <= other.end and other.start <= one.end


def mergeable_edits(parent: Sequence[Edit], other: Sequence[Edit]) -> list[Edit]:
    """Return the edits of ``other`` that touch no edit of ``parent``, so that both can be applied together."""
    return [edit for edit in other if not any(touch(edit.span, own.span) for own in parent)]
