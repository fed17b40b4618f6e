"""The prompts that a search may go on from, and which of them deserve it.

A prompt that is best on some items knows something that the overall leader does not. Parents are drawn
from the Pareto front over items, as often as they are best (GEPA: Agrawal et al. 2025, Algorithm 2).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

EQUAL = 1e-9


def front(scores: Sequence[Mapping[str, float]]) -> list[int]:
    """Return for each prompt on how many items it is the best, 0 for those that others make superfluous.

    ``scores``: by item, for each prompt; an item counts where all have it. A prompt is superfluous if, on
    every item where it is best, another one that is not superfluous is best too (GEPA's pruning, the weakest first).
    """
    if not scores:
        return []
    items = sorted(set.intersection(*(set(found) for found in scores)))
    best = [_best(scores, item) for item in items]
    total = [math.fsum(found[item] for item in items) for found in scores]
    kept = set(range(len(scores)))
    for number in sorted(kept, key=lambda n: (total[n], -n)):
        if len(kept) > 1 and all(winners & kept != {number} for winners in best):
            kept.discard(number)
    return [sum(number in winners for winners in best) if number in kept else 0 for number in range(len(scores))]


def _best(scores: Sequence[Mapping[str, float]], item: str) -> set[int]:
    highest = max(found[item] for found in scores)
    return {number for number, found in enumerate(scores) if found[item] >= highest - EQUAL}


def leader(scores: Sequence[Mapping[str, float]], lengths: Sequence[int]) -> int:
    """Return the prompt with the highest mean; among equals the shortest, then the oldest."""
    means = [round(math.fsum(found.values()) / len(found), 9) if found else 0.0 for found in scores]
    return min(range(len(scores)), key=lambda number: (-means[number], lengths[number], number))


def draw(rng: random.Random, weights: Sequence[float]) -> int:
    """Return a number with a chance in proportion to its weight; any if all weights are 0."""
    return rng.choices(range(len(weights)), weights if any(weights) else None)[0]
