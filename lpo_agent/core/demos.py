"""Few-shot demonstrations in a prompt: blocks of text made from rows, added, swapped and removed by local edits.

A block consists of the line ``Example:``, one line for each variable, and the line ``Answer: ...``; blank
lines separate it from other text. A block is recognized by its exact text, so once an edit changes a block,
it counts as ordinary text.
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
"""Letters of scripts without spaces between words (such as Chinese and Thai), as part of a regex character class."""
WORD_LENGTH = 12
"""Characters allowed for each allowed word, when it is decided whether a row is short enough to be shown."""
TARGETS = 5
"""The most answers for which a new block is tried in one edit."""
_SIZE = re.compile(rf"[{TIGHT}]|[^\s{TIGHT}]+")
_READ_AS_HOLE = re.compile(f"{ESCAPED.pattern}|{PLACEHOLDER.pattern}")
_LIKE_TAG = re.compile(r"</?\s*(?:edit|keep)\b", re.IGNORECASE)
_HEAD = re.compile(r"^Example:\n", re.MULTILINE)
_OPENING = re.compile(r".*[:\uff1a]|`{3,}.*|~{3,}.*|\"{3}|'{3}|<[^/<>][^<>]*>")
_GAP = "\n\n"


class DemoEdit(NamedTuple):
    """One edit of a prompt: ``text`` replaces ``span``, which lies in a region that may change."""

    span: Span
    text: str
    note: str


def size(text: str) -> int:
    """Return the number of words in a text. In scripts without spaces, each letter counts as one word."""
    return len(_SIZE.findall(text))


def block_text(row: Row) -> str:
    """Return the block that shows a row as an example, without blank lines around it.

    White space around values is removed. Braces that would be read as a placeholder are escaped, so that
    filling the prompt restores the values.
    """
    named = {"Input": next(iter(row.variables.values()))} if len(row.variables) == 1 else row.variables
    lines = [f"{name}: {_literal(value)}" for name, value in named.items()]
    return "\n".join(["Example:", *lines, f"Answer: {_literal(row.target)}"])


def _literal(value: str) -> str:
    value = value.strip()
    return _READ_AS_HOLE.sub(r"{\g<0>}", value) if "{" in value else value


def usable(rows: Sequence[Row], longest_words: int = 60) -> list[Row]:
    """Return the rows that can be shown as examples, without duplicates.

    Usable rows have an input and an answer, have at most ``longest_words`` words together, and contain
    neither ``<edit>`` or ``<keep>`` tags nor the line that begins a block.
    """
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
    """Return the rows whose blocks ``text`` contains, with their spans, in order. ``rows`` are :func:`usable`."""
    if not _HEAD.search(text):
        return []
    bodies = {block_text(row): row for row in rows}
    return [(bodies[span.of(text)], span) for span in block_spans(text, bodies)]


def block_spans(text: str, bodies: Container[str]) -> list[Span]:
    """Return the spans of blocks of ``bodies`` (from :func:`block_text`) in ``text``: whole lines, sorted, disjoint."""
    heads = [match.start() for match in _HEAD.finditer(text)]
    found = (_block(text, start, end, bodies) for start, end in zip(heads, [*heads[1:], len(text)], strict=False))
    return [span for span in found if span is not None]


def _block(text: str, start: int, limit: int, bodies: Container[str]) -> Span | None:
    """Return the longest known block that begins at ``start`` and ends before ``limit``, None if there is none."""
    end = limit
    while end > start:
        if (end == len(text) or text[end] == "\n") and text[start:end] in bodies:
            return Span(start, end)
        end = text.rfind("\n", start, end)
    return None


def without_blocks(text: str, bodies: Container[str]) -> str:
    """Return ``text`` without the blocks in ``bodies``."""
    parts, at = [], 0
    for span in block_spans(text, bodies):
        parts.append(text[at : span.start])
        at = span.end
    return "".join([*parts, text[at:]])


def place(prompt: Prompt) -> Span | None:
    """Return the insertion point for one more block, an empty span; None if there is none.

    It is before the line of the first placeholder, or before the lines that introduce that line ("Text:",
    an opening fence). If this point may not change, or there is no placeholder, it is the end of the last
    free region before it that ends at the end of a line.
    """
    text, free = prompt.text, prompt.free_spans()
    hole = PLACEHOLDER.search(text)
    limit = _before(text, hole.start()) if hole else len(text)
    if hole and any(region.start <= limit <= region.end for region in free):
        return Span(limit, limit)
    ends = [region.end for region in free if region.end <= limit and _at_line_edge(text, region.end)]
    return Span(ends[-1], ends[-1]) if ends else None


def _before(text: str, hole: int) -> int:
    """Return the start of the line of the placeholder at ``hole``, or of the lines above that only introduce it."""
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
    """Draw one random edit that adds, swaps or removes an example; None if no such edit is possible.

    ``rows`` are :func:`usable`. After the edit the prompt shows no row twice and at most ``most`` rows (or one
    less than before, if it showed more). Rows whose answers are shown least are preferred. Removing a block
    restores the exact text from before it was added.
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
    """Yield insertions, each with the list of blocks that the prompt then has."""
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
    """Yield replacements of one block by another, each with the list of blocks that the prompt then has."""
    now = [span.of(prompt.text) for span in spans]
    number = rng.randrange(len(spans))
    before, after = now[:number], now[number + 1 :]
    for body in _fresh(bodies, now, [*before, *after], rng):
        yield DemoEdit(spans[number], body, "swap an example"), [*before, body, *after]


def _drops(
    prompt: Prompt, _bodies: Mapping[str, Row], spans: Sequence[Span], rng: random.Random
) -> Iterator[tuple[DemoEdit, list[str]]]:
    """Yield removals of one block with a blank line next to it, each with the list of blocks that remain."""
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
    """Yield random blocks that are not ``taken``, one for each of the answers that are rarest in ``kept``."""
    counts = Counter(bodies[body].target for body in kept)
    groups: dict[str, list[str]] = {}
    for body, row in bodies.items():
        if body not in taken:
            groups.setdefault(row.target, []).append(body)
    order = sorted((counts[target], rng.random(), target) for target in groups)
    for _, _, target in order[:TARGETS]:
        yield rng.choice(groups[target])


def _leads_to(prompt: Prompt, move: DemoEdit, bodies: Mapping[str, Row], after: Sequence[str]) -> bool:
    """Return whether the edit is allowed and leaves exactly the blocks ``after`` in the prompt."""
    try:
        child = splice(MarkedPrompt(prompt=prompt, spans=(move.span,)), [Replacement(0, move.text)])
    except (EditRejected, ValueError):
        return False
    return [span.of(child.text) for span in block_spans(child.text, bodies)] == list(after)
