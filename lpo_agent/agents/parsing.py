"""Parses the replies of models. A reply that does not have the requested form raises ReplyError, without guessing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lpo_agent.core.quotation import moved, same
from lpo_agent.core.text import Span, merge, parse_tags, subtract
from lpo_agent.errors import MarkupError, ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpo_agent.core.text import Prompt

_FENCE = re.compile(r"(```|~~~~)[a-zA-Z]*\n(.*?)\n?\1", re.DOTALL)
_OUTER_FENCE = re.compile(r"(```|~~~~)[a-zA-Z]*\n(.*)\n\1", re.DOTALL)
_SLOT = re.compile(r'<slot number="(\d+)">(.*?)</slot>', re.DOTALL)
_OPTION = re.compile(r"<option>(.*?)</option>", re.DOTALL)


def tagged_spans(reply: str, prompt: Prompt) -> list[Span]:
    """Return the tagged spans from a reply that repeats the prompt with ``<edit>`` tags.

    The reply must equal the prompt after its tags are removed, apart from case, white space, and the kinds of quotes
    and dashes, which models change when they repeat a text. A fence around it is allowed. Parts of spans that are
    protected in the prompt are cut out. Raises ReplyError for other replies, and if no span is left.
    """
    core = prompt.text.strip()
    offset = prompt.text.find(core)
    for text in _readings(reply):
        try:
            plain, spans = parse_tags(text)
        except MarkupError as exc:
            raise ReplyError(f"the tags are malformed: {exc}") from None
        if plain.strip() == core:
            shift = offset - plain.find(core)
            return _cut([Span(s.start + shift, s.end + shift) for s in spans["edit"]], prompt)
        if same(plain, core):
            return _cut(moved(prompt.text, spans["edit"], plain), prompt)
    raise ReplyError(
        "without its tags the reply is not the prompt; repeat it, character for character, and only add tags"
    )


def _readings(reply: str) -> Iterator[str]:
    """Yield the reply, what its fences hold, and what stands between its first and its last fence."""
    yield reply
    for pattern in (_FENCE, _OUTER_FENCE):
        for match in pattern.finditer(reply):
            yield match[2]


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
    """Parse proposals of the form ``<option><slot number="1">text</slot>...</option>``.

    Returns one mapping from slot to text for each option. Slot numbers start at 1 in replies and at 0 in the
    result. Options without a slot, or with an unknown slot number, are ignored. Raises ReplyError if none is
    left.
    """
    options = []
    for option in _OPTION.finditer(reply):
        filled = {int(number) - 1: text for number, text in _SLOT.findall(option[1])}
        if filled and all(0 <= number < slots for number in filled):
            options.append(filled)
    if not options:
        raise ReplyError("no <option> with a known <slot> was found")
    return options


_PROMPT = re.compile(r"<prompt>(.*?)</prompt>", re.DOTALL | re.IGNORECASE)
_REASON = re.compile(r"<reason>(.*?)</reason>", re.DOTALL)
_PAIR = re.compile(r"<edit>.*?</edit>", re.DOTALL)


def ruled_spans(reply: str, prompt: Prompt, *, count: int, words: int, check: str) -> list[Span]:
    """Return the spans of a tagged prompt, checked by the paper's rules (Jain and Chowdhary 2025, Figure 2).

    ``check`` "strict": at most ``count`` spans (0: no limit) of at most ``words`` words each, and in a longer
    prompt not all words may be tagged. "text": only the checks of :func:`tagged_spans`. "off": the reply needs
    one pair of tags only, and if it is not the prompt, the result is empty. Raises ReplyError.
    """
    if check == "off":
        if not _PAIR.search(reply):
            raise ReplyError("it holds no <edit>...</edit>")
        try:
            return tagged_spans(reply, prompt)
        except ReplyError:
            return []
    spans = tagged_spans(reply, prompt)
    if check == "strict":
        _check_rules(spans, prompt, count, words)
    return spans


def _check_rules(spans: list[Span], prompt: Prompt, count: int, words: int) -> None:
    text = prompt.text
    if count and len(spans) > count:
        raise ReplyError(f"{len(spans)} pairs of tags are used; at most {count} are allowed")
    longest = max(len(span.of(text).split()) for span in spans)
    if longest > words:
        raise ReplyError(
            f"a tag, or several with nothing between them, holds {longest} words; at most {words} may stand in one"
        )
    tagged, taggable = _words(spans, text), _words(prompt.free_spans(), text)
    if tagged >= taggable > words:
        raise ReplyError("the tags cover every word; leave some outside of tags")


def _words(spans: list[Span], text: str) -> int:
    return sum(len(span.of(text).split()) for span in spans)


def new_prompts(reply: str) -> list[str]:
    """Return the new prompts between ``<prompt>`` tags, or the whole reply as one prompt if there are no such tags.

    A code fence or quotes around the whole reply, and ``<edit>`` tags, are removed. Raises ReplyError if
    those tags are malformed or no text is left.
    """
    blocks = _PROMPT.findall(reply) or [_unwrapped(reply)]
    texts = []
    for block in blocks:
        try:
            text, _ = parse_tags(block.strip())
        except MarkupError as exc:
            raise ReplyError(f"the new prompt holds tags: {exc}") from None
        if text.strip():
            texts.append(text.strip())
    if not texts:
        raise ReplyError("the new prompt is empty")
    return texts


def tagged_prompts(reply: str) -> list[str]:
    """Return the new prompts between ``<prompt>`` tags, or in a code fence if there is one and no tags.

    Raises ReplyError for a reply without them: what a model says about a prompt must not become one.
    """
    if _PROMPT.search(reply):
        return new_prompts(reply)
    fences = [match[2].strip() for match in _FENCE.finditer(reply) if match[2].strip()]
    if len(fences) != 1:
        raise ReplyError("it holds no new prompt between <prompt> and </prompt>")
    return fences


def _unwrapped(reply: str) -> str:
    text = reply.strip().removeprefix("<prompt>").removesuffix("</prompt>").strip()
    if fence := _FENCE.fullmatch(text):
        text = fence[2].strip()
    for quote in ('"', "'", "\u201c"):
        other = "\u201d" if quote == "\u201c" else quote
        inner = text[1:-1]
        if len(text) > 1 and text[0] == quote and text[-1] == other and quote not in inner and other not in inner:
            return inner
    return text


def reasons(reply: str) -> list[str]:
    """Return the reasons between ``<reason>`` tags, or the whole reply as one reason if there are no such tags."""
    found = [text for match in _REASON.findall(reply) if (text := match.strip())]
    return found or [reply.strip()]
