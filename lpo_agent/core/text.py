"""Prompts as exact text: spans, tags, placeholders, splicing of edits, and the proof that an edit was local.

Spans are offsets into the text, in Unicode code points of a Python string, half open: ``text[start:end]``.
``<edit>`` and ``<keep>`` tags are only a way to write spans.

The idea of tagging comes from Local Prompt Optimization (Jain and Chowdhary 2025, section 2.2). The paper
asks a model to respect the tags; here replacements are spliced in, so text outside the spans cannot change.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from lpo_agent.errors import EditRejected, MarkupError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

PLACEHOLDER = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")
ESCAPED = re.compile(r"\{\{([A-Za-z_]\w*)\}\}")
_FILL = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")
TAG = re.compile(r"</?\s*(?:edit|keep)\b[^<>]*>", re.IGNORECASE)
_GOOD_TAGS = {"<edit>", "</edit>", "<keep>", "</keep>"}


class Span(NamedTuple):
    """A half-open range of code points; an empty one (``start == end``) is an insertion point."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return the text that the span covers."""
        return text[self.start : self.end]


class Replacement(NamedTuple):
    """New text for the span with index ``span`` (from 0) of a :class:`MarkedPrompt`."""

    span: int
    text: str


class Prompt(BaseModel):
    """A prompt's text, and the regions that its author protected.

    ``editable``: the only regions that may change, None if all of the text may. ``keep``: regions that never
    change. Both are sorted and disjoint. Placeholders such as ``{input}`` never change and are not listed.
    ``text`` contains no tags.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    editable: tuple[Span, ...] | None = None
    keep: tuple[Span, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Prompt:
        if tag := TAG.search(self.text):
            raise ValueError(f"a prompt's text must not hold the tag {tag[0]!r}")
        for spans in (self.editable or (), self.keep):
            _check_spans(spans, len(self.text))
        return self

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: a hash of the exact text."""
        return hashlib.blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return the names of the placeholders, in order, repeats included."""
        return tuple(match[1] for match in PLACEHOLDER.finditer(self.text))

    def frozen_spans(self) -> list[Span]:
        """Return the spans that never change: kept regions and placeholders, sorted, merged."""
        return merge(self._frozen())

    def _frozen(self) -> list[Span]:
        return [*self.keep, *(Span(*match.span()) for match in PLACEHOLDER.finditer(self.text))]

    def free_spans(self) -> list[Span]:
        """Return the maximal regions that may change, sorted; empty ones are insertion points.

        Insertion points are the ends of editable regions that touch protected text, such as the end of a
        prompt that ends with a placeholder.
        """
        allowed = [Span(0, len(self.text))] if self.editable is None else list(self.editable)
        locked = self.frozen_spans()
        pieces = {piece for region in allowed for piece in subtract(region, locked)}
        edges = {edge for region in allowed for edge in region}
        taken = {edge for piece in pieces for edge in piece}
        free = {Span(e, e) for e in edges - taken if not any(hole.start < e < hole.end for hole in self._frozen())}
        return sorted(pieces | free)


class MarkedPrompt(BaseModel):
    """A prompt with spans to edit: sorted, disjoint, and inside the regions that may change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt
    spans: tuple[Span, ...]

    @model_validator(mode="after")
    def _check(self) -> MarkedPrompt:
        _check_spans(self.spans, len(self.prompt.text))
        free = self.prompt.free_spans()
        for span in self.spans:
            if not any(region.start <= span.start and span.end <= region.end for region in free):
                raise ValueError(f"span {span.start}:{span.end} touches text that must be kept")
        return self

    def render(self) -> str:
        """Return the text with ``<edit>`` tags around the spans."""
        return render(self.prompt.text, self.spans)

    @property
    def tagged_fraction(self) -> float:
        """The share of the prompt's words that are in a span, 0 to 1 (0 for an empty prompt)."""
        words = len(self.prompt.text.split())
        tagged = sum(len(span.of(self.prompt.text).split()) for span in self.spans)
        return min(1.0, tagged / words) if words else 0.0


