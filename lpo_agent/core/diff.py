"""Measures how a proposed prompt differs from its parent: tags, leakage, length, repetition.

All measures are functions of the two texts and the tags. The LPO paper reports none of them, but they are
needed to tell a local edit from a rewrite of the whole prompt.
"""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lpo_agent.core.text import MarkedPrompt, is_local

if TYPE_CHECKING:
    from collections.abc import Sequence

GRAM = 3
MANY_WORDS = 2000
"""In longer prompts, frequent words are compared only beside rarer ones, because that takes seconds otherwise."""


class Measures(BaseModel):
    """Measures of one proposal; the first five are None if nothing was tagged.

    ``tags``: number of tagged spans; ``tag_words``: mean number of words in a tag; ``tagged_fraction``: share
    of the parent's words that are inside tags. ``local``: whether all untagged text of the parent is in the
    proposal, unchanged and in order (see :func:`lpo_agent.core.text.is_local`). ``leakage``: share of the
    untagged words that changed, 0 to 1, and exactly 0 if ``local``. ``changed``: share of the parent's words
    that changed, tagged or not. ``length_ratio``: words of the proposal divided by words of the parent.
    ``repetition``: share of the proposal's word trigrams that occurred earlier in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tags: int | None
    tag_words: float | None
    tagged_fraction: float | None
    local: bool | None
    leakage: float | None
    changed: float
    length_ratio: float
    repetition: float


def measure(parent: str, child: str, marked: MarkedPrompt | None) -> Measures:
    """Return the measures of ``child`` against ``parent``; ``marked`` is the parent with its tags, if any."""
    old, new = parent.split(), child.split()
    local = None if marked is None else is_local(marked, child)
    spans = () if marked is None else marked.spans
    words = [len(span.of(parent).split()) for span in spans]
    return Measures(
        tags=None if marked is None else len(spans),
        tag_words=None if marked is None else sum(words) / len(words) if words else 0.0,
        tagged_fraction=None if marked is None else marked.tagged_fraction,
        local=local,
        leakage=None if marked is None else 0.0 if local else _leakage(marked, old, new),
        changed=_share(_edits(old, new, [False] * len(old), [False] * (len(old) + 1)), len(old)),
        length_ratio=len(new) / len(old) if old else 1.0,
        repetition=repetition(child),
    )


def _leakage(marked: MarkedPrompt, old: Sequence[str], new: Sequence[str]) -> float:
    """Return the share of untagged words that changed.

    Words are aligned by longest common blocks (Ratcliff and Obershelp, as in difflib). Removed untagged
    words count, and so do words that were added at a place that touches no tag.
    """
    tagged, open_at = _tagged(marked)
    return _share(_edits(old, new, tagged, open_at), tagged.count(False))


def _tagged(marked: MarkedPrompt) -> tuple[list[bool], list[bool]]:
    """Return for each word whether it is in a tag, and for each gap between words whether it touches a tag."""
    text, words = marked.prompt.text, marked.prompt.text.split()
    tagged, open_at, at = [False] * len(words), [False] * (len(words) + 1), 0
    starts = []
    for word in words:
        at = text.index(word, at)
        starts.append(at)
        at += len(word)
    for span in marked.spans:
        inside = [i for i, s in enumerate(starts) if s < span.end and s + len(words[i]) > span.start]
        first = inside[0] if inside else sum(s < span.start for s in starts)
        for i in inside:
            tagged[i] = True
        for gap in range(first, first + len(inside) + 1):
            open_at[gap] = True
    return tagged, open_at


def _edits(old: Sequence[str], new: Sequence[str], tagged: Sequence[bool], open_at: Sequence[bool]) -> int:
    """Return the number of words that were changed outside of tags."""
    count = 0
    matcher = SequenceMatcher(a=old, b=new, autojunk=len(old) > MANY_WORDS)
    for what, i, j, k, m in matcher.get_opcodes():
        if what == "equal":
            continue
        removed = sum(not tagged[n] for n in range(i, j))
        free = any(open_at[i : j + 1])
        count += removed if free else max(removed, m - k)
    return count


def _share(count: int, words: int) -> float:
    return min(1.0, count / words) if words else float(count > 0)


def repetition(text: str) -> float:
    """Return the share of word trigrams that occurred earlier in the text, 0 to 1."""
    words = text.casefold().split()
    grams = [tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None, None if all are; the order of the values does not matter."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
