"""Divides a long prompt into sections, so that a model can choose where to edit before it sees the lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.quotation import lines_of
from lpo_agent.core.text import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONG: Final = 6_000
"""Prompts with more characters are shown by sections."""
SMALL: Final = 500
"""A block with fewer characters is joined with the next one, unless that begins with a heading."""
LARGE: Final = 4_000
"""A section with more characters is divided at line ends."""
TITLE: Final = 100
"""Characters of the first line of a section that are shown."""

_HEADING = re.compile(
    r"#{1,6}\s|={3,}|-{3,}$|<[a-z_]+>$|(?:section|part|chapter)\s+\w+|\d+(?:\.\d+)*[.)]\s+\S[^.]*$", re.IGNORECASE
)
_WORD = re.compile(r"\w{4,}|\d+")


class Section(NamedTuple):
    """A part of a prompt from a first line to a last one (numbered from 1)."""

    span: Span
    first: int
    last: int
    title: str


def sections_of(text: str) -> list[Section]:
    """Return the sections of a text in order: they begin at headings and after blank lines, and cover it all."""
    lines = lines_of(text)
    found: list[tuple[int, int]] = []
    for first, last in _blocks(text, lines):
        heading = _HEADING.match(lines[first].of(text).strip()) is not None
        size = lines[found[-1][1]].end - lines[found[-1][0]].start if found else SMALL
        if found and size < SMALL and not heading:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return [_section(text, lines, *part) for whole in found for part in _divided(lines, *whole)]


def _blocks(text: str, lines: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the first and last line of each block; the blank lines after it belong to it."""
    start = 0
    for number in range(1, len(lines)):
        own = lines[number].of(text).strip()
        if own and (not lines[number - 1].of(text).strip() or _HEADING.match(own)):
            yield start, number - 1
            start = number
    yield start, len(lines) - 1


def _divided(lines: Sequence[Span], first: int, last: int) -> Iterator[tuple[int, int]]:
    start = first
    for number in range(first, last):
        if lines[number + 1].end - lines[start].start > LARGE:
            yield start, number
            start = number + 1
    yield start, last


def _section(text: str, lines: Sequence[Span], first: int, last: int) -> Section:
    span = Span(lines[first].start, lines[last].end)
    title = next((line for line in span.of(text).split("\n") if line.strip()), "").strip()
    return Section(span, first + 1, last + 1, title if len(title) <= TITLE else f"{title[:TITLE]}...")


def listed(sections: Sequence[Section]) -> str:
    """Return the sections as a numbered list: lines, size in characters, and first line."""
    return "\n".join(
        f"{number}. lines {each.first} to {each.last}, {each.span.end - each.span.start} characters: {each.title}"
        for number, each in enumerate(sections, start=1)
    )


def likeliest(text: str, sections: Sequence[Section], remark: str, most: int) -> list[Section]:
    """Return the sections that share most of the rarer words of a remark, for a model that does not name any."""
    wanted = {word.casefold() for word in _WORD.findall(remark)}
    held = [{word.casefold() for word in _WORD.findall(each.span.of(text))} & wanted for each in sections]
    rare = {word: 1 / sum(word in own for own in held) for own in held for word in own}
    order = sorted(range(len(sections)), key=lambda n: (-sum(rare[word] for word in held[n]), n))
    return [sections[n] for n in sorted(order[:most])]