def merge(spans: Iterable[Span]) -> list[Span]:
    """Return the spans sorted, with overlapping and touching ones joined."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def subtract(region: Span, holes: Sequence[Span]) -> list[Span]:
    """Return the parts of ``region`` that are outside ``holes`` (sorted, disjoint).

    An empty region is returned unless it is strictly inside a hole.
    """
    if region.start == region.end:
        inside = any(hole.start < region.start < hole.end for hole in holes)
        return [] if inside else [region]
    pieces, start = [], region.start
    for hole in holes:
        if hole.end <= start or hole.start >= region.end:
            continue
        if hole.start > start:
            pieces.append(Span(start, hole.start))
        start = hole.end
    if start < region.end:
        pieces.append(Span(start, region.end))
    return pieces


def render(text: str, spans: Sequence[Span], tag: str = "edit") -> str:
    """Return ``text`` with ``<tag>`` around each span (sorted, disjoint)."""
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], f"<{tag}>", span.of(text), f"</{tag}>"]
        at = span.end
    return "".join([*parts, text[at:]])


def parse_tags(source: str) -> tuple[str, dict[str, list[Span]]]:
    """Remove the tags from ``source``.

    Returns the text without tags, and the spans of the tags under ``"edit"`` and ``"keep"``, in offsets of
    that text. Raises MarkupError on nested, unclosed, unopened or misspelt tags.
    """
    parts: list[str] = []
    spans: dict[str, list[Span]] = {"edit": [], "keep": []}
    opened: tuple[str, int] | None = None
    at = length = 0
    for match in TAG.finditer(source):
        parts.append(source[at : match.start()])
        length += match.start() - at
        at = match.end()
        opened = _step_tag(match, source, opened, spans, length)
    if opened:
        raise MarkupError(f"<{opened[0]}> is opened but never closed; add </{opened[0]}>")
    return "".join([*parts, source[at:]]), spans


def _step_tag(
    match: re.Match[str],
    source: str,
    opened: tuple[str, int] | None,
    spans: dict[str, list[Span]],
    length: int,
) -> tuple[str, int] | None:
    tag, where = match[0], f"line {source.count(chr(10), 0, match.start()) + 1}"
    if tag not in _GOOD_TAGS:
        raise MarkupError(f"{where}: {tag!r} is not a tag; write <edit>...</edit> or <keep>...</keep>")
    name = tag.strip("</>")
    if not tag.startswith("</"):
        if opened:
            raise MarkupError(f"{where}: {tag} inside <{opened[0]}>; tags cannot be nested")
        return name, length
    if not opened or opened[0] != name:
        raise MarkupError(f"{where}: {tag} closes nothing that is open")
    spans[name].append(Span(opened[1], length))
    return None


def parse_prompt(source: str, variables: Iterable[str] | None = None, *, to_change: bool = True) -> Prompt:
    """Read a prompt that may contain ``<edit>`` and ``<keep>`` tags.

    ``variables``: the variables that every row has; None skips the check of placeholders. Raises MarkupError
    for malformed tags, for unknown placeholders, and with ``to_change`` if no text may change.
    """
    text, spans = parse_tags(source)
    if not text.strip() and not spans["edit"]:
        raise MarkupError("the prompt is empty")
    editable = tuple(merge(spans["edit"])) if spans["edit"] else None
    prompt = Prompt(text=text, editable=editable, keep=tuple(merge(s for s in spans["keep"] if s.start < s.end)))
    if variables is not None:
        check_placeholders(text, frozenset(variables))
    by_hand = any(start == end for start, end in editable or ())
    if to_change and not by_hand and not any(span.of(text).strip() for span in prompt.free_spans()):
        raise MarkupError("nothing in the prompt may change: <keep> and placeholders cover all of it")
    return prompt


def check_placeholders(text: str, variables: frozenset[str]) -> None:
    """Raise MarkupError if ``text`` has a placeholder for which rows have no variable, or only escaped placeholders."""
    names = [match[1] for match in PLACEHOLDER.finditer(text)]
    for name in names:
        if name not in variables:
            known = ", ".join(sorted(variables))
            raise MarkupError(
                f"placeholder {{{name}}} names nothing in the data (rows have: {known}); "
                f"write {{{{{name}}}}} if the braces are meant as text"
            )
    doubled = [match[1] for match in ESCAPED.finditer(text) if match[1] in variables]
    if doubled and not names:
        raise MarkupError(f"{{{{{doubled[0]}}}}} is plain text; write {{{doubled[0]}}} for a placeholder")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders by ``values`` in one pass, so that values are never expanded themselves.

    ``{{name}}`` becomes the text ``{name}``. Raises KeyError for a placeholder without a value.
    """
    return _FILL.sub(lambda m: f"{{{m[1]}}}" if m[1] else values[m[2]], text)


def with_literal_names(text: str, names: Collection[str]) -> str:
    """Return the text with braces doubled around all names but these, so that only these are placeholders."""
    return _FILL.sub(lambda m: m[0] if m[1] or m[2] in names else f"{{{m[0]}}}", text)


