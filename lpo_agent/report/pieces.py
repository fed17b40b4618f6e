"""The difference between two prompts, as pieces of text that are the same, gone or new."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.result import EditResult

_TOKEN: Final = re.compile(r"\s+|\w+|[^\w\s]")
MAX_EXACT: Final = 3000
"""With more tokens than this, difflib ignores frequent tokens such as blanks (autojunk): much faster, less exact."""


class Piece(NamedTuple):
    """A piece of text: in both prompts ("same"), in the old one only ("gone") or in the new one only ("new").

    ``edit``: the index in the result's edits of the edit that it belongs to, None if not known.
    """

    kind: Literal["same", "gone", "new"]
    text: str
    edit: int | None = None


def pieces_of(old: str, new: str, edits: Sequence[EditResult]) -> tuple[Piece, ...]:
    """Return the difference between two prompts, from the ``edits`` if they lead from old to new, else word by word.

    The pieces that are not "new" add up to ``old``, and those that are not "gone" add up to ``new``.
    """
    for found in (_by_edits(old, edits), tuple(_by_words(old, new))):
        if _join(found, "new") == old and _join(found, "gone") == new:
            return found
    raise AssertionError("a word diff contains both texts")


def _join(pieces: Sequence[Piece], without: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind != without)


def _by_edits(old: str, edits: Sequence[EditResult]) -> tuple[Piece, ...]:
    pieces, at = [], 0
    for number, edit in sorted(enumerate(edits), key=lambda pair: (pair[1].start, pair[1].end)):
        pieces.append(Piece("same", old[at : edit.start]))
        pieces += _change(old[edit.start : edit.end], edit.new, number)
        at = edit.end
    return tuple(piece for piece in [*pieces, Piece("same", old[at:])] if piece.text)


def _by_words(old: str, new: str) -> Iterator[Piece]:
    """Yield a word diff in which changes that only blanks separate are joined."""
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    gone = added = ""
    for what, i, j, k, m in SequenceMatcher(None, a, b, autojunk=len(a) + len(b) > MAX_EXACT).get_opcodes():
        kept = "".join(a[i:j])
        if what == "equal" and not (gone + added and not kept.strip() and "\n" not in kept and j < len(a)):
            yield from _change(gone, added)
            gone = added = ""
            yield Piece("same", kept)
        else:
            gone += kept
            added += "".join(b[k:m])
    yield from _change(gone, added)


def _change(gone: str, added: str, edit: int | None = None) -> Iterator[Piece]:
    lead, gone, added, tail = split_shared_blanks(gone, added)
    parts = (Piece("same", lead), Piece("gone", gone, edit), Piece("new", added, edit), Piece("same", tail))
    yield from (part for part in parts if part.text)


def split_shared_blanks(gone: str, added: str) -> tuple[str, str, str, str]:
    """Return the blanks that both texts begin with, the rest of each text, and the blanks that both end with."""
    lead = _shared_blanks(gone, added)
    gone, added = gone[len(lead) :], added[len(lead) :]
    tail = _shared_blanks(gone[::-1], added[::-1])[::-1]
    return lead, gone.removesuffix(tail), added.removesuffix(tail), tail


def _shared_blanks(one: str, other: str) -> str:
    return "".join(
        a for a, _ in takewhile(lambda pair: pair[0] == pair[1] and pair[0].isspace(), zip(one, other, strict=False))
    )
