"""A race: candidates against their parent, item by item, most items for the best.

Two things end a candidate's race before the last item. Evidence: it is shown to be worse than the parent
(dropped) or better (promoted); among all candidates of a race, the chance that one which is not worse
is ever dropped is at most ``ALPHA``, and likewise for promotions, whenever one looks (closed testing
with means of e-values: Vovk and Wang 2021, section 3). Allocation: after ever more items only the better
half goes on (successive halving, Jamieson and Talwalkar 2016); the others are outrun, which claims
nothing about them, and one comes back if all that went on are dropped.
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
"""The most likely wrong drops of a race, and wrong promotions."""
CERTAIN: Final = 700.0
"""Log of evidence beyond which more makes no difference, and numbers would overflow."""

Scores = Mapping[str, float | None]
"""Scores by item; None or missing: unscored."""
Fate = Literal["running", "dropped", "outrun", "finished", "promoted"]


@dataclass(slots=True)
class RaceEntry:
    """One candidate in a race."""

    comparison: PairedComparison
    fate: Fate = "running"

    @property
    def log_e(self) -> float:
        """The log of the evidence that the candidate is better, or minus that it is worse; at most CERTAIN."""
        if self.comparison.better >= self.comparison.worse:
            return min(self.comparison.better, CERTAIN)
        return max(-self.comparison.worse, -CERTAIN)


@dataclass(slots=True)
class Race:
    """Tells which candidate needs how many items, and judges what comes.

    ``look`` items are asked between judgements. The field is halved after ``first`` items, and at every
    doubling of that; ``first`` None: nobody is outrun.
    """

    item_order: ItemOrder
    runners: int
    look: int = 4
    first: int | None = 8
    alpha: float = ALPHA
    entries: list[RaceEntry] = field(init=False)
    _rung: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.entries = [RaceEntry(PairedComparison(self.item_order)) for _ in range(self.runners)]
        self._rung = self.first

    @property
    def target(self) -> int:
        """How many items of the item_order the running candidates, and the parent, should have answered next."""
        done = [entry.comparison.count for entry in self.entries if entry.fate == "running"]
        goal = min(done, default=len(self.item_order.items)) + self.look
        return min(goal, len(self.item_order.items), self._rung or goal)

    @property
    def running(self) -> list[int]:
        """The numbers of the candidates that are in the race."""
        return [number for number, entry in enumerate(self.entries) if entry.fate == "running"]

    def add(self, new: Mapping[int, Scores], old: Scores) -> None:
        """Take in the running candidates' scores, by number, and the parent's, up to ``target``.

        All move on one item at a time and are judged after each, so a candidate that is dropped at an
        item is dropped there, whatever was asked beyond it.
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
        """Judge the field after a round: who has finished, who is outrun, who comes back."""
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
        """Return the candidates that came through, best first: by mean difference, then by number."""
        through = [n for n, entry in enumerate(self.entries) if entry.fate in {"finished", "promoted"}]
        return sorted(through, key=lambda number: (-self.entries[number].comparison.mean, number))


def proven(logs: Sequence[float], alpha: float = ALPHA) -> list[int]:
    """Return the hypotheses, by number, that are rejected given the logs of their e-values.

    The chance that any true one is among them is at most ``alpha``, however the e-values depend on each
    other: a hypothesis is rejected if its e-value, averaged with any set of the others, is 1 / alpha or more.
    The worst such sets are those of the smallest others.
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
    """Return how many answers the race took, the parent's among them."""
    counts: Sequence[int] = [entry.comparison.count for entry in race.entries]
    return sum(counts) + max(counts, default=0)
