"""Sequential tests on paired scores that stay valid when they are evaluated after every item: e-processes.

An e-process is the capital of somebody who bets against a hypothesis. If the hypothesis is true, the
probability that the capital ever exceeds ``1 / alpha`` is at most ``alpha``, however often it is evaluated
and whenever one stops (Ville 1939; Ramdas, Grünwald, Vovk and Shafer 2023). A t-test that is repeated after
every item has a far higher error rate.

Two of them: :func:`stats.log_e_value <lpo_agent.core.stats.log_e_value>` is McNemar's test for 0/1 scores, mixed
over win rates. :class:`BettingProcess` takes any bounded scores, drawn without replacement with known
probabilities, so that items which tell prompts apart can be asked first and the test stays valid.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from lpo_agent.core.stats import log_e_value, mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STAKES: Final = (0.05, 0.12, 0.22, 0.35, 0.5, 0.65, 0.8, 0.92)
"""Bets, as shares of the largest bet that is safe; averaging over them suits differences of any size."""
LARGEST_WEIGHT: Final = 3.0
"""The weight of the most discriminating item in a draw; an item without any discrimination has weight 1."""
ROUNDING: Final = 1e-9
"""Sums of scores that differ by less than this are treated as equal."""


@dataclass(frozen=True, slots=True)
class ItemOrder:
    """The order of a race's items, drawn without replacement with probabilities proportional to ``weights``.

    All candidates of a race are scored on the items in this order, so every comparison is paired. ``weights``
    are those of ``items``, each greater than 0; if all are equal, the order is a plain random permutation.
    """

    items: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def plain(self) -> bool:
        """Whether all permutations of the items were equally likely."""
        return len(set(self.weights)) <= 1


def draw_item_order(items: Sequence[str], discrimination: Mapping[str, float], seed: str) -> ItemOrder:
    """Return a seeded random order of ``items`` in which discriminating items tend to come first.

    ``discrimination``: by item, from 0 (all prompts so far scored the same on it) to 1; 0 for missing items.
    """
    weight = {item: 1.0 + (LARGEST_WEIGHT - 1.0) * discrimination.get(item, 0.0) for item in items}
    rng = random.Random(seed)
    # the smallest of exponential times with these rates is a draw in proportion (Efraimidis and Spirakis 2006)
    times = {item: rng.expovariate(1.0) / weight[item] for item in items}
    order = sorted(items, key=lambda item: (times[item], item))
    return ItemOrder(tuple(order), tuple(weight[item] for item in order))


def item_discrimination(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return how well each item has told prompts apart so far, 0 to 1: four times the variance of its scores.

    ``scores``: by item, one score for each prompt. Two pseudo-scores, 0 and 1, are added to each item, so
    that few scores are not taken as certain.
    """
    found = {}
    for item, values in scores.items():
        padded = [*values, 0.0, 1.0]
        centre = mean(padded)
        found[item] = 4 * math.fsum((value - centre) ** 2 for value in padded) / len(padded)
    return found


@dataclass(slots=True)
class BettingProcess:
    """An e-process that tests, by betting, whether a candidate is better than its reference.

    Differences (candidate minus reference, in [-1, 1]) are added in the order of ``item_order``. In a plain
    order the items are a sample of a population, and the null hypothesis is that the population's mean
    difference is 0 or less (Waudby-Smith and Ramdas 2023). In a weighted order the null hypothesis is about
    the listed items only: that the sum of all their differences is 0 or less. With ``S`` the sum so far and
    ``q`` the probability of the next item among the items left, ``S + difference / q`` is an unbiased estimate
    of the whole sum, so bets on it are fair (as in audits with weighted sampling: Shekhar, Xu, Lipton, Liang
    and Ramdas 2023).
    """

    item_order: ItemOrder
    sum: float = 0.0
    count: int = 0
    _logs: list[float] = field(default_factory=lambda: [0.0] * len(STAKES))
    _left: list[float] = field(init=False)
    _least: list[float] = field(init=False)

    def __post_init__(self) -> None:
        backwards = self.item_order.weights[::-1]
        self._left = list(accumulate(backwards))[::-1]
        self._least = list(accumulate(backwards, min))[::-1]

    def add(self, difference: float) -> None:
        """Add the difference of the next item in ``item_order``."""
        estimate, worst = (difference, 1.0) if self.item_order.plain else self._whole(difference)
        for number, stake in enumerate(STAKES):
            if worst > ROUNDING:
                self._logs[number] += math.log1p(stake * estimate / worst)
            elif estimate > ROUNDING:  # the estimate cannot be negative, so a positive one refutes the hypothesis
                self._logs[number] = math.inf
        self.sum += difference
        self.count += 1

    def _whole(self, difference: float) -> tuple[float, float]:
        """Return an unbiased estimate of the sum over all items, and the largest loss that a bet on it can have."""
        left, at = self._left[self.count], self.count
        return self.sum + difference * left / self.item_order.weights[at], left / self._least[at] - self.sum

    @property
    def log_e(self) -> float:
        """The natural log of the capital, which is 1 at the start: the log of the e-value."""
        most = max(self._logs)
        if math.isinf(most):
            return most
        return most + math.log(math.fsum(math.exp(log - most) for log in self._logs) / len(self._logs))


@dataclass(slots=True)
class PairedComparison:
    """Compares a candidate with its reference, item by item: the evidence that it is better, and that it is worse.

    ``better`` and ``worse`` are the current logs of the two e-values. For 0/1 scores in a plain order they
    come from McNemar's test, otherwise from two betting processes. ``differences`` holds the differences of
    all items that both have a score for.
    """

    item_order: ItemOrder
    differences: list[float] = field(default_factory=list)
    count: int = 0
    better: float = 0.0
    worse: float = 0.0
    _wins: int = 0
    _losses: int = 0
    _bets: tuple[BettingProcess, BettingProcess] | None = field(init=False)

    def __post_init__(self) -> None:
        self._bets = (
            None if self.item_order.plain else (BettingProcess(self.item_order), BettingProcess(self.item_order))
        )

    def add(self, difference: float | None) -> None:
        """Add the next item's difference; None if one of the two has no score, which counts as no evidence."""
        value = difference or 0.0
        if self._bets is None and value not in {-1.0, 0.0, 1.0}:
            self._begin_to_bet()
        self.count += 1
        self._wins += value > 0
        self._losses += value < 0
        if difference is not None:
            self.differences.append(difference)
        self._update(value)

    def _begin_to_bet(self) -> None:
        """Change from McNemar's test to betting, as the scores are not all 0 or 1; earlier differences are bet on too.

        An item without a score counts as a difference of 0.
        """
        up, down = BettingProcess(self.item_order), BettingProcess(self.item_order)
        gaps = [0.0] * (self.count - len(self.differences))
        for earlier in [*self.differences, *gaps]:
            up.add(earlier)
            down.add(-earlier)
        self._bets = up, down

    def _update(self, value: float) -> None:
        if self._bets is None:
            self.better, self.worse = log_e_value(self._wins, self._losses), log_e_value(self._losses, self._wins)
        else:
            up, down = self._bets
            up.add(value)
            down.add(-value)
            self.better, self.worse = up.log_e, down.log_e

    @property
    def mean(self) -> float:
        """The mean difference so far, 0 without any."""
        return mean(self.differences)
