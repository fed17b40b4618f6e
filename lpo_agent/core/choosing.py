"""Which finalist is the answer: pure decisions on scores of held-out items.

The best one on a few items is often not the best; among those that cannot be told from it, the shortest
prompt is the safest (the one-standard-error rule: Breiman et al. 1984, section 3.4.3). Gates keep out
what does better on the whole and worse where that may not be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.stats import mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FEWEST: Final = 12
"""Items of a dev split from which on a part is kept for confirmation."""


class Finalist(NamedTuple):
    """A prompt's scores by item, and what it costs: words, and tokens of a call."""

    scores: Mapping[str, float]
    words: int
    tokens: float


def selection_size(items: int) -> int:
    """Return how many of the first dev items choose; the rest confirms what was chosen."""
    return items if items < FEWEST else (items + 1) // 2


def choose(finalists: Sequence[Finalist], seed: Mapping[str, float]) -> int | None:
    """Return the number of the answer, None where no finalist scored more than the seed.

    It is the shortest of those whose distance to the best is within one standard error of itself.
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
    """Return the items on which a prompt scores less than the seed did, or has no score."""
    return [item for item, value in old.items() if new.get(item, -1.0) < value]


def worst_class(new: Mapping[str, float], old: Mapping[str, float], classes: Mapping[str, str]) -> float:
    """Return the largest loss of the mean score in one class, 0 where no class lost. ``classes``: by item."""
    lost: dict[str, list[float]] = {}
    for item in sorted(new.keys() & old.keys() & classes.keys()):
        lost.setdefault(classes[item], []).append(old[item] - new[item])
    return max(0.0, *map(mean, lost.values())) if lost else 0.0


def pareto_front(finalists: Sequence[Finalist]) -> list[int]:
    """Return the Pareto front of score (more is better), words and tokens (less is better), best score first."""
    points = [(-mean(each.scores.values()), each.words, each.tokens) for each in finalists]

    def beaten(point: tuple[float, int, float]) -> bool:
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    first = {point: number for number, point in reversed(list(enumerate(points)))}
    return [first[point] for point in sorted(first) if not beaten(point)]


def _differences(new: Mapping[str, float], old: Mapping[str, float]) -> list[float]:
    return [new[item] - old[item] for item in sorted(new.keys() & old.keys())]
