"""A pool of edits: which of them can stand together, and the prompt that a set of them makes.

An edit puts a text at a place, a span of the seed prompt's exact text. Edits at disjoint places compose exactly, so a
prompt is a set of edits. Edits at overlapping places exclude each other, and no text stands twice in a prompt. Short
instructions that were made to stand side by side may share an insertion point, unlike other texts at one place: else a
prompt of one sentence could take up two or three of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core.edits import Edit, applied
from lpo_agent.core.text import PLACEHOLDER, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lpo_agent.core.posterior import Term
    from lpo_agent.core.text import Prompt


LETTERS: Final = 6
"""About how many characters a word has, with the space after it."""


@dataclass(frozen=True, slots=True)
class PoolEdit:
    """An edit of the seed prompt: ``text`` replaces what stands at ``span``.

    ``core``: the text apart from the white space around it; the same core at two places is the same instruction.
    ``theme``: what the edit is about, shared by edits that should do about the same; empty for no theme. ``source``:
    who made it. ``stacks``: it may share its insertion point. ``rank``: its position among those that do.
    ``alone``: at most one edit of this group is in a prompt.
    """

    span: Span
    text: str
    source: str
    theme: str = ""
    core: str = ""
    stacks: bool = False
    rank: int = 0
    alone: str = ""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the posterior that a prompt with this edit holds."""
        own: tuple[Term, ...] = (("edit", *self.span, self.text),)
        if self.core:
            own = (*own, ("text", self.core))
        return (*own, ("theme", self.theme)) if self.theme else own

    @property
    def growth(self) -> int:
        """About how many words longer it makes the prompt; negative for a deletion."""
        return len(self.text.split()) - (self.span.end - self.span.start) // LETTERS


def excludes(one: PoolEdit, other: PoolEdit) -> bool:
    """Return whether two edits cannot be in one prompt."""
    if (one.core and one.core == other.core) or (one.alone and one.alone == other.alone):
        return True
    if one.span.start == one.span.end or other.span.start == other.span.end:
        if one.span == other.span:
            return not (one.stacks and other.stacks)
        return _inside(one.span, other.span) or _inside(other.span, one.span)
    return max(one.span.start, other.span.start) < min(one.span.end, other.span.end)


def _inside(point: Span, span: Span) -> bool:
    return point.start == point.end and span.start < point.start < span.end


def joined(edits: Iterable[PoolEdit]) -> list[Edit]:
    """Return compatible edits in the order of their places, those at one insertion point as one edit."""
    ordered = sorted(edits, key=lambda each: (each.span, each.rank, each.text))
    found: dict[Span, str] = {}
    for each in ordered:
        found[each.span] = found.get(each.span, "") + each.text
    return [Edit(span, text) for span, text in found.items()]


def compose(seed: Prompt, edits: Iterable[PoolEdit]) -> Prompt:
    """Return the seed prompt with compatible edits; raises EditRejected if they would break a placeholder."""
    return applied(seed, joined(edits))


def fitted(text: str, at: int, words: str) -> str:
    """Return ``words`` with the white space that an insertion at offset ``at`` of ``text`` needs.

    Beside a placeholder that has its line for itself, they get a line of their own.
    """
    before, after = text[:at], text[at:]
    if not before or before.endswith("\n"):
        return words + ("" if not after or after[0] == "\n" else "\n" if PLACEHOLDER.match(after) else " ")
    if before.endswith("}") and (not after or after[0] == "\n"):
        return f"\n{words}"
    return f"{'' if before[-1].isspace() else ' '}{words}{'' if not after or after[0].isspace() else ' '}"


def compatible(chosen: Sequence[PoolEdit], other: PoolEdit) -> bool:
    """Return whether ``other`` can be added to edits that were chosen."""
    return not any(excludes(each, other) for each in chosen)
