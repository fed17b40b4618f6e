"""What keeps proposals sane: no swelling, no stuttering, no broken text, no copied examples.

All limits are measured against the seed prompt: what it has itself is never held against a proposal.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core.demos import TIGHT, size, without_blocks
from lpo_agent.core.diff import repetition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt

GROWTH = (3, 80)
"""A prompt may have this many times the seed's words, or this many more, whichever is more."""
MORE_REPETITION = 0.25
SHORT = 12
RUN, WHOLE = 6, 4
"""This many words in succession are copying, and this many if they are all of an input.

Of scripts without spaces, twice as many letters.
"""
COMMON = (3, 0.2)
"""What stands in this many rows, and in this share of them, belongs to the task and not to a row."""

_PUNCTUATION = (
    r"\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40"
    r"\uff5b-\uff65\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965"
)
_WORD = re.compile(rf"[^{_PUNCTUATION}{TIGHT}]+")
_TIGHT = re.compile(f"[{TIGHT}]")
_CODE = re.compile(r"(`{3,}|~{3,}).*?\1|(`+)[^\n]+?\2", re.DOTALL)
_FENCE = re.compile(r"^\s*(?:[-*+>]\s+)*(```|~~~)", re.MULTILINE)
_DOUBLED = re.compile(r"(?<![\w\-\\'\u2019@#$/.<])([a-z]{2,})[ \t]+\1(?![\w\-'\u2019(=])", re.IGNORECASE)
_MAY_DOUBLE = {"had", "that", "very", "long", "ha", "no", "bye", "so", "really", "blah", "never", "many", "far", "more"}
_MAY_DOUBLE |= {"again", "nous", "vous", "dat", "die", "der", "das", "true", "false"}
_STUTTER = (
    re.compile(r"[,\u060c][ \t]*[,\u060c](?=\s|$)|[\uff0c\u3001][ \t]*[\uff0c\u3001]"),
    re.compile(r"(?<=[^\s./\\])\.\.(?![.\w/\\+\-$])|(?<!\u3002)\u3002\u3002(?!\u3002)"),
    re.compile(r"(?<=[^\s.])[ \t]?\.[ \t]+\.(?![ \t]*\.|\w|/)"),
    re.compile(r"[,\u060c][ \t]*\.(?![ \t]*\.|\w|/)|\uff0c\u3002|\u3002\uff0c"),
)
_PAIRS = ("()", "[]", "{}", "\uff08\uff09", "\u300c\u300d", "\u300e\u300f", "\u3010\u3011", "\u300a\u300b")
_QUOTES = ('"', "\u201c\u201d\u201e\u201f", "\u00ab\u00bb", "`")
_ESCAPES = re.compile(r"\\(?:left|right)?[()\[\]{}\"`.|]")
_INTERVAL = re.compile(r"[\[(][^\s,()\[\]]+,[ \t]*[^\s,()\[\]]+[\])]")
_ITEM = re.compile(r"(?:^|[\s,;:*])(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})$|(?:^|\s)[:;=]['\-]?$")
_SMILE = re.compile(r"(?:^|\s)[:;=]['\-]?$")
_INCH = re.compile(r"(?<=\d)\"")


@dataclass(frozen=True, slots=True)
class Guards:
    """The limits of one run.

    ``flaws``: kinds of broken text that the seed has already. ``runs``: hashes of runs of words that
    stand in training rows, and neither in the seed, nor in answers that several rows have, nor in
    many rows.
    """

    most_words: int
    most_repetition: float
    flaws: frozenset[str]
    runs: frozenset[int]

    @classmethod
    def of(cls, seed: Prompt, rows: Sequence[Row], most_words: int | None = None) -> Guards:
        """Measure the seed and index the rows; ``most_words`` takes the place of the cap from the seed's words."""
        words, (times, more) = size(seed.text), GROWTH
        return cls(
            most_words=max(times * words, words + more) if most_words is None else most_words,
            most_repetition=_repetition(seed.text) + MORE_REPETITION,
            flaws=frozenset(_flaws(seed.text)),
            runs=_rows_runs(rows) - set(_runs(seed.text)),
        )

    def refuse(self, text: str, demos: frozenset[str] = frozenset()) -> str | None:
        """Return in plain words why a prompt with this text must not be scored, or None; never quotes a row.

        ``demos`` are blocks (from ``demos.block_text``) that may stand in a prompt: they are passed over.
        """
        own = without_blocks(text, demos) if demos else text
        words = size(own)
        if words > self.most_words:
            return f"it has {words} words, and at most {self.most_words} are allowed"
        if words >= SHORT and _repetition(own) > self.most_repetition:
            return "it repeats itself much more than the seed prompt does"
        for flaw, reason in _flaws(own).items():
            if flaw not in self.flaws:
                return reason
        if not self.runs.isdisjoint(_runs(own)):
            return "it copies a run of words from a training example"
        return None


