"""Extracts facts about the task from training rows: the labels, their typical words, the form of the answers."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpo_agent.core.messages import Row

_WORD = re.compile(r"[^\W\d_]{3,}")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
HINTS = 3


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """Facts from which the edit operators make instruction fragments; they come from training rows only.

    ``labels``: the possible answers, empty if they are not few. ``hints``: for each label, words that are
    typical of its inputs. ``numeric``: whether every target is a number. ``longest``: words in the longest
    target.
    """

    labels: tuple[str, ...] = ()
    hints: tuple[tuple[str, tuple[str, ...]], ...] = ()
    numeric: bool = False
    longest: int = 0


def task_facts(rows: Sequence[Row], labels: tuple[str, ...]) -> TaskFacts:
    """Return the facts about the task of these training rows; ``labels``: the possible answers, empty if not few."""
    return TaskFacts(
        labels=labels,
        hints=_hints(rows, labels),
        numeric=bool(rows) and all(_NUMBER.fullmatch(row.target.strip()) for row in rows),
        longest=max((len(row.target.split()) for row in rows), default=0),
    )


def _hints(rows: Sequence[Row], labels: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return for each label the words with the highest smoothed log-odds of occurring in its inputs."""
    seen: dict[str, Counter[str]] = {label: Counter() for label in labels}
    for row in rows:
        if row.target in seen:
            words = {word.casefold() for value in row.variables.values() for word in _WORD.findall(value)}
            seen[row.target].update(words)
    total = sum(seen.values(), Counter[str]())
    sizes = Counter(row.target for row in rows)
    return tuple((label, _typical(seen[label], total, sizes[label], len(rows))) for label in labels)


def _typical(own: Counter[str], total: Counter[str], size: int, rows: int) -> tuple[str, ...]:
    if rows <= size:
        return ()
    odds: Mapping[str, float] = {
        word: (count / size) * math.log((count + 0.5) / (size + 1) * (rows - size + 1) / (total[word] - count + 0.5))
        for word, count in own.items()
        if count >= 3
    }
    best = sorted(odds, key=lambda word: (-odds[word], word))[:HINTS]
    return tuple(word for word in best if odds[word] > 0)
