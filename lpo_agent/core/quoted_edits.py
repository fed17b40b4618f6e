"""Turns an edit that quotes the words it changes into spans and texts of the prompt, with the white space they need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lpo_agent.core.editpool import fitted
from lpo_agent.core.quotation import find, lines_of
from lpo_agent.core.text import MarkedPrompt, Replacement, Span, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from lpo_agent.core.text import Prompt

Action = Literal["replace", "insert after", "insert before", "delete"]

_STOPS: Final = ".!?;:,"
_END: Final = re.compile(r"[.!?;:,]+[\"'\u201d\u2019)]*")
_LIST_ITEM = re.compile(r"\s*(?:[-*+#>]|\d+[.)])\s")


class QuotedEdit(NamedTuple):
    """An edit as a model describes it: what to do at a quotation from a line (numbered from 1), and the new texts.

    Without a quotation, the whole line is meant. ``line`` is None if none was named. ``aim``: the class of errors that
    it should mend.
    """

    line: int | None
    quote: str
    action: Action
    options: tuple[str, ...] = ()
    why: str = ""
    strategy: str = ""
    aim: str = ""


class Place(NamedTuple):
    """A span of the prompt, and the texts that may stand there instead."""

    span: Span
    options: tuple[str, ...]


def resolve(prompt: Prompt, edit: QuotedEdit) -> list[Place]:
    """Return where the edit belongs, with its new texts; raises EditRejected if that cannot be said for sure.

    Options that would break a placeholder or change nothing are left out; it is an error if none is left. An option
    that repeats a placeholder of the quotation keeps it. So one edit may have several places.
    """
    found: dict[Span, list[str]] = {}
    reason = "it has no new text"
    for option in ("",) if edit.action == "delete" else edit.options:
        try:
            span, text = _fitted(prompt, edit, option)
        except EditRejected as exc:
            reason = str(exc)
            continue
        found.setdefault(span, []).append(text)
    if not found:
        raise EditRejected(reason)
    return [Place(span, tuple(dict.fromkeys(texts))) for span, texts in found.items()]


def _fitted(prompt: Prompt, edit: QuotedEdit, option: str) -> tuple[Span, str]:
    text = prompt.text
    if edit.action in {"insert after", "insert before"}:
        span, new = _insertion(text, edit, option)
    elif edit.action == "delete" or not option.strip():
        span, new = _deletion(prompt, _with_end(text, _target(text, edit))), ""
    else:
        span, new = _target(text, edit), option.strip()
        if new[-1] in _STOPS and text[span.end : span.end + 1] in set(_STOPS):
            new = new.rstrip(_STOPS)
    if not _is_free(prompt, span):
        span, new = _trimmed(text, span, new)
    if not _is_free(prompt, span):
        raise EditRejected(f"{_at(edit)}: it would change a placeholder or text that must be kept")
    if span.of(text) == new:
        raise EditRejected(f"{_at(edit)}: it changes nothing")
    splice(MarkedPrompt(prompt=prompt, spans=(span,)), [Replacement(0, new)])
    return span, new


def _is_free(prompt: Prompt, span: Span) -> bool:
    return any(region.start <= span.start and span.end <= region.end for region in prompt.free_spans())


def _trimmed(text: str, span: Span, new: str) -> tuple[Span, str]:
    """Return the edit without what its two ends have in common with the text that it replaces."""
    old = span.of(text)
    least = min(len(old), len(new))
    ahead = next((n for n in range(least) if old[n] != new[n]), least)
    behind = next((n for n in range(least - ahead) if old[-1 - n] != new[-1 - n]), least - ahead)
    return Span(span.start + ahead, span.end - behind), new[ahead : len(new) - behind]


def _target(text: str, edit: QuotedEdit) -> Span:
    if edit.quote.strip():
        return find(text, edit.quote, edit.line)
    line = _line(text, edit)
    return _stripped(text, line)


def _line(text: str, edit: QuotedEdit) -> Span:
    lines = lines_of(text)
    if edit.line is None or not 1 <= edit.line <= len(lines):
        raise EditRejected(f"{_at(edit)}: there is no such line, and nothing is quoted")
    return lines[edit.line - 1]


def _stripped(text: str, span: Span) -> Span:
    own = span.of(text)
    start = span.start + len(own) - len(own.lstrip())
    return Span(start, max(start, span.start + len(own.rstrip())))


def _insertion(text: str, edit: QuotedEdit, option: str) -> tuple[Span, str]:
    """Return the insertion; beside a whole line without a quotation, and in lists, it gets a line of its own."""
    after, words = edit.action == "insert after", option.strip()
    if not words:
        raise EditRejected(f"{_at(edit)}: it adds nothing")
    if not edit.quote.strip():
        return _new_line(text, edit, words, after=after)
    span = find(text, edit.quote, edit.line)
    if after and (words[0].isupper() or words[-1] in _STOPS):  # a sentence goes after the end of the quoted one
        span = _to_stop(text, span)
    line = next(each for each in lines_of(text) if each.start <= (span.end if after else span.start) <= each.end)
    fills = _stripped(text, line) in {span, Span(_stripped(text, line).start, span.end)}
    own_line = option.startswith("\n") if after else option.rstrip(" \t").endswith("\n")
    if own_line or (fills and _LIST_ITEM.match(line.of(text))):
        return _beside(span.end if after else line.start, words, after=after)
    at = span.end if after else span.start
    new = fitted(text, at, words)
    return Span(at, at), new.rstrip(" ") if text[at : at + 1] in set(_STOPS) else new


def _new_line(text: str, edit: QuotedEdit, words: str, *, after: bool) -> tuple[Span, str]:
    lines = lines_of(text)
    if edit.line is None or edit.line > len(lines):
        return _beside(len(text.rstrip("\n")), words, after=True)
    if edit.line < 1:
        return _beside(0, words, after=False)
    line = lines[edit.line - 1]
    return _beside(line.end if after else line.start, words, after=after)


def _beside(at: int, words: str, *, after: bool) -> tuple[Span, str]:
    return Span(at, at), f"\n{words}" if after else f"{words}\n"


def _deletion(prompt: Prompt, span: Span) -> Span:
    """Return the span with the blank after it, or with its line end if it fills its line, as far as these may go."""
    text = prompt.text
    line = next(each for each in lines_of(text) if each.start <= span.start <= each.end)
    wider = [Span(span.start, span.end + 1)] if text[span.end : span.end + 1] == " " else []
    if span == _stripped(text, line):
        wider = [Span(line.start, line.end + 1), Span(line.start - 1, line.end), *wider]
    fitting = (each for each in wider if each.start >= 0 and each.end <= len(text) and _is_free(prompt, each))
    return next(fitting, span)


def _with_end(text: str, span: Span) -> Span:
    """Return the span of a whole sentence with the full stop after it, other spans as they are."""
    begins = text[: span.start].rstrip(" ")[-1:] in {"", "\n", *_STOPS}
    return _to_stop(text, span) if begins else span


def _to_stop(text: str, span: Span) -> Span:
    """Return the span with the punctuation that follows it directly."""
    stop = _END.match(text, span.end)
    return span if stop is None else Span(span.start, stop.end())


def _at(edit: QuotedEdit) -> str:
    return "an edit without a line" if edit.line is None else f"line {edit.line}"
