"""Which words of a prompt matter, and in which direction: phrases, and what leaving each out does.

The measure is signed leave-one-out on examples: positive where the phrase helps, negative where it
hurts. (Word importance by deletion: Hackmann et al. 2024, arXiv 2403.03028, which takes absolute
values; the sign is what tells harmful words from helpful ones.)
"""

from __future__ import annotations

import re
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
    """Return the free text as phrases of one to five words, in order.

    Phrases end at punctuation and before small joining words; punctuation belongs to its phrase.
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


def insertion_points(prompt: Prompt) -> list[Span]:
    """Return the empty spans where text may be added: region ends and after sentences, in order."""
    points = set()
    for region in prompt.free_spans():
        points |= {region.start, region.end}
        points |= {match.end() for match in _SENTENCE_END.finditer(prompt.text, region.start, region.end)}
    return [Span(point, point) for point in sorted(points)]


def without(prompt: Prompt, span: Span) -> Prompt | None:
    """Return the prompt with the span's text left out, or None where that is not allowed."""
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
    """Return what the phrase at ``span`` is worth on ``items``, or None if nothing was scored twice."""
    differences = paired(whole, ablated, items)
    if not differences:
        return None
    return Effect(span=span, influence=sum(differences) / len(differences), n=len(differences))


def reranked(
    marks: Sequence[Mark], effects: Sequence[Effect], budget: int, drawn: Callable[[Mark], float] | None = None
) -> tuple[Mark, ...]:
    """Return the marks that are worth editing by what was measured, at most ``budget`` (0: all), by position.

    Words that help are left alone as long as others are marked; then the most harmful come first, or
    those with the highest ``drawn``. What could not be measured, such as a place for new words, counts
    as making no difference.
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
    """Return in words what a phrase was measured to be worth."""
    verb = "hurts" if effect.influence < 0 else "helps" if effect.influence > 0 else "makes no difference"
    return f"{verb}: {effect.influence:+.2f} on {effect.n} items"
