"""Reads JSON from the replies of models, which wrap it into prose or fences, or are cut off in the middle."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_THOUGHT = re.compile(r"\A\s*<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_COMMA = re.compile(r",(\s*[}\]])")


def spoken(reply: str) -> str:
    """Return a reply without the reasoning that some models put before it, between tags such as ``<think>``.

    Nothing is left of a reply that was cut off while the model reasoned.
    """
    text = _THOUGHT.sub("", reply)
    end = _THOUGHT_END.search(text)
    if end is not None and not _THOUGHT_START.search(text, 0, end.start()):
        text = text[end.end() :]  # chat templates may hold the opening tag
    return text.strip() if text != reply else reply


def objects(reply: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a reply, the outermost that can be read, in order.

    Text around them, trailing commas and single quotes do no harm. Of a reply that was cut off, the objects that were
    finished before are returned.
    """
    return list(_readable(reply, _spans(reply)))


def _spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each pair of braces, the inner ones first."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    at, quoted = 0, False
    while at < len(text):
        letter = text[at]
        if quoted and letter == "\\":
            at += 1
        elif letter == '"' and opened:
            quoted = not quoted
        elif not quoted and letter == "{":
            opened.append(at)
        elif not quoted and letter == "}" and opened:
            found.append((opened.pop(), at + 1))
        at += 1
    return found


def _readable(text: str, spans: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Yield the outermost objects that can be read."""
    end = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end and (found := _loaded(text[start:stop])) is not None:
            end = stop
            yield found


def _loaded(text: str) -> dict[str, Any] | None:
    for attempt in (text, _COMMA.sub(r"\1", text)):
        with suppress(ValueError, RecursionError):
            found = json.loads(attempt, strict=False)
            return found if isinstance(found, dict) else None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        found = ast.literal_eval(text)
        return found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else None
    return None


def items(found: Iterable[dict[str, Any]], name: str, marks: frozenset[str]) -> list[dict[str, Any]]:
    """Return the objects in lists with this name, and objects that stand alone and have one of the keys ``marks``."""
    result: list[dict[str, Any]] = []
    for each in found:
        inner = each.get(name)
        if isinstance(inner, list):
            result += [one for one in inner if isinstance(one, dict)]
        elif marks & each.keys():
            result.append(each)
    return result


def words_of(value: object) -> str:
    """Return a value as text, empty for None and for lists and objects."""
    return "" if value is None or isinstance(value, (list, dict)) else str(value)


def number_of(value: object) -> int | None:
    """Return a whole number, also from a text such as "line 12", None if there is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return int(value) if value == value and abs(value) < 1e9 else None  # noqa: PLR0124 - not a number is not itself
    digits = re.search(r"\d{1,9}", value) if isinstance(value, str) else None
    return int(digits[0]) if digits else None
