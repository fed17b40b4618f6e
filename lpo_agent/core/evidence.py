"""Evidence from paired scores that may be looked at after every item: e-processes.

An e-process is a bet against a hypothesis: under it, the chance that the winnings ever pass
``1 / alpha`` is at most ``alpha``, however often one looks and whenever one stops (Ville 1939; Ramdas,
Grünwald, Vovk and Shafer 2023). Tests that repeat a t-test at every look are wrong far more often.

Two of them: :func:`stats.log_e_value <lpo_agent.core.stats.log_e_value>` is McNemar's test for 0/1 scores, mixed
over win rates; :class:`BettingProcess` takes any bounded scores, drawn without replacement and with any known
chances, so that telling items may be asked first without bending the test.
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
"""Shares of the largest safe bet; their average needs no tuning to the size of a difference."""
LARGEST_WEIGHT: Final = 3.0
"""How many times as likely the most informative item is drawn first as the least telling one."""
ROUNDING: Final = 1e-9
"""Sums of scores that differ by less are equal."""


@dataclass(frozen=True, slots=True)
class ItemOrder:
    """The order of a race's items, drawn one after another with chances in proportion to ``weights``.

    All runners of a race meet the items in this order, so every comparison is paired. ``weights`` are
    those of ``items``, greater than 0; all equal: a plain random order.
    """

    items: tuple[str, ...]
    weights: tuple[float, ...]

    @property
    def plain(self) -> bool:
        """Whether all orders were equally likely."""
        return len(set(self.weights)) <= 1


def draw_item_order(items: Sequence[str], discrimination: Mapping[str, float], seed: str) -> ItemOrder:
    """Return a seeded order of ``items`` in which telling ones tend to come first.

    ``telling``: from 0 (all prompts so far did alike on it) to 1; items that are missing have none.
    """
    weight = {item: 1.0 + (LARGEST_WEIGHT - 1.0) * discrimination.get(item, 0.0) for item in items}
    rng = random.Random(seed)
    # the smallest of exponential times with these rates is a draw in proportion (Efraimidis and Spirakis 2006)
    times = {item: rng.expovariate(1.0) / weight[item] for item in items}
    order = sorted(items, key=lambda item: (times[item], item))
    return ItemOrder(tuple(order), tuple(weight[item] for item in order))


def item_discrimination(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return how much items have told prompts apart so far: four times the variance of their scores.

    ``scores``: of all prompts that an item was asked under. Two prompts more, one right and one wrong,
    are added to each, so that little is believed from few.
    """
    found = {}
    for item, values in scores.items():
        padded = [*values, 0.0, 1.0]
        centre = mean(padded)
        found[item] = 4 * math.fsum((value - centre) ** 2 for value in padded) / len(padded)
    return found


@dataclass(slots=True)
class BettingProcess:
    """Winnings of betting that a runner is better than the reference.

    Differences in [-1, 1] come in the order of ``course``. In a plain order the items stand for all that
    could have been drawn, and the hypothesis that is bet against is a true mean difference of 0 or less
    (Waudby-Smith and Ramdas 2023). In a weighted order it is one about the course's own items: that all
    their differences add up to 0 or less. With ``S`` the sum so far and ``q`` the chance with which the next
    item was drawn among those left, ``S + difference / q`` has that whole sum as its mean, so stakes on it
    are fair (as in audits with weighted sampling: Shekhar, Xu, Lipton, Liang and Ramdas 2023).
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
        """Take the next item's difference in."""
        estimate, worst = (difference, 1.0) if self.item_order.plain else self._whole(difference)
        for number, stake in enumerate(STAKES):
            if worst > ROUNDING:
                self._logs[number] += math.log1p(stake * estimate / worst)
            elif estimate > ROUNDING:  # nothing that is left can undo the sum so far, and not all of it is lost
                self._logs[number] = math.inf
        self.sum += difference
        self.count += 1

    def _whole(self, difference: float) -> tuple[float, float]:
        """Return an unbiased estimate of the sum over the item_order, and how far below 0 it can lie."""
        left, at = self._left[self.count], self.count
        return self.sum + difference * left / self.item_order.weights[at], left / self._least[at] - self.sum

    @property
    def log_e(self) -> float:
        """The log of the winnings, of 1 at the start."""
        most = max(self._logs)
        if math.isinf(most):
            return most
        return most + math.log(math.fsum(math.exp(log - most) for log in self._logs) / len(self._logs))


@dataclass(slots=True)
class PairedComparison:
    """A runner against the reference: the evidence that it is better, and that it is worse.

    For 0/1 scores in a plain order by McNemar's test, else by bets. ``better`` and ``worse`` are the logs
    of the evidence now. ``differences`` leaves out items that one of the two has no score for.
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
        """Take the next item's difference in; None: one of the two is unscored, so it tells nothing."""
        value = difference or 0.0
        if self._bets is None and value not in {-1.0, 0.0, 1.0}:
            self._begin_to_bet()
        self.count += 1
        self._wins += value > 0
        self._losses += value < 0
        if difference is not None:
            self.differences.append(difference)
        self._look(value)

    def _begin_to_bet(self) -> None:
        """Bet on what came so far too, as these are no 0/1 scores after all; a gap is a difference of 0."""
        up, down = BettingProcess(self.item_order), BettingProcess(self.item_order)
        gaps = [0.0] * (self.count - len(self.differences))
        for earlier in [*self.differences, *gaps]:
            up.add(earlier)
            down.add(-earlier)
        self._bets = up, down

    def _look(self, value: float) -> None:
        if self._bets is None:
            self.better, self.worse = log_e_value(self._wins, self._losses), log_e_value(self._losses, self._wins)
        else:
            up, down = self._bets
            up.add(value)
            down.add(-value)
            self.better, self.worse = up.log_e, down.log_e

    @property
    def mean(self) -> float:
        """The mean difference so far."""
        return mean(self.differences)
