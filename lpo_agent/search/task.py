"""The task of a run (prompt, rows and metric), and the numbers that are computed from it, such as calls and power."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpo_agent.core import power
from lpo_agent.core.choosing import selection_size
from lpo_agent.core.result import PowerResult
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.plan import EndCost, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.budget import Budget
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.data import Splits

ENDGAME = 0.6
"""The highest share of the budget that confirmation on dev and the test may take."""


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a run; ``metric_name`` and ``max_tokens`` have their final values, given or default.

    ``extracts``: the answer is extracted in a second call.
    """

    prompt: Prompt
    splits: Splits
    metric_name: str
    max_tokens: int
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    extracts: bool = False

    @property
    def seed(self) -> Candidate:
        """The prompt that the search starts from."""
        return Candidate(self.prompt)


def call_tokens(task: Task) -> int:
    """Return a high estimate of the tokens of one scoring call, including the answer."""
    rows = [*task.splits.dev, *task.splits.test]
    longest = max((sum(map(len, row.variables.values())) for row in rows), default=0)
    return (2 * len(task.prompt.text) + longest) // 3 + 60 + task.max_tokens


def calls_each(task: Task) -> int:
    """Return the number of calls for scoring one row: one, plus one for extraction and one for a judge."""
    return 1 + task.extracts + (task.metric_name == "judge")


def fit(task: Task, plan: Plan, budget: Budget) -> tuple[Task, Plan]:
    """Reduce the confirmation and the test to what the budget of calls allows, and add a note.

    First the number of finalists is reduced, then dev and test items in proportion, so that 40 % of the calls are left
    for the search.
    """
    if budget.calls is None:
        return task, plan
    room = int(ENDGAME * budget.calls) // calls_each(task)
    dev, test = len(task.splits.dev), len(task.splits.test)
    while plan.finalists > 1 and dev * (1 + plan.finalists) + 2 * test > room:
        plan = replace(plan, finalists=plan.finalists - 1)
    wanted = dev * (1 + plan.finalists) + 2 * test
    if wanted <= room or not wanted:
        return task, plan
    share = room / wanted
    splits = replace(
        task.splits, dev=task.splits.dev[: max(1, int(dev * share))], test=task.splits.test[: int(test * share)]
    )
    paid = f"{len(splits.dev)} of {dev} dev and {len(splits.test)} of {test} test items"
    note = f"a budget of {budget.calls} calls pays for {paid}"
    return replace(task, splits=splits, notes=(*task.notes, note)), plan


def power_of(task: Task, gain: float) -> PowerResult | None:
    """Return which gain the test split can show, None without a test split."""
    n = len(task.splits.test)
    if not n:
        return None
    return PowerResult(
        looked_for=gain,
        test_n=n,
        shows=power.gain_shown(n),
        needed=power.items_needed(gain),
        discordant=max(power.DISCORDANT, gain),
    )


def warn_of_few(task: Task, gain: float) -> Task:
    """Return the task, with a note if its test split is too small to show ``gain``."""
    found = power_of(task, gain)
    if found is None or found.test_n >= found.needed:
        return task
    note = (
        f"with {found.test_n} test items, a gain of {found.shows:.2f} or more is found significant in 4 of 5 runs; "
        f"a gain of {gain:.2f} needs about {found.needed} test items"
    )
    return replace(task, notes=(*task.notes, note))


def panel_of(task: Task, plan: Plan) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the training rows that prompts are compared on, and those that may be shown as demonstrations.

    The two have no row in common: with demonstrations wanted, up to a third of the rows is kept for these.
    """
    rows = task.splits.train
    kept = min(4 * plan.demos, len(rows) // 3)
    panel = rows[: min(plan.last_rung, len(rows) - kept)]
    return panel, rows[len(panel) :] if plan.demos else ()


def choosing_items(task: Task, plan: Plan) -> int:
    """Return the highest number of answers for the choice among the finalists, including the seed prompt."""
    dev, must = len(task.splits.dev), len(task.splits.must)
    cut = selection_size(dev) if plan.confirms else dev
    return dev + cut * plan.finalists + (dev - cut) + must * (1 + plan.finalists)


def end_cost(task: Task, plan: Plan, price: float | None) -> EndCost:
    """Return the highest cost of the end of the run; ``price``: USD for one scoring call, if known."""
    calls = calls_each(task) * (choosing_items(task, plan) + 2 * len(task.splits.test))
    return EndCost(calls=calls, tokens=calls * call_tokens(task), usd=None if price is None else calls * price)
