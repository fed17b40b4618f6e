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

from lpo_agent.core.evidence import Course, Duel

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
class Lane:
    """One candidate in a race."""

    duel: Duel
    fate: Fate = "running"

    @property
    def log_e(self) -> float:
        """The log of the evidence that the candidate is better, or minus that it is worse; at most CERTAIN."""
        if self.duel.better >= self.duel.worse:
            return min(self.duel.better, CERTAIN)
        return max(-self.duel.worse, -CERTAIN)


@dataclass(slots=True)
class Race:
    """Tells which candidate needs how many items, and judges what comes.

    ``look`` items are asked between judgements. The field is halved after ``first`` items, and at every
    doubling of that; ``first`` None: nobody is outrun.
    """

    course: Course
    runners: int
    look: int = 4
    first: int | None = 8
    alpha: float = ALPHA
    lanes: list[Lane] = field(init=False)
    _rung: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.lanes = [Lane(Duel(self.course)) for _ in range(self.runners)]
        self._rung = self.first

    @property
    def target(self) -> int:
        """How many items of the course the running candidates, and the parent, should have answered next."""
        done = [lane.duel.count for lane in self.lanes if lane.fate == "running"]
        goal = min(done, default=len(self.course.items)) + self.look
        return min(goal, len(self.course.items), self._rung or goal)

    @property
    def running(self) -> list[int]:
        """The numbers of the candidates that are in the race."""
        return [number for number, lane in enumerate(self.lanes) if lane.fate == "running"]

    def note(self, new: Mapping[int, Scores], old: Scores) -> None:
        """Take in the running candidates' scores, by number, and the parent's, up to ``target``.

        All move on one item at a time and are judged after each, so a candidate that is dropped at an
        item is dropped there, whatever was asked beyond it.
        """
        target = self.target
        while behind := [number for number in self.running if self.lanes[number].duel.count < target]:
            for number in behind:
                lane = self.lanes[number]
                item = self.course.items[lane.duel.count]
                one, other = new[number].get(item), old.get(item)
                lane.duel.note(None if one is None or other is None else one - other)
            self._judge("dropped", [lane.duel.worse for lane in self.lanes])
            self._judge("promoted", [lane.duel.better for lane in self.lanes])

    def _judge(self, fate: Literal["dropped", "promoted"], logs: Sequence[float]) -> None:
        for number in proven(logs, self.alpha):
            if self.lanes[number].fate == "running":
                self.lanes[number].fate = fate

    def settle(self) -> None:
        """Judge the field after a round: who has finished, who is outrun, who comes back."""
        for lane in self.lanes:
            if lane.fate == "running" and lane.duel.count == len(self.course.items):
                lane.fate = "finished"
        self._halve()
        if not any(lane.fate in {"running", "finished", "promoted"} for lane in self.lanes):
            self._bring_back()

    def _halve(self) -> None:
        running = self.running
        done = min((self.lanes[number].duel.count for number in running), default=0)
        if self._rung is None or done < self._rung:
            return
        order = sorted(running, key=lambda number: (-self.lanes[number].duel.mean, number))
        for number in order[math.ceil(len(order) / 2) :]:
            self.lanes[number].fate = "outrun"
        self._rung *= 2

    def _bring_back(self) -> None:
        outrun = [number for number, lane in enumerate(self.lanes) if lane.fate == "outrun"]
        if outrun:
            best = max(outrun, key=lambda number: (self.lanes[number].duel.mean, -number))
            self.lanes[best].fate = "running"

    def order(self) -> list[int]:
        """Return the candidates that came through, best first: by mean difference, then by number."""
        through = [n for n, lane in enumerate(self.lanes) if lane.fate in {"finished", "promoted"}]
        return sorted(through, key=lambda number: (-self.lanes[number].duel.mean, number))


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
    counts: Sequence[int] = [lane.duel.count for lane in race.lanes]
    return sum(counts) + max(counts, default=0)
