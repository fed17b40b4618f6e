"""Races candidates against their parent: item by item, with more items for better candidates.

A candidate can leave a race before the last item for two reasons. Evidence: it is shown to be worse than the
parent ("dropped") or better ("promoted"). In one race, the probability that any candidate which is not worse
is ever dropped is at most ``ALPHA``, however often the evidence is evaluated; the same holds for promotions
(closed testing with means of e-values: Vovk and Wang 2021, section 3). Allocation: after growing numbers of
items, only the better half continues (successive halving: Jamieson and Talwalkar 2016). The other half is
"outrun", which is no statement about its quality; the best of them returns if all others were dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from lpo_agent.core.evidence import ItemOrder, PairedComparison

if TYPE_CHECKING:
    from collections.abc import Sequence

ALPHA: Final = 0.05
"""The highest probability of a wrong drop in one race, and of a wrong promotion."""
CERTAIN: Final = 700.0
"""Log e-values are cut at this size, as their exponential would overflow a float."""

Scores = Mapping[str, float | None]
"""Scores by item; None or missing means that the item has no score."""
Fate = Literal["running", "dropped", "outrun", "finished", "promoted"]


@dataclass(slots=True)
class RaceEntry:
    """The state of one candidate in a race."""

    comparison: PairedComparison
    fate: Fate = "running"

    @property
    def log_e(self) -> float:
        """The log e-value that the candidate is better, or minus the one that it is worse, if that is larger."""
        if self.comparison.better >= self.comparison.worse:
            return min(self.comparison.better, CERTAIN)
        return max(-self.comparison.worse, -CERTAIN)


@dataclass(slots=True)
class Race:
    """Decides how many items each candidate is scored on, and when a candidate leaves the race.

    ``candidates``: the number of candidates. ``look``: the number of items that are requested at a time. The
    running candidates are halved after ``first`` items and at every doubling of that number; with ``first``
    None they are never halved.
    """

    item_order: ItemOrder
    candidates: int
    look: int = 4
    first: int | None = 8
    alpha: float = ALPHA
    entries: list[RaceEntry] = field(init=False)
    _rung: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.entries = [RaceEntry(PairedComparison(self.item_order)) for _ in range(self.candidates)]
        self._rung = self.first

    @property
    def target(self) -> int:
        """How many items, from the start of the order, the parent and all running candidates must be scored on next."""
        done = [entry.comparison.count for entry in self.entries if entry.fate == "running"]
        goal = min(done, default=len(self.item_order.items)) + self.look
        return min(goal, len(self.item_order.items), self._rung or goal)

    @property
    def running(self) -> list[int]:
        """The indices of the candidates that are still in the race."""
        return [number for number, entry in enumerate(self.entries) if entry.fate == "running"]

    def add(self, new: Mapping[int, Scores], old: Scores) -> None:
        """Add the scores of the running candidates, by index, and of the parent, for the items up to ``target``.

        All candidates advance one item at a time and are judged after each item. So the item at which a
        candidate is dropped does not depend on how many items were requested at a time.
        """
        target = self.target
        while behind := [number for number in self.running if self.entries[number].comparison.count < target]:
            for number in behind:
                entry = self.entries[number]
                item = self.item_order.items[entry.comparison.count]
                one, other = new[number].get(item), old.get(item)
                entry.comparison.add(None if one is None or other is None else one - other)
            self._judge("dropped", [entry.comparison.worse for entry in self.entries])
            self._judge("promoted", [entry.comparison.better for entry in self.entries])

    def _judge(self, fate: Literal["dropped", "promoted"], logs: Sequence[float]) -> None:
        for number in proven(logs, self.alpha):
            if self.entries[number].fate == "running":
                self.entries[number].fate = fate

    def settle(self) -> None:
        """End a round: mark candidates as finished or outrun, and bring one back if no candidate is left."""
        for entry in self.entries:
            if entry.fate == "running" and entry.comparison.count == len(self.item_order.items):
                entry.fate = "finished"
        self._halve()
        if not any(entry.fate in {"running", "finished", "promoted"} for entry in self.entries):
            self._bring_back()

    def _halve(self) -> None:
        running = self.running
        done = min((self.entries[number].comparison.count for number in running), default=0)
        if self._rung is None or done < self._rung:
            return
        order = sorted(running, key=lambda number: (-self.entries[number].comparison.mean, number))
        for number in order[math.ceil(len(order) / 2) :]:
            self.entries[number].fate = "outrun"
        self._rung *= 2

    def _bring_back(self) -> None:
        outrun = [number for number, entry in enumerate(self.entries) if entry.fate == "outrun"]
        if outrun:
            best = max(outrun, key=lambda number: (self.entries[number].comparison.mean, -number))
            self.entries[best].fate = "running"

    def order(self) -> list[int]:
        """Return the indices of the finished and promoted candidates: highest mean difference first, then by index."""
        finished = [n for n, entry in enumerate(self.entries) if entry.fate in {"finished", "promoted"}]
        return sorted(finished, key=lambda number: (-self.entries[number].comparison.mean, number))


def proven(logs: Sequence[float], alpha: float = ALPHA) -> list[int]:
    """Return the indices of the hypotheses that are rejected, given the logs of their e-values.

    The probability that a true hypothesis is rejected is at most ``alpha``, however the e-values depend on
    each other. A hypothesis is rejected if the mean of its e-value and of any set of the other e-values is at
    least 1 / alpha. It is enough to check the sets of the smallest other e-values, which have the lowest mean.
    """
    values = [math.exp(min(log, CERTAIN)) for log in logs]
    order = sorted(range(len(values)), key=lambda number: values[number])
    found = []
    for number in order:
        total, worst = values[number], values[number]
        others = (values[other] for other in order if other != number)
        for size, value in enumerate(others, start=2):
            total += value
            worst = min(worst, total / size)
        if worst >= 1 / alpha:
            found.append(number)
    return sorted(found)


def evaluations(race: Race) -> int:
    """Return the number of scored items in the race, those of the parent included."""
    counts: Sequence[int] = [entry.comparison.count for entry in race.entries]
    return sum(counts) + max(counts, default=0)
