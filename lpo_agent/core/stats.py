"""Confidence intervals and significance tests for scores in [0, 1], without numerical libraries."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Z95 = 1.959963984540054
Z90 = 1.6448536269514722
RESAMPLES = 4000


def mean(values: Collection[float]) -> float:
    """Return the mean of the values, 0 without any; the order of the values does not matter."""
    return math.fsum(values) / len(values) if values else 0.0


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % interval for the mean of scores in [0, 1] (at least one value).

    Wilson's interval (1927). It is accurate near 0 and 1 for 0/1 scores. It is also wide enough for other
    scores, as no score in [0, 1] has a higher variance than a 0/1 score with the same mean.
    """
    n, share = len(values), mean(values)
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(differences: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % percentile bootstrap interval for the mean of paired differences.

    Seeded, so that the same differences give the same interval. Needs at least one difference.
    """
    rng, n = random.Random(seed), len(differences)
    means = sorted(math.fsum(rng.choices(differences, k=n)) / n for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def paired_p_value(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p-value of the null hypothesis that both prompts are equally good on the same items.

    For differences of -1, 0 and 1 (0/1 scores) McNemar's exact test; otherwise a sign-flip permutation test
    with 4,000 seeded draws. 1.0 if no item differs.
    """
    nonzero = [d for d in differences if d]
    if not nonzero:
        return 1.0
    if all(d in (-1, 1) for d in nonzero):
        return _mcnemar(sum(d > 0 for d in nonzero), len(nonzero))
    rng, observed = random.Random(seed), abs(math.fsum(nonzero))
    extreme = sum(
        abs(math.fsum(d if rng.random() < 0.5 else -d for d in nonzero)) >= observed - 1e-12 for _ in range(RESAMPLES)
    )
    return (extreme + 1) / (RESAMPLES + 1)


def _mcnemar(wins: int, n: int) -> float:
    tail = sum(math.comb(n, k) for k in range(min(wins, n - wins) + 1))
    return min(1.0, tail / (1 << (n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple testing, in the same order (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