def _repetition(text: str) -> float:
    return repetition(text if text.isascii() else _TIGHT.sub(r" \g<0> ", text))


def _rows_runs(rows: Sequence[Row]) -> frozenset[int]:
    """Return the runs of words that belong to single rows."""
    targets = Counter(row.target for row in rows)
    seen: set[int] = set()
    again: Counter[int] = Counter()
    for row in rows:
        found = {run for value in row.variables.values() for run in _runs_of_value(value)}
        if targets[row.target] == 1:
            found.update(_runs(row.target, whole=0))
        again.update(found & seen)
        seen |= found
    least = max(COMMON[0], COMMON[1] * len(rows))
    seen.difference_update(run for run, count in again.items() if count + 1 >= least)
    seen.difference_update(run for target, count in targets.items() if count > 1 for run in _runs(target))
    return frozenset(seen)


def _runs_of_value(value: str) -> Iterator[int]:
    """Yield the runs of an input that are copying: of six words, or all of it if it has four or five."""
    for tokens, scale, alone in _streams(value):
        if len(tokens) >= scale * RUN:
            yield from _grams(tokens, scale * RUN)
        elif len(tokens) >= scale * WHOLE and alone:
            yield hash(tuple(tokens))


def _runs(text: str, whole: int = WHOLE) -> Iterator[int]:
    """Yield all runs of a text that could be an input's; with ``whole`` 0, only the long ones."""
    for tokens, scale, _ in _streams(text):
        for length in range(scale * (whole or RUN), scale * RUN + 1):
            yield from _grams(tokens, length)


def _streams(text: str) -> Iterator[tuple[list[int], int, bool]]:
    """Yield the words, and the letters of scripts without spaces: hashes, letters to a word, whether it is all.

    Case and punctuation make no difference.
    """
    text = text.casefold().replace("'", "").replace("\u2019", "")
    words = _WORD.findall(text)
    letters = [] if text.isascii() else _TIGHT.findall(text)
    yield list(map(hash, words)), 1, not letters
    if letters:
        yield list(map(hash, letters)), 2, not words


def _grams(tokens: list[int], length: int) -> Iterator[int]:
    return map(hash, zip(*(tokens[start:] for start in range(length)), strict=False))


def _flaws(text: str) -> dict[str, str]:
    """Return the text's flaws: a name that tells them apart, and what to say. Code is passed over."""
    prose = _CODE.sub("`code`", text)
    found = {
        f"doubled {match[1].casefold()}": "a word stands twice in succession"
        for match in _DOUBLED.finditer(prose)
        if match[1].casefold() not in _MAY_DOUBLE
    }
    found |= {f"stutter {n}": "punctuation is doubled" for n, mark in enumerate(_STUTTER) if mark.search(prose)}
    if len(_FENCE.findall(text)) % 2:
        found["fence"] = "a code fence is not closed"
    plain = _INTERVAL.sub("", _ESCAPES.sub("", prose))
    found |= {f"pair {pair}": f"{pair[0]} and {pair[1]} do not pair up" for pair in _PAIRS if _odd_pair(plain, pair)}
    return found | {
        f"quote {marks}": f"a quote with {marks[0]} is left open" for marks in _QUOTES if _odd(plain, marks)
    }


def _odd_pair(text: str, pair: str) -> bool:
    """Tell whether a bracket lacks its pair; list items such as "1)" and faces do not count."""
    if pair[0] not in text and pair[1] not in text:
        return False
    opened: list[int] = []
    for match in re.finditer(f"[{re.escape(pair)}]", text):
        if match[0] == pair[0]:
            opened.append(match.start())
        elif opened:
            opened.pop()
        elif not _ITEM.search(text[max(0, match.start() - 6) : match.start()]):
            return True
    return any(not _SMILE.search(text[max(0, at - 4) : at]) for at in opened)


def _odd(text: str, marks: str) -> bool:
    """Tell whether the quotation marks are odd in number, with inch signs and without."""
    count = sum(map(text.count, marks))
    return count % 2 == 1 and (marks != '"' or (count - len(_INCH.findall(text))) % 2 == 1)
