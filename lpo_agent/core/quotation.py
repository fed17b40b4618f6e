"""Finds the place in a prompt that a model quotes, although its quotation may not be exact.

Models straighten quotes, lose spaces and change the case of what they quote. So a quotation is first looked for as it
is, then with these differences removed, then by its letters and digits alone, and at last as the most similar passage
(approximate search of a pattern by edit distance: Sellers 1980). In each case it must stand at one place only.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lpo_agent.core.editpool import fitted
from lpo_agent.core.text import MarkedPrompt, Replacement, Span, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lpo_agent.core.text import Prompt

Action = Literal["replace", "insert after", "insert before", "delete"]

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
_LIST_ITEM = re.compile(r"\s*(?:[-*+#>]|\d+[.)])\s")


class QuotedEdit(NamedTuple):
    """An edit as a model describes it: what to do at a quotation from a line (numbered from 1), and the new texts.

    Without a quotation, the whole line is meant. ``line`` is None if none was named. ``aim``: the class of errors that
    it should mend.
    """

    line: int | None
    quote: str
    action: Action
    options: tuple[str, ...] = ()
    why: str = ""
    strategy: str = ""
    aim: str = ""


class Place(NamedTuple):
    """A span of the prompt, and the texts that may stand there instead."""

    span: Span
    options: tuple[str, ...]


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


def resolve(prompt: Prompt, edit: QuotedEdit) -> list[Place]:
    """Return where the edit belongs, with its new texts; raises EditRejected if that cannot be said for sure.

    Options that would break a placeholder or change nothing are left out; it is an error if none is left. An option
    that repeats a placeholder of the quotation keeps it. So one edit may have several places.
    """
    found: dict[Span, list[str]] = {}
    reason = "it has no new text"
    for option in ("",) if edit.action == "delete" else edit.options:
        try:
            span, text = _fitted(prompt, edit, option)
        except EditRejected as exc:
            reason = str(exc)
            continue
        found.setdefault(span, []).append(text)
    if not found:
        raise EditRejected(reason)
    return [Place(span, tuple(dict.fromkeys(texts))) for span, texts in found.items()]


def _fitted(prompt: Prompt, edit: QuotedEdit, option: str) -> tuple[Span, str]:
    text = prompt.text
    if edit.action in {"insert after", "insert before"}:
        span, new = _insertion(text, edit, option)
    elif edit.action == "delete" or not option.strip():
        span, new = _deletion(prompt, _target(text, edit)), ""
    else:
        span, new = _target(text, edit), option.strip()
    if not _is_free(prompt, span):
        span, new = _trimmed(text, span, new)
    if not _is_free(prompt, span):
        raise EditRejected(f"{_at(edit)}: it would change a placeholder or text that must be kept")
    if span.of(text) == new:
        raise EditRejected(f"{_at(edit)}: it changes nothing")
    splice(MarkedPrompt(prompt=prompt, spans=(span,)), [Replacement(0, new)])
    return span, new


def _is_free(prompt: Prompt, span: Span) -> bool:
    return any(region.start <= span.start and span.end <= region.end for region in prompt.free_spans())


def _trimmed(text: str, span: Span, new: str) -> tuple[Span, str]:
    """Return the edit without what its two ends have in common with the text that it replaces."""
    old = span.of(text)
    least = min(len(old), len(new))
    ahead = next((n for n in range(least) if old[n] != new[n]), least)
    behind = next((n for n in range(least - ahead) if old[-1 - n] != new[-1 - n]), least - ahead)
    return Span(span.start + ahead, span.end - behind), new[ahead : len(new) - behind]


def _target(text: str, edit: QuotedEdit) -> Span:
    if edit.quote.strip():
        return find(text, edit.quote, edit.line)
    line = _line(text, edit)
    return _stripped(text, line)


def _line(text: str, edit: QuotedEdit) -> Span:
    lines = lines_of(text)
    if edit.line is None or not 1 <= edit.line <= len(lines):
        raise EditRejected(f"{_at(edit)}: there is no such line, and nothing is quoted")
    return lines[edit.line - 1]


def _stripped(text: str, span: Span) -> Span:
    own = span.of(text)
    start = span.start + len(own) - len(own.lstrip())
    return Span(start, max(start, span.start + len(own.rstrip())))


def _insertion(text: str, edit: QuotedEdit, option: str) -> tuple[Span, str]:
    """Return the insertion; beside a whole line without a quotation, and in lists, it gets a line of its own."""
    after, words = edit.action == "insert after", option.strip()
    if not words:
        raise EditRejected(f"{_at(edit)}: it adds nothing")
    if not edit.quote.strip():
        return _new_line(text, edit, words, after=after)
    span = find(text, edit.quote, edit.line)
    line = next(each for each in lines_of(text) if each.start <= (span.end if after else span.start) <= each.end)
    fills = _stripped(text, line) in {span, Span(_stripped(text, line).start, span.end)}
    own_line = option.startswith("\n") if after else option.rstrip(" \t").endswith("\n")
    if own_line or (fills and _LIST_ITEM.match(line.of(text))):
        return _beside(span.end if after else line.start, words, after=after)
    at = span.end if after else span.start
    return Span(at, at), fitted(text, at, words)


def _new_line(text: str, edit: QuotedEdit, words: str, *, after: bool) -> tuple[Span, str]:
    lines = lines_of(text)
    if edit.line is None or edit.line > len(lines):
        return _beside(len(text.rstrip("\n")), words, after=True)
    if edit.line < 1:
        return _beside(0, words, after=False)
    line = lines[edit.line - 1]
    return _beside(line.end if after else line.start, words, after=after)


def _beside(at: int, words: str, *, after: bool) -> tuple[Span, str]:
    return Span(at, at), f"\n{words}" if after else f"{words}\n"


def _deletion(prompt: Prompt, span: Span) -> Span:
    """Return the span with the blank after it, or with its line end if it fills its line, as far as these may go."""
    text = prompt.text
    line = next(each for each in lines_of(text) if each.start <= span.start <= each.end)
    wider = [Span(span.start, span.end + 1)] if text[span.end : span.end + 1] == " " else []
    if span == _stripped(text, line):
        wider = [Span(line.start, line.end + 1), Span(line.start - 1, line.end), *wider]
    fitting = (each for each in wider if each.start >= 0 and each.end <= len(text) and _is_free(prompt, each))
    return next(fitting, span)


def _at(edit: QuotedEdit) -> str:
    return "an edit without a line" if edit.line is None else f"line {edit.line}"


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
