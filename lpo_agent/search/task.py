"""What a search works on: the prompt, the rows, the metric's name, and the numbers that follow from them."""

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
"""Largest share of a budget that dev confirmation and test may take."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a run works on. ``metric_name`` and ``max_tokens`` are settled, by hand or by default.

    ``extracts``: the answer is asked for in a second call.
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
    """Return a generous estimate of one scoring call's tokens, answer included."""
    rows = [*task.splits.dev, *task.splits.test]
    longest = max((sum(map(len, row.variables.values())) for row in rows), default=0)
    return (2 * len(task.prompt.text) + longest) // 3 + 60 + task.max_tokens


def calls_each(task: Task) -> int:
    """Return the calls that scoring one row takes: extraction and a judge are further ones."""
    return 1 + task.extracts + (task.metric_name == "judge")


def fit(task: Task, plan: Plan, budget: Budget) -> tuple[Task, Plan]:
    """Shrink the end of a run to what its budget of calls can pay, and say so in the notes.

    Finalists go first, then dev and test items in proportion; the search keeps 40 % of the calls.
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
    """Return what the test split can show, None without one."""
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
    """Return the task with a note if its test split is too small to show the gain that is looked for."""
    found = power_of(task, gain)
    if found is None or found.test_n >= found.needed:
        return task
    note = (
        f"{found.test_n} test items show a gain of {found.shows:.2f} or more; to show one of {gain:.2f} in 4 runs "
        f"of 5, about {found.needed} would do"
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
    """Return how many answers it takes at most to choose among the finalists, the seed prompt among them."""
    dev, must = len(task.splits.dev), len(task.splits.must)
    cut = selection_size(dev) if plan.confirms else dev
    return dev + cut * plan.finalists + (dev - cut) + must * (1 + plan.finalists)


def end_cost(task: Task, plan: Plan, price: float | None) -> EndCost:
    """Return what the end of the run may cost; ``price`` is USD for one scoring call, if known."""
    calls = calls_each(task) * (choosing_items(task, plan) + 2 * len(task.splits.test))
    return EndCost(calls=calls, tokens=calls * call_tokens(task), usd=None if price is None else calls * price)
