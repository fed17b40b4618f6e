"""Selects the prompts of a beam without scoring all of them on all items: equal random parts, and bandits.

Pryzant et al. 2023 (arXiv 2305.03495), section 2.3 and the released code: UCB (Auer et al. 2002),
UCB-E and Successive Rejects (Audibert and Bubeck 2010), Successive Halving (Karnin et al. 2013).
As in the original, items that were scored before are not scored again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.scores import summarize

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.messages import Row
    from lpo_agent.search.scoring import Scoring

NEVER = 1e-3
"""Added to the counts of all arms, so that an arm which was never pulled causes no division by 0 (ProTeGi's code)."""
FEWEST = 4
"""The lowest number of items in a phase of Successive Rejects."""


@dataclass(slots=True)
class Arms:
    """The arms of a bandit: the prompts to choose from, by index, with their scores so far.

    ``total`` and ``count``: sum of scores and number of scored items of each arm. ``rank``: the phase in which
    an arm was rejected (later is better), infinite for arms that were not. ``asked``: pairs of arm and row id.
    """

    texts: Sequence[str]
    scoring: Scoring
    rows: Sequence[Row]
    rng: random.Random
    total: list[float] = field(init=False)
    count: list[int] = field(init=False)
    rank: list[float] = field(init=False)
    asked: set[tuple[int, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.total, self.count = [0.0] * len(self.texts), [0] * len(self.texts)
        self.rank = [math.inf] * len(self.texts)

    def sample(self, n: int) -> list[Row]:
        """Draw at most ``n`` rows."""
        return self.rng.sample(list(self.rows), min(n, len(self.rows)))

    async def pull(self, arms: Sequence[int], rows: Sequence[Row]) -> dict[int, float]:
        """Score ``arms`` on ``rows``, and return their means there, 0 for an arm without any score."""
        await self.scoring.score_all([self.texts[arm] for arm in arms], rows)
        means = {}
        for arm in arms:
            score = summarize(self.scoring.known(self.texts[arm], rows).values())
            means[arm] = score.mean or 0.0
            self.total[arm] += means[arm] * score.n
            self.count[arm] += score.n
            self.asked |= {(arm, row.id) for row in rows}
        return means

    def mean(self, arm: int) -> float:
        """Return the mean score of an arm so far, 0 if it was never pulled."""
        return self.total[arm] / self.count[arm] if self.count[arm] else 0.0

    def order(self) -> list[int]:
        """Return all arms, best first: by rank, then mean, then number."""
        return sorted(range(len(self.texts)), key=lambda arm: (-self.rank[arm], -self.mean(arm), arm))


async def choose(arms: Arms, options: BeamOptions) -> list[int]:
    """Return all arms, best first, after the selection that ``options`` asks for."""
    match options.selection:
        case "ucb" | "ucb-e":
            await _ucb(arms, options)
        case "sr" | "s-sr":
            await _rejects(arms, options)
        case "sh":
            await _halving(arms, options)
        case _:
            n = len(arms.texts)
            await arms.pull(range(n), arms.sample(max(1, options.eval_budget // n)))
    return arms.order()


async def _ucb(arms: Arms, options: BeamOptions) -> None:
    """In each round, pull the arms with the highest upper bounds (at first random arms), all on the same rows."""
    everyone = range(len(arms.texts))
    width = min(options.eval_prompts, len(arms.texts))
    for t in range(options.eval_rounds):
        chosen = sorted(arms.rng.sample(everyone, width))
        if t > 0:
            chosen = sorted(everyone, key=lambda arm: (-_bound(arms, arm, t, options), arm))[:width]
        await arms.pull(chosen, arms.sample(options.eval_items))


def _bound(arms: Arms, arm: int, t: int, options: BeamOptions) -> float:
    """Return mean plus bonus: c sqrt(ln t / n) for ucb, c sqrt(c / n) for ucb-e."""
    c, n = options.ucb_c, arms.count[arm] + NEVER
    return arms.mean(arm) + c * math.sqrt((math.log(t) if options.selection == "ucb" else c) / n)


async def _rejects(arms: Arms, options: BeamOptions) -> None:
    """Reject the worst arm of each phase, until as many arms are left as the beam holds.

    The phases of "sr" grow as in Audibert and Bubeck (2010, Figure 3), for the arms outside the beam. "s-sr"
    draws some arms, and the same number of rows in each phase. An arm is judged by all of its rows so far (in
    ProTeGi's code: by the rows of the phase).
    """
    left = list(range(len(arms.texts)))
    for phase, size in enumerate(phase_sizes(options, len(left)), start=1):
        candidates = left
        if options.selection == "s-sr":
            candidates = sorted(arms.rng.sample(left, min(options.eval_prompts, len(left))))
        await arms.pull(candidates, arms.sample(size))
        worst = min(candidates, key=lambda arm: (arms.mean(arm), -arm))
        left.remove(worst)
        arms.rank[worst] = phase


def phase_sizes(options: BeamOptions, arms: int) -> list[int]:
    """Return the number of rows for each phase of "sr" or "s-sr".

    As in ProTeGi's code, the budget of "sr" counts only the arms outside the beam, though all are pulled.
    """
    phases = arms - options.beam
    if options.selection == "s-sr":
        return [math.ceil(options.eval_budget / (phases * options.eval_prompts))] * phases
    scale = 0.5 + sum(1 / i for i in range(2, phases + 1))
    sizes, before = [], 0.0
    for phase in range(1, phases + 1):
        until = max(0.0, (options.eval_budget - phases) / (scale * (phases + 1 - phase)))
        sizes.append(max(FEWEST, int(until - before)))
        before = until
    return sizes


async def _halving(arms: Arms, options: BeamOptions) -> None:
    """Spend an equal part of the budget in each round; arms below the mean of a round are rejected."""
    left = list(range(len(arms.texts)))
    rounds = math.ceil(math.log2(len(left)))
    for number in range(rounds):
        means = await arms.pull(left, arms.sample(max(1, options.eval_budget // (len(left) * rounds))))
        # by rounding, the mean of equal numbers may exceed them
        bar = min(sum(means.values()) / len(means), max(means.values()))
        for arm in left:
            if means[arm] < bar:
                arms.rank[arm] = number
        left = [arm for arm in left if means[arm] >= bar]
