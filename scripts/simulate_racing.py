#!/usr/bin/env python3
"""Simulates races of candidates with known true scores: how often are good ones dropped, how many answers are saved?

A wrong drop is a candidate that is dropped although it is not worse than the parent. "share" is the number of answers
relative to full scoring (every candidate and the parent on every item). In the first tables, candidates are dropped by
statistical evidence only; the last table adds successive halving, as searches use it. Takes about ten minutes.

    python scripts/simulate_racing.py [--races N] [--items N] [--runners N]
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass

from lpo_agent.core.evidence import ItemOrder, draw_item_order, item_discrimination
from lpo_agent.core.racing import Race, evaluations

PARENT = 0.6


@dataclass
class World:
    """Items of different difficulty, and prompts with known mean scores on them."""

    rng: random.Random
    items: list[str]
    hardness: dict[str, float]

    def scores(self, rate: float, *, graded: bool) -> dict[str, float]:
        """Return a prompt's scores; they depend more on the item than on the prompt, so prompts mostly agree."""
        shift = self._shift(rate)
        found = {}
        for item in self.items:
            chance = 1 / (1 + math.exp(-(shift - self.hardness[item])))
            noise = [self.rng.random() < chance for _ in range(3 if graded else 1)]
            found[item] = sum(noise) / len(noise)
        return found

    def _shift(self, rate: float) -> float:
        """Return the logit that gives a mean of ``rate`` over these items."""
        low, high = -20.0, 20.0
        for _ in range(40):
            middle = (low + high) / 2
            mean = sum(1 / (1 + math.exp(-(middle - h))) for h in self.hardness.values()) / len(self.items)
            low, high = (middle, high) if mean < rate else (low, middle)
        return low


def make_world(seed: str, items: int) -> World:
    """Return a world; a spread of 2.5 logits makes two equal prompts differ on about a quarter of its items."""
    rng = random.Random(seed)
    names = [f"i{number}" for number in range(items)]
    return World(rng, names, {name: rng.gauss(0, 2.5) for name in names})


@dataclass
class Tally:
    """The totals over all races."""

    races: int = 0
    wrong: int = 0
    wrong_up: int = 0
    asked: int = 0
    full: int = 0
    right: int = 0

    def row(self, name: str) -> str:
        """Return a line of the table."""
        share, n = self.asked / self.full, self.races
        return f"| {name} | {self.wrong / n:.1%} | {self.wrong_up / n:.1%} | {share:.0%} | {self.right / n:.0%} |"


def run_race(world: World, gaps: list[float], tally: Tally, *, graded: bool, weighted: bool, first: int | None) -> None:
    """Race candidates with these true differences to the parent, and count the results.

    "Not worse" refers to the true rates for a plain order of items, and to the mean over all items of the race for a
    weighted order.
    """
    parent = world.scores(PARENT, graded=graded)
    runners = [world.scores(PARENT + gap, graded=graded) for gap in gaps]
    item_order = world_course(world, weighted=weighted)
    race = Race(item_order, len(runners), look=1, first=first)
    while race.running:
        race.add(dict(enumerate(runners)), parent)
        race.settle()
    means = [sum(scores.values()) - sum(parent.values()) for scores in runners]
    worth = means if weighted else gaps
    fates = [entry.fate for entry in race.entries]
    tally.races += 1
    tally.wrong += any(fate == "dropped" and value >= 0 for fate, value in zip(fates, worth, strict=True))
    tally.wrong_up += any(fate == "promoted" and value <= 0 for fate, value in zip(fates, worth, strict=True))
    tally.asked += evaluations(race)
    tally.full += (len(runners) + 1) * len(world.items)
    order = race.order()
    tally.right += bool(order) and gaps[order[0]] == max(gaps) if max(gaps) > 0 else not order or means[order[0]] > 0


def world_course(world: World, *, weighted: bool) -> ItemOrder:
    """Return an order of the items; in a weighted one, items on which six earlier prompts differed come first."""
    if not weighted:
        return draw_item_order(world.items, {}, str(world.rng.random()))
    earlier = [world.scores(PARENT + world.rng.uniform(-0.2, 0.1), graded=False) for _ in range(6)]
    discrimination = item_discrimination({item: [scores[item] for scores in earlier] for item in world.items})
    return draw_item_order(world.items, discrimination, str(world.rng.random()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=400, help="races of each line")
    parser.add_argument("--items", type=int, default=500, help="items of a race")
    parser.add_argument("--runners", type=int, default=8, help="candidates of a race")
    given = parser.parse_args()
    rest = given.runners - 1
    fields = {
        "all equal to the parent": [0.0] * given.runners,
        "one better by .12, the rest equal": [0.12] + [0.0] * rest,
        "all worse by .12": [-0.12] * given.runners,
        "one better by .12, the rest worse by .12": [0.12] + [-0.12] * rest,
        "all worse by .16": [-0.16] * given.runners,
        "one better by .16, the rest worse by .16": [0.16] + [-0.16] * rest,
        "all worse by .20": [-0.20] * given.runners,
        "one better by .20, the rest worse by .20": [0.20] + [-0.20] * rest,
    }
    kinds = [
        ("0/1 scores, plain order (McNemar)", False, False, None),
        ("0/1 scores, discriminating items first (bets)", False, True, None),
        ("graded scores, plain order (bets)", True, False, None),
        ("0/1 scores, discriminating items first, with successive halving from 8 items", False, True, 8),
    ]
    print(f"{given.races} races a line, {given.runners} candidates, {given.items} items, parent at {PARENT}")
    for title, graded, weighted, first in kinds:
        print(f"\n{title}\n\n| true gaps | wrong drops | wrong promotions | share | right winner |")
        print("| --- | --- | --- | --- | --- |")
        for name, gaps in fields.items():
            tally = Tally()
            for number in range(given.races):
                world = make_world(f"{title}:{name}:{number}", given.items)
                run_race(world, gaps, tally, graded=graded, weighted=weighted, first=first)
            print(tally.row(name), flush=True)


if __name__ == "__main__":
    main()
