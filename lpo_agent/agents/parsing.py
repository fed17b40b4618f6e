"""Reading what models reply: strict, pure, and never guessing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lpo_agent.core.text import Span, merge, parse_tags, subtract
from lpo_agent.errors import MarkupError, ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpo_agent.core.text import Prompt

_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)\n?```", re.DOTALL)
_SLOT = re.compile(r'<slot number="(\d+)">(.*?)</slot>', re.DOTALL)
_OPTION = re.compile(r"<option>(.*?)</option>", re.DOTALL)


def tagged_spans(reply: str, prompt: Prompt) -> list[Span]:
    """Read the spans from a reply that repeats the prompt with ``<edit>`` tags.

    The reply counts only if it is the prompt, character for character, once its tags are gone
    (white space around it and one code fence are forgiven). Spans are cut where the prompt is
    protected. Raises ReplyError otherwise, or when no span is left.
    """
    core = prompt.text.strip()
    offset = prompt.text.find(core)
    for text in _readings(reply):
        try:
            plain, spans = parse_tags(text)
        except MarkupError as exc:
            raise ReplyError(f"the tags are malformed: {exc}") from None
        shift = offset - plain.find(core) if plain.strip() == core else None
        if shift is not None:
            return _cut([Span(s.start + shift, s.end + shift) for s in spans["edit"]], prompt)
    raise ReplyError("without its tags the reply is not the prompt, character for character")


def _readings(reply: str) -> Iterator[str]:
    yield reply
    for match in _FENCE.finditer(reply):
        yield match[1]


def _cut(spans: list[Span], prompt: Prompt) -> list[Span]:
    inside = [Span(max(0, s.start), min(len(prompt.text), s.end)) for s in spans]
    locked = prompt.frozen_spans()
    pieces = [piece for span in merge(s for s in inside if s.start <= s.end) for piece in subtract(span, locked)]
    free = prompt.free_spans()
    kept = [
        Span(max(p.start, f.start), min(p.end, f.end))
        for p in pieces
        for f in free
        if max(p.start, f.start) < min(p.end, f.end) or (p.start == p.end and f.start <= p.start <= f.end)
    ]
    unique = sorted(set(kept))
    if not unique:
        raise ReplyError("no tagged text may be edited")
    return unique


def slot_options(reply: str, slots: int) -> list[dict[int, str]]:
    """Read proposals of the form ``<option><slot number="1">text</slot>...</option>``.

    Slot numbers are 1-based in replies, 0-based in the result; options without a single slot and
    options that name an unknown slot are dropped. Raises ReplyError if none is left.
    """
    options = []
    for option in _OPTION.finditer(reply):
        filled = {int(number) - 1: text for number, text in _SLOT.findall(option[1])}
        if filled and all(0 <= number < slots for number in filled):
            options.append(filled)
    if not options:
        raise ReplyError("no <option> with a known <slot> was found")
    return options
