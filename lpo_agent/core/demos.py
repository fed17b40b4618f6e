"""Examples shown in a prompt: blocks of text made from rows, put in, exchanged and taken out as local edits.

A block reads ``Example:``, one line for each variable, ``Answer: ...``; blank lines set it apart. It is
recognized by its exact text, so an edit inside a block makes ordinary words of it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core.text import ESCAPED, PLACEHOLDER, MarkedPrompt, Replacement, Span, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    import random
    from collections.abc import Container, Iterator, Mapping, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt

TIGHT = (
    "\u0e01-\u0e4e\u0e81-\u0ede\u1000-\u103f\u1780-\u17d3\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts that put no spaces between words, for a class of a regular expression."""
WORD_LENGTH = 12
TARGETS = 5
_SIZE = re.compile(rf"[{TIGHT}]|[^\s{TIGHT}]+")
_READ_AS_HOLE = re.compile(f"{ESCAPED.pattern}|{PLACEHOLDER.pattern}")
_LIKE_TAG = re.compile(r"</?\s*(?:edit|keep)\b", re.IGNORECASE)
_HEAD = re.compile(r"^Example:\n", re.MULTILINE)
_OPENING = re.compile(r".*[:\uff1a]|`{3,}.*|~{3,}.*|\"{3}|'{3}|<[^/<>][^<>]*>")
_GAP = "\n\n"


class DemoEdit(NamedTuple):
    """An edit: ``text`` for the prompt's ``span``, which lies in a region that may change."""

    span: Span
    text: str
    note: str


def size(text: str) -> int:
    """Return the number of words between white space; of scripts without spaces, every letter is one."""
    return len(_SIZE.findall(text))


def block_text(row: Row) -> str:
    """Return the row's block, without blank lines around it; values lose outer white space.

    Filling a prompt shows the values as they are: braces that would be read as a placeholder are escaped.
    """
    named = {"Input": next(iter(row.variables.values()))} if len(row.variables) == 1 else row.variables
    lines = [f"{name}: {_literal(value)}" for name, value in named.items()]
    return "\n".join(["Example:", *lines, f"Answer: {_literal(row.target)}"])


def _literal(value: str) -> str:
    value = value.strip()
    return _READ_AS_HOLE.sub(r"{\g<0>}", value) if "{" in value else value


def usable(rows: Sequence[Row], longest_words: int = 60) -> list[Row]:
    """Return the rows that can be block_text, each text once: short, with an answer, without tags or blocks inside."""
    found: dict[str, Row] = {}
    for row in rows:
        if _fit_to_show(row, longest_words):
            found.setdefault(block_text(row), row)
    return list(found.values())


def _fit_to_show(row: Row, longest_words: int) -> bool:
    texts = [*row.variables.values(), row.target]
    if not row.target.strip() or not any(value.strip() for value in row.variables.values()):
        return False
    if sum(map(len, texts)) > longest_words * WORD_LENGTH or sum(map(size, texts)) > longest_words:
        return False
    body = block_text(row)
    return not _LIKE_TAG.search(body) and len(_HEAD.findall(f"{body}\n")) == 1


def blocks(text: str, rows: Sequence[Row]) -> list[tuple[Row, Span]]:
    """Return the rows (of those that are :func:`usable`) that ``text`` shows, and where, in order."""
    if not _HEAD.search(text):
        return []
    bodies = {block_text(row): row for row in rows}
    return [(bodies[span.of(text)], span) for span in block_spans(text, bodies)]


def block_spans(text: str, bodies: Container[str]) -> list[Span]:
    """Return where blocks stand that are in ``bodies`` (from :func:`block_text`): whole lines, sorted, disjoint."""
    heads = [match.start() for match in _HEAD.finditer(text)]
    found = (_block(text, start, end, bodies) for start, end in zip(heads, [*heads[1:], len(text)], strict=False))
    return [span for span in found if span is not None]


def _block(text: str, start: int, limit: int, bodies: Container[str]) -> Span | None:
    """Return the longest known block from ``start`` on, None if there is none."""
    end = limit
    while end > start:
        if (end == len(text) or text[end] == "\n") and text[start:end] in bodies:
            return Span(start, end)
        end = text.rfind("\n", start, end)
    return None


def without_blocks(text: str, bodies: Container[str]) -> str:
    """Return ``text`` without the blocks that are in ``bodies``."""
    parts, at = [], 0
    for span in block_spans(text, bodies):
        parts.append(text[at : span.start])
        at = span.end
    return "".join([*parts, text[at:]])


def place(prompt: Prompt) -> Span | None:
    """Return the insertion point for one more block, None if there is none.

    It is before the line of the first placeholder, or before the lines that introduce it ("Text:", a
    fence); where that is not free, or there is no placeholder, at the end of the last free region before
    it that ends with a line.
    """
    text, free = prompt.text, prompt.free_spans()
    hole = PLACEHOLDER.search(text)
    limit = _before(text, hole.start()) if hole else len(text)
    if hole and any(region.start <= limit <= region.end for region in free):
        return Span(limit, limit)
    ends = [region.end for region in free if region.end <= limit and _at_line_edge(text, region.end)]
    return Span(ends[-1], ends[-1]) if ends else None