def splice(marked: MarkedPrompt, replacements: Sequence[Replacement]) -> Prompt:
    """Return the prompt with the text of some spans replaced; all other text stays unchanged.

    The offsets of protected regions are adjusted. Raises EditRejected if a span index is unknown or given
    twice, or if the result would contain a tag or other placeholders than before.
    """
    new = _by_number(marked, replacements)
    prompt, parts, at = marked.prompt, [], 0
    for number, span in enumerate(marked.spans):
        if number in new:
            parts += [prompt.text[at : span.start], new[number]]
            at = span.end
    text = "".join([*parts, prompt.text[at:]])
    if TAG.search(text):
        raise EditRejected("the edit would write a tag into the prompt")
    shift = _shifts(marked, new)
    child = Prompt.model_construct(
        text=text,
        editable=None if prompt.editable is None else tuple(_moved(s, shift, grows=True) for s in prompt.editable),
        keep=tuple(_moved(s, shift, grows=False) for s in prompt.keep),
    )
    if child.placeholders != prompt.placeholders:
        raise EditRejected("the edit would add, remove or break a placeholder")
    return child


def _by_number(marked: MarkedPrompt, replacements: Sequence[Replacement]) -> dict[int, str]:
    new: dict[int, str] = {}
    for number, text in replacements:
        if not 0 <= number < len(marked.spans):
            raise EditRejected(f"there is no span {number}; the prompt has {len(marked.spans)}")
        if number in new:
            raise EditRejected(f"span {number} is replaced twice")
        new[number] = text
    return new


def _shifts(marked: MarkedPrompt, new: Mapping[int, str]) -> list[tuple[Span, int]]:
    return [(marked.spans[number], len(text)) for number, text in sorted(new.items())]


def _moved(region: Span, shifts: Sequence[tuple[Span, int]], *, grows: bool) -> Span:
    """Return the region in the child's offsets; with ``grows``, text inserted at its ends becomes part of it."""
    start, end = region
    for span, size in shifts:
        delta = size - (span.end - span.start)
        inside = grows and region.start <= span.start and span.end <= region.end
        if inside:
            end += delta
        elif span.end <= region.start:
            start, end = start + delta, end + delta
    return Span(start, end)


def outside(text: str, spans: Sequence[Span]) -> Iterator[str]:
    """Yield the pieces of ``text`` before, between and after the spans (some may be empty)."""
    at = 0
    for span in spans:
        yield text[at : span.start]
        at = span.end
    yield text[at:]


def is_local(marked: MarkedPrompt, child: str) -> bool:
    """Prove from the texts alone that ``child`` differs from the parent only inside the spans.

    True if the parent's pieces outside the spans occur in ``child`` unchanged and in order, the first at its
    start and the last at its end. Then ``child`` can be made from the parent by replacing the spans only. The
    check does not use :func:`splice`, so that it can verify it.
    """
    first, *rest = outside(marked.prompt.text, marked.spans)
    if not rest:
        return child == first
    *middle, last = rest
    if len(first) + len(last) > len(child) or not (child.startswith(first) and child.endswith(last)):
        return False
    at, limit = len(first), len(child) - len(last)
    for piece in middle:
        found = child.find(piece, at, limit)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def rewritten(prompt: Prompt, text: str) -> Prompt:
    """Return the prompt with ``text`` as its new text, and the offsets of protected regions adjusted.

    Raises EditRejected unless ``text`` contains all protected text, unchanged and in order.
    """
    return splice(*aligned(prompt, text))


def aligned(prompt: Prompt, text: str) -> tuple[MarkedPrompt, list[Replacement]]:
    """Return the prompt with all regions that may change marked, and the replacements that turn it into ``text``.

    Raises EditRejected as :func:`rewritten` does.
    """
    marked = MarkedPrompt(prompt=prompt, spans=tuple(prompt.free_spans()))
    first, *pieces = outside(prompt.text, marked.spans)
    lost = EditRejected("the new prompt changes text that must be kept, such as a placeholder")
    if not pieces or not text.startswith(first) or not is_local(marked, text):
        raise lost
    replacements, at = [], len(first)
    for number, piece in enumerate(pieces):
        found = len(text) - len(piece) if number == len(pieces) - 1 else text.find(piece, at)
        if found < at:
            raise lost
        replacements.append(Replacement(number, text[at:found]))
        at = found + len(piece)
    return marked, replacements


def _check_spans(spans: Sequence[Span], length: int) -> None:
    previous: Span | None = None
    for span in spans:
        if not 0 <= span.start <= span.end <= length:
            raise ValueError(f"span {span.start}:{span.end} is outside the text (0:{length})")
        if previous is not None and (span.start < previous.end or span == previous):
            raise ValueError(f"span {span.start}:{span.end} overlaps the one before it")
        previous = span
