"""Selects the parent of the next step from the pool of accepted prompts.

A prompt that is best on some items may have an edit that the overall leader lacks. So parents are drawn from
the Pareto front over items, with a probability proportional to the number of items on which they are best
(GEPA: Agrawal et al. 2025, Algorithm 2).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

EQUAL = 1e-9
"""Scores that differ by less are treated as equal."""


def front(scores: Sequence[Mapping[str, float]]) -> list[int]:
    """Return for each prompt the number of items on which it is best, 0 for redundant prompts.

    ``scores``: one mapping from item to score for each prompt; only items that all prompts have count. A
    prompt is redundant if, on every item where it is best, another prompt that is not redundant is equally
    good. Prompts are checked in the order of their total scores, lowest first (GEPA's pruning).
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
    """Return the index of the prompt with the highest mean; among equals the shortest, then the first."""
    means = [round(math.fsum(found.values()) / len(found), 9) if found else 0.0 for found in scores]
    return min(range(len(scores)), key=lambda number: (-means[number], lengths[number], number))


def draw(rng: random.Random, weights: Sequence[float]) -> int:
    """Draw an index with probability proportional to its weight; all equally likely if all weights are 0."""
    return rng.choices(range(len(weights)), weights if any(weights) else None)[0]