def _before(text: str, hole: int) -> int:
    """Return the start of the line at ``hole``, or of the lines above it that only introduce it."""
    start = text.rfind("\n", 0, hole) + 1
    if any(char.isalnum() for char in text[start:hole]):
        return start
    while start:
        above = text.rfind("\n", 0, start - 1) + 1
        if not _OPENING.fullmatch(text[above : start - 1].strip()):
            break
        start = above
    return start


def _starts_line(text: str, at: int) -> bool:
    return at == 0 or text[at - 1] == "\n"


def _at_line_edge(text: str, at: int) -> bool:
    return _starts_line(text, at) or at == len(text) or text[at] in "\r\n"


def draw_edit(prompt: Prompt, rows: Sequence[Row], most: int, rng: random.Random) -> DemoEdit | None:
    """Draw one edit: put in an example, exchange one for another row, or take one out; None if none can be done.

    ``rows`` are :func:`usable`. The new prompt shows no row twice and at most ``most``, or one less than
    before. Answers that are shown least come first. Taking out undoes putting in, exactly.
    """
    bodies = {block_text(row): row for row in rows}
    spans = block_spans(prompt.text, bodies)
    for operator in _operators(len(spans), most, rng):
        for move, after in _OPERATORS[operator](prompt, bodies, spans, rng):
            if _leads_to(prompt, move, bodies, after):
                return move
    return None


def _operators(count: int, most: int, rng: random.Random) -> list[str]:
    """Return the names of the operators to try, the drawn one first."""
    if count > most:
        return ["drop"]
    weights = {"insert": 2 * (count < most), "swap": int(count > 0), "drop": int(count > 0)}
    names = [name for name, weight in weights.items() if weight]
    if not names:
        return []
    first = rng.choices(names, [weights[name] for name in names])[0]
    return [first, *(name for name in names if name != first)]


def _inserts(
    prompt: Prompt, bodies: Mapping[str, Row], spans: Sequence[Span], rng: random.Random
) -> Iterator[tuple[DemoEdit, list[str]]]:
    """Yield insertions, each with the blocks that stand in the prompt afterwards."""
    where, now = place(prompt), [span.of(prompt.text) for span in spans]
    if where is None:
        return
    number = sum(span.start < where.start for span in spans)
    for body in _fresh(bodies, now, now, rng):
        text = f"{body}{_GAP}" if _starts_line(prompt.text, where.start) else f"{_GAP}{body}"
        yield DemoEdit(where, text, "add an example"), [*now[:number], body, *now[number:]]


def _swaps(
    prompt: Prompt, bodies: Mapping[str, Row], spans: Sequence[Span], rng: random.Random
) -> Iterator[tuple[DemoEdit, list[str]]]:
    """Yield exchanges of one block, each with the blocks that stand in the prompt afterwards."""
    now = [span.of(prompt.text) for span in spans]
    number = rng.randrange(len(spans))
    before, after = now[:number], now[number + 1 :]
    for body in _fresh(bodies, now, [*before, *after], rng):
        yield DemoEdit(spans[number], body, "swap an example"), [*before, body, *after]


def _drops(
    prompt: Prompt, _bodies: Mapping[str, Row], spans: Sequence[Span], rng: random.Random
) -> Iterator[tuple[DemoEdit, list[str]]]:
    """Yield ways to take out one block with its blank line, each with the blocks that stay."""
    text, numbers = prompt.text, rng.sample(range(len(spans)), len(spans))
    for number in numbers:
        start, end = spans[number]
        left = [span.of(text) for other, span in enumerate(spans) if other != number]
        wider = (Span(start, end + len(_GAP)), Span(max(0, start - len(_GAP)), end))
        cuts = [cut for cut in wider if _GAP in (text[cut.start : start], text[end : cut.end])]
        for cut in [*cuts, spans[number]]:
            yield DemoEdit(cut, "", "drop an example"), left


_OPERATORS = {"insert": _inserts, "swap": _swaps, "drop": _drops}


def _fresh(bodies: Mapping[str, Row], taken: Sequence[str], kept: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Yield a few blocks that are not ``taken``, from the answers that ``kept`` shows least, drawn evenly."""
    counts = Counter(bodies[body].target for body in kept)
    groups: dict[str, list[str]] = {}
    for body, row in bodies.items():
        if body not in taken:
            groups.setdefault(row.target, []).append(body)
    order = sorted((counts[target], rng.random(), target) for target in groups)
    for _, _, target in order[:TARGETS]:
        yield rng.choice(groups[target])


def _leads_to(prompt: Prompt, move: DemoEdit, bodies: Mapping[str, Row], after: Sequence[str]) -> bool:
    """Tell whether the edit is allowed, and the blocks in the prompt are then those of ``after``."""
    try:
        child = splice(MarkedPrompt(prompt=prompt, spans=(move.span,)), [Replacement(0, move.text)])
    except (EditRejected, ValueError):
        return False
    return [span.of(child.text) for span in block_spans(child.text, bodies)] == list(after)
