"""What changed between two prompts, word by word, and where a marked prompt may change."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rich.text import Text

from lpo_agent.cli.words import visible
from lpo_agent.core.text import parse_tags
from lpo_agent.errors import MarkupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TOKEN: Final = re.compile(r"\w+|\s+|[^\w\s]")

Kind = Literal["same", "gone", "new"]


class Piece(NamedTuple):
    """A run of text that two prompts share, that the new one lacks, or that it adds."""

    kind: Kind
    text: str


def word_diff(old: str, new: str) -> list[Piece]:
    """Return how ``new`` comes from ``old``, word by word.

    The texts of the pieces that are not "new" add up to ``old``, of those that are not "gone" to ``new``.
    """
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    pieces: list[Piece] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(a[i:j])))
        else:
            pieces += [Piece("gone", "".join(a[i:j])), Piece("new", "".join(b[k:m]))]
    return list(_tidy([piece for piece in pieces if piece.text]))


def _tidy(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join changes that only white space keeps apart."""
    gone = new = ""
    for number, (kind, text) in enumerate(pieces):
        inside = gone + new and number + 1 < len(pieces)
        if kind == "same" and not (inside and not text.strip() and "\n" not in text):
            yield from _change(gone, new)
            gone = new = ""
            yield Piece(kind, text)
            continue
        gone += text if kind != "new" else ""
        new += text if kind != "gone" else ""
    yield from _change(gone, new)


def _change(gone: str, new: str) -> Iterator[Piece]:
    yield from (piece for piece in (Piece("gone", gone), Piece("new", new)) if piece.text)


def diff_text(old: str, new: str, *, colour: bool) -> Text:
    """Return the word diff: in colour, or as ``[-gone-]`` and ``{+new+}``."""
    styles = {"same": "", "gone": "red strike", "new": "bold green"}
    signs = {"same": ("", ""), "gone": ("[-", "-]"), "new": ("{+", "+}")}
    text = Text()
    for kind, part in word_diff(old, new):
        before, after = ("", "") if colour else signs[kind]
        text.append(f"{before}{visible(part)}{after}", styles[kind] if colour else "")
    return text


def marked_text(marked: str, *, colour: bool) -> Text:
    """Return a prompt with ``<edit>`` tags, the tagged spans highlighted."""
    if not colour:
        return Text(visible(marked))
    try:
        plain, spans = parse_tags(marked)
    except MarkupError:
        return Text(visible(marked))
    text, at = Text(), 0
    for span in spans["edit"]:
        text.append(visible(plain[at : span.start]))
        text.append("<edit>", "dim")
        text.append(visible(span.of(plain)), "black on yellow")
        text.append("</edit>", "dim")
        at = span.end
    return text.append(visible(plain[at:]))
