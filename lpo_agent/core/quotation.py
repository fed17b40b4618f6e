"""Finds the place in a prompt that a model quotes, although its quotation may not be exact.

Models straighten quotes, lose spaces and change the case of what they quote. So a quotation is first looked for as it
is, then with these differences removed, then by its letters and digits alone, and at last as the most similar passage
(approximate search of a pattern by edit distance: Sellers 1980). In each case it must stand at one place only.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.text import Span
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


NEAR: Final = 2
"""A quotation may stand so many lines away from the line that is named for it, and be similar only."""
FEWEST_LETTERS: Final = 4
"""A quotation needs so many letters or digits to be found by these alone."""
SIMILAR: Final = (8, 0.2)
"""A similar passage is accepted for quotations of so many characters, if this share of them at most must be changed."""
MOST_CELLS: Final = 2_000_000
"""No similar passage is looked for where quotation and text are so long that it would take seconds."""

_QUOTES: Final = frozenset("'\"`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2032\u2033\u00ab\u00bb")
_ELLIPSIS = re.compile(r"\s*(?:\[?\.{3,}\]?|\[?\u2026\]?)\s*")


class _Reading(NamedTuple):
    """A text in a form for comparing, and for each of its characters the offset that it has in the original."""

    text: str
    at: Sequence[int]


def lines_of(text: str) -> list[Span]:
    """Return the lines of a text, without their line ends."""
    found, start = [], 0
    for line in text.split("\n"):
        found.append(Span(start, start + len(line)))
        start += len(line) + 1
    return found


def numbered(text: str, parts: Sequence[Span] = ()) -> str:
    """Return the lines with their numbers; with ``parts``, only the lines that begin in one of these spans."""
    shown: list[str] = []
    last = 0
    for number, line in enumerate(lines_of(text), start=1):
        if parts and not any(part.start <= line.start < max(part.end, part.start + 1) for part in parts):
            continue
        if shown and number != last + 1:
            shown.append("[...]")
        shown.append(f"{number}| {line.of(text)}")
        last = number
    return "\n".join(shown)


def find(text: str, quote: str, line: int | None = None) -> Span:
    """Return where the quotation stands, at best in the named line; raises EditRejected if that is not clear."""
    quote = quote.strip()
    scopes = _scopes(text, quote, line)
    for scope in scopes:
        for form in (_as_it_is, _one_blank, _no_blank, _letters):
            found = _found(text, quote, scope, form)
            if len(found) > 1:
                found = _nearest_line(text, found, line)
            if len(found) == 1:
                return found[0]
            if found:
                raise EditRejected(f"{_named(line)}: the words that it quotes stand there {len(found)} times")
    span = _shortened(text, quote, line) or _similar(text, quote, scopes[:-1] or scopes)
    if span is None:
        raise EditRejected(f"{_named(line)}: the words that it quotes are not in the prompt")
    return span


def _named(line: int | None) -> str:
    return "an edit without a line" if line is None else f"line {line}"


def _scopes(text: str, quote: str, line: int | None) -> list[Span]:
    """Return where to look: in the line, with those that a longer quotation reaches into; near it; everywhere."""
    lines, whole = lines_of(text), Span(0, len(text))
    if line is None or not 1 <= line <= len(lines):
        return [whole]
    last = len(lines) - 1
    own = Span(lines[line - 1].start, lines[min(last, line - 1 + quote.count("\n"))].end)
    near = Span(lines[max(0, line - 1 - NEAR)].start, lines[min(last, line - 1 + NEAR + quote.count("\n"))].end)
    return [own, near, whole]


def _nearest_line(text: str, found: Sequence[Span], line: int | None) -> list[Span]:
    """Return those of several places that are nearest to the named line, by lines."""
    if line is None:
        return list(found)
    far = {span: abs(text.count("\n", 0, span.start) + 1 - line) for span in found}
    return [span for span in found if far[span] == min(far.values())]


def _found(text: str, quote: str, scope: Span, form: Callable[[str], _Reading]) -> list[Span]:
    """Return where the quotation stands in the scope; places with whole words go before others."""
    read, wanted = form(scope.of(text)), form(quote).text
    if not wanted or (form is _letters and len(wanted) < FEWEST_LETTERS):
        return []
    found, at = [], read.text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        found.append(Span(scope.start + read.at[at], scope.start + read.at[end - 1] + 1))
        at = read.text.find(wanted, end)
    whole = [span for span in found if _has_whole_words(text, span)]
    return whole or found


def _has_whole_words(text: str, span: Span) -> bool:
    return not _inside_word(text, span.start) and not _inside_word(text, span.end)


def _inside_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _as_it_is(text: str) -> _Reading:
    return _Reading(text, range(len(text)))


def _one_blank(text: str) -> _Reading:
    """Return the text with case, quotes, dashes and runs of white space made equal."""
    return _read(text, blank=" ")


def _no_blank(text: str) -> _Reading:
    return _read(text, blank="")


def _letters(text: str) -> _Reading:
    read = _read(text, blank="")
    kept = [n for n, letter in enumerate(read.text) if letter.isalnum()]
    return _Reading("".join(read.text[n] for n in kept), [read.at[n] for n in kept])


def _read(text: str, blank: str) -> _Reading:
    letters: list[str] = []
    at: list[int] = []
    for offset, letter in enumerate(text):
        for plain in _plain(letter):
            new = blank if plain.isspace() else plain
            if not new or (new in {" ", "-"} and letters and letters[-1] == new):
                continue
            letters.append(new)
            at.append(offset)
    return _Reading("".join(letters), at)


def _plain(letter: str) -> str:
    """Return a character without case, as a plain quote, dash or blank if it is one of these."""
    if letter in _QUOTES:
        return "'"
    kind = unicodedata.category(letter)
    if kind == "Pd" or letter == "\u2212":
        return "-"
    if kind == "Cf":
        return ""
    return letter.casefold() if letter.isascii() else unicodedata.normalize("NFKC", letter).casefold()


def same(one: str, other: str) -> bool:
    """Return whether two texts are equal apart from case, white space, and the kinds of quotes and dashes."""
    return _no_blank(one).text == _no_blank(other).text


def moved(text: str, spans: Iterable[Span], copy: str) -> list[Span]:
    """Return the spans of ``copy``, a copy of ``text`` in the sense of :func:`same`, as spans of ``text``."""
    old, new = _no_blank(text), _no_blank(copy)
    found = []
    for span in spans:
        first, last = (_count_before(new.at, edge) for edge in span)
        if first < last:
            found.append(Span(old.at[first], old.at[last - 1] + 1))
            continue
        sticks = span.start > 0 and not copy[span.start - 1].isspace() and first > 0
        at = old.at[first - 1] + 1 if sticks or first == len(old.at) else old.at[first]
        found.append(Span(at, at))
    return found


def _count_before(offsets: Sequence[int], edge: int) -> int:
    return bisect_left(offsets, edge)


def _shortened(text: str, quote: str, line: int | None) -> Span | None:
    """Return the passage of a quotation whose middle was left out ("first words ... last words"), None if unclear."""
    parts = [part for part in _ELLIPSIS.split(quote) if part]
    if len(parts) < 2 or quote.strip() in {".", "..."}:
        return None
    try:
        first, last = find(text, parts[0], line), find(text, parts[-1], line)
    except EditRejected:
        return None
    return Span(first.start, last.end) if first.end <= last.start else None


def _similar(text: str, quote: str, scopes: Sequence[Span]) -> Span | None:
    """Return the passage that is most similar to the quotation, None if there is none or more than one."""
    wanted = _no_blank(quote).text
    least, share = SIMILAR
    if len(wanted) < least:
        return None
    for scope in scopes:
        read = _no_blank(scope.of(text))
        if len(wanted) * len(read.text) > MOST_CELLS:
            continue
        ends = _distances(wanted, read.text)
        best = min(ends, default=(len(wanted), 0, 0))
        if best[0] > share * len(wanted):
            continue
        rivals = [each for each in ends if each[0] <= best[0] + max(1, len(wanted) // 20)]
        if any(start >= best[2] or end <= best[1] for _, start, end in rivals):
            continue
        span = Span(scope.start + read.at[best[1]], scope.start + read.at[best[2] - 1] + 1)
        return _to_words(text, span)
    return None


def _distances(wanted: str, text: str) -> list[tuple[int, int, int]]:
    """Return for each end in the text the smallest edit distance of a passage that ends there, with its start."""
    column = [(row, 0) for row in range(len(wanted) + 1)]
    found = []
    for end, letter in enumerate(text, start=1):
        above, new = (0, end), [(0, end)]
        for row, other in enumerate(wanted):
            swap = column[row][0] + (other != letter), column[row][1]
            skip = column[row + 1][0] + 1, column[row + 1][1]
            above = min(swap, skip, (above[0] + 1, above[1]))
            new.append(above)
        column = new
        if above[1] < end:
            found.append((above[0], above[1], end))
    return found


def _to_words(text: str, span: Span) -> Span:
    """Return the span with the words whole that it cuts."""
    start, end = span
    while _inside_word(text, start):
        start -= 1
    while _inside_word(text, end):
        end += 1
    return Span(start, end)
