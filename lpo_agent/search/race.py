"""Racing candidates against their parent on the same items, most items for the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from lpo_agent.core import policy
from lpo_agent.core.scores import paired, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.search.plan import Candidate, Plan
    from lpo_agent.search.scoring import Scoring


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a candidate came: its paired differences to the parent on the first ``items`` rows."""

    candidate: Candidate
    differences: list[float]
    items: int
    mean: float
    parent_mean: float
    survived: bool = False


async def race(
    scoring: Scoring, parent: Candidate, children: Sequence[Candidate], rows: Sequence[Row], plan: Plan
) -> list[Standing]:
    """Score the children on growing sets of rows, halving the field each time.

    Returns one standing for each child; at most one ``survived`` to the last set. All see the same
    rows in the same order as the parent, so every comparison is paired.
    """
    out: list[Standing] = []
    field, keep = list(children), len(children)
    for count in policy.rungs(plan.first_rung, min(plan.last_rung, len(rows))):
        if not field:
            break
        standings = await _lap(scoring, parent, field, rows[:count])
        keep = math.ceil(keep / 2)
        order = policy.survivors([s.differences for s in standings], keep)
        out += [s for i, s in enumerate(standings) if i not in order]
        field = [standings[i].candidate for i in order]
        last = [standings[i] for i in order]
    if field:
        best, *others = last
        out += [Standing(best.candidate, best.differences, best.items, best.mean, best.parent_mean, survived=True)]
        out += others
    return out


async def _lap(scoring: Scoring, parent: Candidate, field: Sequence[Candidate], rows: Sequence[Row]) -> list[Standing]:
    async with anyio.create_task_group() as tasks:
        for runner in [parent, *field]:
            tasks.start_soon(scoring.score, runner.prompt.text, rows)
    old, ids = scoring.known(parent.prompt.text, rows), [row.id for row in rows]
    standings = []
    for runner in field:
        new = scoring.known(runner.prompt.text, rows)
        differences = paired(new, old, ids)
        mean, parent_mean = summarize(new.values()).mean or 0.0, summarize(old.values()).mean or 0.0
        standings.append(Standing(runner, differences, len(differences), mean, parent_mean))
    return standings
