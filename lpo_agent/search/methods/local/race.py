"""Races candidates against their parent on the same items; :mod:`lpo_agent.core.racing` decides who stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

from lpo_agent.core.racing import Race
from lpo_agent.core.scores import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.evidence import ItemOrder
    from lpo_agent.core.messages import Row
    from lpo_agent.core.racing import RaceEntry
    from lpo_agent.search.candidates import Candidate, Pairs
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Scoring


@dataclass(frozen=True, slots=True)
class Standing:
    """The result of one candidate in a race: its differences to the parent on the ``items`` it was scored on."""

    candidate: Candidate
    fate: Literal["dropped", "outrun", "finished", "promoted"]
    differences: list[float]
    items: tuple[str, ...]
    log_e: float

    @property
    def gain(self) -> float:
        """The mean difference to the parent, 0 without any."""
        return sum(self.differences) / len(self.differences) if self.differences else 0.0

    @property
    def pairs(self) -> Pairs:
        """The pairs of prompt text and item that were scored for the candidate itself."""
        return frozenset((self.candidate.prompt.text, item) for item in self.items)


async def race(
    scoring: Scoring,
    parent: Candidate,
    children: Sequence[Candidate],
    item_order: ItemOrder,
    *,
    rows: Sequence[Row],
    plan: Plan,
) -> list[Standing]:
    """Return one standing for each child: first those that were not eliminated, best first, then the others.

    All are scored on the items of ``item_order``, which are ids of ``rows``, in this order.
    """
    by_id = {row.id: row for row in rows}
    found = Race(item_order, len(children), look=plan.look, first=plan.first_rung)
    while running := found.running:
        asked = [by_id[item] for item in item_order.items[: found.target]]
        async with anyio.create_task_group() as tasks:
            for candidate in [parent, *(children[number] for number in running)]:
                tasks.start_soon(scoring.score, candidate.prompt.text, asked)
        new = {number: values(scoring.known(children[number].prompt.text, asked)) for number in running}
        found.add(new, values(scoring.known(parent.prompt.text, asked)))
        found.settle()
    through = found.order()
    rest = [number for number in range(len(children)) if number not in through]
    return [_standing(children[number], found.entries[number], item_order) for number in [*through, *rest]]


def _standing(child: Candidate, entry: RaceEntry, item_order: ItemOrder) -> Standing:
    fate = "finished" if entry.fate == "running" else entry.fate
    return Standing(child, fate, entry.comparison.differences, item_order.items[: entry.comparison.count], entry.log_e)
