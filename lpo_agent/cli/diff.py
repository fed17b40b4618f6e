"""Shows the word-by-word difference of two prompts, and the spans of a marked prompt, for the terminal."""

from __future__ import annotations

from rich.text import Text

from lpo_agent import parse_tags
from lpo_agent.cli.words import visible
from lpo_agent.errors import MarkupError
from lpo_agent.report import pieces_of


def diff_text(old: str, new: str, *, colour: bool) -> Text:
    """Return the word diff: in colour, or as ``[-gone-]`` and ``{+new+}``."""
    styles = {"same": "", "gone": "red strike", "new": "bold green"}
    signs = {"same": ("", ""), "gone": ("[-", "-]"), "new": ("{+", "+}")}
    text = Text()
    for kind, part, _ in pieces_of(old, new, ()):
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
