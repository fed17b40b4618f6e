"""Rejects proposed prompts that are too long, repetitive, malformed, or that copy training examples.

All limits are relative to the seed prompt: a flaw that the seed has itself never rejects a proposal.
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

GROWTH = (3, 600)
"""A prompt may have (this many times, this many more) words than the seed, whichever limit is higher.

It stops runaway texts only: knowledge may take hundreds of words, and the search counts length as a cost.
"""
MORE_REPETITION = 0.25
"""How much higher than the seed's the repetition of a prompt may be (a share, 0 to 1)."""
SHORT = 12
"""Prompts with fewer words are not checked for repetition."""
RUN, WHOLE = 6, 4
"""A prompt copies an input if it has this many of its words in succession, or all of an input of this many words.

In scripts without spaces, twice as many letters.
"""
COMMON = (3, 0.2)
"""A run of words in at least this many rows, and in this share of all rows, belongs to the task, not to a row."""

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
_SENTENCE = re.compile(r"[^.!?:\n]*\w[ \t]+\w[^.!?:\n]*[.!?](?=\s|$)")
_PAIRS = ("()", "[]", "{}", "\uff08\uff09", "\u300c\u300d", "\u300e\u300f", "\u3010\u3011", "\u300a\u300b")
_QUOTES = ('"', "\u201c\u201d\u201e\u201f", "\u00ab\u00bb", "`")
_ESCAPES = re.compile(r"\\(?:left|right)?[()\[\]{}\"`.|]")
_INTERVAL = re.compile(r"[\[(][^\s,()\[\]]+,[ \t]*[^\s,()\[\]]+[\])]")
_ITEM = re.compile(r"(?:^|[\s,;:*])(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})$|(?:^|\s)[:;=]['\-]?$")
_SMILE = re.compile(r"(?:^|\s)[:;=]['\-]?$")
_INCH = re.compile(r"(?<=\d)\"")


@dataclass(frozen=True, slots=True)
class Guards:
    """The limits for the prompts of one run.

    ``flaws``: the kinds of malformed text that the seed itself contains. ``runs``: hashes of the runs of words
    that must not be copied: those of training rows, without runs that are in the seed, in the answer of
    several rows, or in many rows.
    """

    most_words: int
    most_repetition: float
    flaws: frozenset[str]
    runs: frozenset[int]

    @classmethod
    def of(cls, seed: Prompt, rows: Sequence[Row], most_words: int | None = None) -> Guards:
        """Return the limits for a seed prompt and training rows; ``most_words`` overrides the default limit."""
        words, (times, more) = size(seed.text), GROWTH
        return cls(
            most_words=max(times * words, words + more) if most_words is None else most_words,
            most_repetition=_repetition(seed.text) + MORE_REPETITION,
            flaws=frozenset(_flaws(seed.text)),
            runs=_rows_runs(rows) - set(_runs(seed.text)),
        )

    def refuse(self, text: str, demos: frozenset[str] = frozenset()) -> str | None:
        """Return the reason why a prompt with this text is rejected, None if it is accepted; the reason quotes no row.

        ``demos`` are the demonstration blocks (from ``demos.block_text``) that a prompt may contain: they are
        left out of all checks.
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
    """Return the hashes of the runs of words that belong to single rows rather than to the task."""
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
    """Yield the runs of an input that must not be copied: those of six words, or all of it if it has four or five."""
    for tokens, scale, alone in _streams(value):
        if len(tokens) >= scale * RUN:
            yield from _grams(tokens, scale * RUN)
        elif len(tokens) >= scale * WHOLE and alone:
            yield hash(tuple(tokens))


def _runs(text: str, whole: int = WHOLE) -> Iterator[int]:
    """Yield all runs of a text with a length that is compared with inputs; with ``whole`` 0, only the long ones."""
    for tokens, scale, _ in _streams(text):
        for length in range(scale * (whole or RUN), scale * RUN + 1):
            yield from _grams(tokens, length)


def _streams(text: str) -> Iterator[tuple[list[int], int, bool]]:
    """Yield the words of a text, then the letters of scripts without spaces, if there are any.

    Each item is: hashes of the words or letters; how many of them count as one word; whether the text has
    nothing else. Case and punctuation are ignored.
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
    """Return the flaws of a text: an identifying name, and the reason as shown to users. Code is ignored."""
    prose = _CODE.sub("`code`", text)
    found = {
        f"doubled {match[1].casefold()}": "a word stands twice in succession"
        for match in _DOUBLED.finditer(prose)
        if match[1].casefold() not in _MAY_DOUBLE
    }
    sentences = Counter(" ".join(match[0].casefold().split()) for match in _SENTENCE.finditer(prose))
    found |= {f"again {each}": "a sentence stands twice" for each, count in sentences.items() if count > 1}
    found |= {f"stutter {n}": "punctuation is doubled" for n, mark in enumerate(_STUTTER) if mark.search(prose)}
    if len(_FENCE.findall(text)) % 2:
        found["fence"] = "a code fence is not closed"
    plain = _INTERVAL.sub("", _ESCAPES.sub("", prose))
    found |= {f"pair {pair}": f"{pair[0]} and {pair[1]} do not pair up" for pair in _PAIRS if _odd_pair(plain, pair)}
    return found | {
        f"quote {marks}": f"a quote with {marks[0]} is left open" for marks in _QUOTES if _odd(plain, marks)
    }


def _odd_pair(text: str, pair: str) -> bool:
    """Return whether a bracket has no counterpart; list items such as "1)" and emoticons do not count."""
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
    """Return whether the number of quotation marks is odd, whether or not inch signs are counted."""
    count = sum(map(text.count, marks))
    return count % 2 == 1 and (marks != '"' or (count - len(_INCH.findall(text))) % 2 == 1)
