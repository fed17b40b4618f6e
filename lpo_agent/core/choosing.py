"""Chooses the final prompt of a run among a few finalists, from their scores on dev items.

The prompt with the highest mean on a few items is often not the best one. Among all finalists that are
within one standard error of it, the shortest is chosen (the one-standard-error rule: Breiman et al. 1984,
section 3.4.3). Gates reject a finalist that has a higher mean but does worse on must-pass items or in
one class.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.stats import mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FEWEST: Final = 12
"""A dev split with at least this many items is divided; smaller ones are used whole for the choice."""


class Finalist(NamedTuple):
    """A candidate for the answer: scores by item, words of the prompt, and mean tokens of one call."""

    scores: Mapping[str, float]
    words: int
    tokens: float


def selection_size(items: int) -> int:
    """Return how many of the first dev items are used to choose; the others are kept to confirm the choice."""
    return items if items < FEWEST else (items + 1) // 2


def choose(finalists: Sequence[Finalist], seed: Mapping[str, float]) -> int | None:
    """Return the index of the chosen finalist, None if no finalist has a higher mean than the seed.

    It is the shortest of those whose mean paired difference to the best is at most its standard error.
    """
    gains = [mean(_differences(each.scores, seed)) for each in finalists]
    better = [number for number, gain in enumerate(gains) if gain > 0]
    if not better:
        return None
    best = min(better, key=lambda number: (-gains[number], finalists[number].words, number))
    tied = [n for n in better if n == best or _within_error(finalists[best].scores, finalists[n].scores)]
    return min(tied, key=lambda number: (finalists[number].words, -gains[number], number))


def _within_error(best: Mapping[str, float], other: Mapping[str, float]) -> bool:
    differences = _differences(best, other)
    lead, n = mean(differences), len(differences)
    if n < 2:
        return lead == 0
    spread = math.sqrt(math.fsum((d - lead) ** 2 for d in differences) / (n - 1))
    return lead <= spread / math.sqrt(n)


def regressed(new: Mapping[str, float], old: Mapping[str, float]) -> list[str]:
    """Return the items on which the new prompt scores less than the old one, or has no score."""
    return [item for item, value in old.items() if new.get(item, -1.0) < value]


def worst_class(new: Mapping[str, float], old: Mapping[str, float], classes: Mapping[str, str]) -> float:
    """Return the largest loss of mean score in one class, 0 if no class lost. ``classes``: the class of each item."""
    lost: dict[str, list[float]] = {}
    for item in sorted(new.keys() & old.keys() & classes.keys()):
        lost.setdefault(classes[item], []).append(old[item] - new[item])
    return max(0.0, *map(mean, lost.values())) if lost else 0.0


def pareto_front(finalists: Sequence[Finalist]) -> list[int]:
    """Return the indices of the Pareto front of score (higher is better), words and tokens (lower is better).

    Best score first; of finalists that are equal in all three, only the first is kept.
    """
    points = [(-mean(each.scores.values()), each.words, each.tokens) for each in finalists]

    def dominated(point: tuple[float, int, float]) -> bool:
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    first = {point: number for number, point in reversed(list(enumerate(points)))}
    return [first[point] for point in sorted(first) if not dominated(point)]


def _differences(new: Mapping[str, float], old: Mapping[str, float]) -> list[float]:
    return [new[item] - old[item] for item in sorted(new.keys() & old.keys())]
