"""Measures which phrases of a prompt help or hurt, by leaving each one out (signed ablation).

The influence of a phrase is the mean score with it minus the mean score without it, on the same examples:
positive if the phrase helps, negative if it hurts. (Word importance by deletion: Hackmann et al. 2024,
arXiv 2403.03028. They take absolute values; here the sign is kept, to tell harmful words from helpful ones.)
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from lpo_agent.core.messages import Effect, Mark
from lpo_agent.core.scores import paired
from lpo_agent.core.text import MarkedPrompt, Replacement, Span, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lpo_agent.core.scores import Scored, Unscored
    from lpo_agent.core.text import Prompt

LONGEST = 5
_PIECE = re.compile(r"[^\s.,;:!?\n]+(?:[ \t]+[^\s.,;:!?\n]+)*[.,;:!?]*|[.,;:!?]+")
_WORD = re.compile(r"\S+")
_JOINTS = {"and", "or", "but", "which", "that", "if", "when", "with", "for", "to", "in", "of", "as", "from", "by"}
_SENTENCE_END = re.compile(r"[.!?:](?=\s|$)|\n+")


def phrases(prompt: Prompt) -> list[Span]:
    """Return the text that may change as phrases of one to five words, in order.

    Phrases end after punctuation and before conjunctions and prepositions such as "and" or "with".
    """
    return [phrase for region in prompt.free_spans() for phrase in _phrases_in(prompt.text, region)]


def _phrases_in(text: str, region: Span) -> Iterator[Span]:
    for piece in _PIECE.finditer(text, region.start, region.end):
        words = [Span(*match.span()) for match in _WORD.finditer(text, *piece.span())]
        start = 0
        for at in range(1, len(words) + 1):
            full = at - start >= LONGEST
            joint = at < len(words) and at - start >= 2 and words[at].of(text).casefold() in _JOINTS
            if at == len(words) or full or joint:
                yield Span(words[start].start, words[at - 1].end)
                start = at


def sentences(prompt: Prompt) -> list[Span]:
    """Return the text that may change as sentences, without the white space around them, in order."""
    text, found = prompt.text, []
    for region in prompt.free_spans():
        ends = [match.end() for match in _SENTENCE_END.finditer(text, region.start, region.end)]
        for start, end in pairwise([region.start, *ends, region.end]):
            own = text[start:end]
            if own.strip():
                first = start + len(own) - len(own.lstrip())
                found.append(Span(first, first + len(own.strip())))
    return found


def instruction_span(prompt: Prompt) -> Span | None:
    """Return the longest text that may change, None if there is none.

    A last line that leads to a placeholder, such as "Question: {input}", is left out if there is text before it.
    """
    found = []
    for region in prompt.free_spans():
        own = region.of(prompt.text)
        if region.end < len(prompt.text) and "\n" in own.strip():
            own = own[: own.rindex("\n", 0, len(own.rstrip()))]
        first = region.start + len(own) - len(own.lstrip())
        found.append(Span(first, first + len(own.strip())))
    longest = max(found, key=lambda span: span.end - span.start, default=None)
    return longest if longest is not None and longest.start < longest.end else None


def insertion_points(prompt: Prompt) -> list[Span]:
    """Return the empty spans where text may be added: at the ends of free regions and after sentences, in order."""
    points = set()
    for region in prompt.free_spans():
        points |= {region.start, region.end}
        points |= {match.end() for match in _SENTENCE_END.finditer(prompt.text, region.start, region.end)}
    return [Span(point, point) for point in sorted(points)]


def without(prompt: Prompt, span: Span) -> Prompt | None:
    """Return the prompt without the span's text, None if that is not allowed or leaves nothing."""
    end = span.end + (prompt.text[span.end : span.end + 1] == " ")
    for cut in (Span(span.start, end), span):
        try:
            child = splice(MarkedPrompt(prompt=prompt, spans=(cut,)), [Replacement(0, "")])
        except (EditRejected, ValueError):
            continue
        return child if child.text.strip() else None
    return None


def effect(
    span: Span,
    whole: Mapping[str, Scored | Unscored],
    ablated: Mapping[str, Scored | Unscored],
    items: Sequence[str],
) -> Effect | None:
    """Return the influence of the phrase at ``span`` on ``items``, None if no item has a score with and without it."""
    differences = paired(whole, ablated, items)
    if not differences:
        return None
    return Effect(span=span, influence=sum(differences) / len(differences), n=len(differences))


def reranked(
    marks: Sequence[Mark], effects: Sequence[Effect], budget: int, drawn: Callable[[Mark], float] | None = None
) -> tuple[Mark, ...]:
    """Return the marks that are most worth editing by measured influence, at most ``budget`` (0: all), by position.

    Marks of words that help are left out, unless all marks are of such words. The others are ranked by
    ``drawn`` (highest first) or, without it, by influence (most harmful first). A mark that could not be
    measured, such as an insertion point, counts as influence 0.
    """
    found = {effect.span: effect for effect in effects}
    known = [_with_effect(mark, found.get(mark.span)) for mark in marks]
    open_to_change = [mark for mark in known if (mark.influence or 0.0) <= 0] or known
    order = drawn or (lambda mark: -(mark.influence or 0.0))
    worth = {mark.span: order(mark) for mark in open_to_change}
    ranked = sorted(open_to_change, key=lambda mark: (-worth[mark.span], mark.span))
    return tuple(sorted(ranked[: budget or None], key=lambda mark: mark.span))


def _with_effect(mark: Mark, effect: Effect | None) -> Mark:
    if effect is None:
        return mark
    reason = f"{mark.reason}; {describe(effect)}"
    return mark.model_copy(update={"influence": effect.influence, "reason": reason})


def describe(effect: Effect) -> str:
    """Return a measured influence in words."""
    verb = "hurts" if effect.influence < 0 else "helps" if effect.influence > 0 else "makes no difference"
    return f"{verb}: {effect.influence:+.2f} on {effect.n} items"
