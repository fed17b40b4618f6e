"""What a proposal did to its parent: tags, leakage, length, repetition. Pure functions of the texts.

The paper reports none of these; without them nobody can tell a local edit from a rewrite.
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


class Measures(BaseModel):
    """Measures of one proposal; the first five are None where nothing was tagged.

    ``tags``: spans tagged; ``tag_words``: mean words in a tag; ``tagged_fraction``: share of the
    parent's words inside tags. ``local``: proved byte for byte that all untagged text is there,
    unchanged and in order. ``leakage``: share of the untagged words that changed, 0 to 1, exactly 0
    where ``local``. ``changed``: share of the parent's words that changed, wherever they stood.
    ``length_ratio``: words of the proposal over words of the parent. ``repetition``: share of the
    proposal's runs of three words that occurred before in it.
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

    Words are aligned by longest common blocks (Ratcliff and Obershelp, as in difflib). Untagged
    words that are gone count, and so do words added where no tag is near.
    """
    tagged, open_at = _tagged(marked)
    return _share(_edits(old, new, tagged, open_at), tagged.count(False))


def _tagged(marked: MarkedPrompt) -> tuple[list[bool], list[bool]]:
    """Return for each word whether it is in a tag, and for each gap whether words may be added there."""
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
    """Count the words that were changed without leave."""
    count = 0
    for what, i, j, k, m in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        gone = sum(not tagged[n] for n in range(i, j))
        free = any(open_at[i : j + 1])
        count += gone if free else max(gone, m - k)
    return count


def _share(count: int, words: int) -> float:
    return min(1.0, count / words) if words else float(count > 0)


def repetition(text: str) -> float:
    """Return the share of runs of three words that stood earlier in the text, 0 to 1."""
    words = text.casefold().split()
    grams = [tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is not None, None if that is nothing; the order does not matter."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
