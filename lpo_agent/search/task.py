"""The task of a run (prompt, rows and metric), and the numbers that are computed from it, such as calls and power."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpo_agent.core import power
from lpo_agent.core.result import PlanResult, PowerResult
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.plan import EndCost, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.budget import Budget
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.data import Splits

ENDGAME = 0.6
"""The highest share of the budget that confirmation on dev and the test may take, for methods that are not fitted."""
STEPS = 6
"""Steps of a fitted plan without a budget of calls."""
ROOM_PER_FINALIST = 150
"""Calls, apart from those of the test, for which one more finalist is scored on dev."""


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


def fit(
    task: Task, plan: Plan, budget: Budget, *, search_calls: int | None = None, probe: int = 0
) -> tuple[Task, Plan]:
    """Fit the numbers of a run to its budget of calls, and add a note where dev or test items are left out.

    ``search_calls``: a cap for search and choice together, to which the test comes in addition. ``probe``: calls that
    are made before, to choose the method. A plan that is ``fitted`` is divided into shares for search, choice and test
    (see :func:`shares`). In others, first the number of finalists is reduced, then dev and test items in proportion, so
    that 40 % of the calls are left for the search.
    """
    calls = budget.calls
    if not plan.fitted:
        return (task, plan) if calls is None else _reduced(task, plan, calls)
    each = calls_each(task)
    a_step = each * plan.branches * plan.rounds * plan.proposals * plan.look
    if search_calls is not None:
        task, plan = _divided(task, plan, search_calls - probe, tests=False)
        search = search_calls - probe - each * choosing_items(task, plan)
    elif calls is not None:
        task, plan = _divided(task, plan, calls - probe)
        search = calls - probe - each * (choosing_items(task, plan) + 2 * len(task.splits.test))
    else:
        steps = plan.steps or STEPS
        return task, replace(plan, steps=steps, search=each * plan.first_rung + steps * a_step, probe=probe)
    if search < each:
        task = replace(task, notes=(*task.notes, "the calls do not pay for this plan, so the run will stop early"))
    search = max(each, search)
    return task, replace(plan, steps=plan.steps or math.ceil(search / a_step), search=search, probe=probe)


def _divided(task: Task, plan: Plan, calls: int, *, tests: bool = True) -> tuple[Task, Plan]:
    """Give the test at most half of the calls, and the choice at most a quarter of the others.

    The must-pass rows are scored in any case. Without ``tests``, the test is paid apart and not cut.
    """
    splits, room, must = task.splits, max(0, calls) // calls_each(task), len(task.splits.must)
    test = min(len(splits.test), max(0, room - 2 * must) // 4) if tests else len(splits.test)
    rest = room - 2 * test if tests else room
    finalists = min(plan.finalists, max(1, rest // ROOM_PER_FINALIST))
    spare = max(0, rest - must * (1 + finalists))
    dev = min(len(splits.dev), max(2, spare // 4 // (1 + finalists)))
    return _cut(task, calls, dev, test), replace(plan, finalists=finalists)


def _reduced(task: Task, plan: Plan, calls: int) -> tuple[Task, Plan]:
    room = int(ENDGAME * calls) // calls_each(task)
    dev, test = len(task.splits.dev), len(task.splits.test)
    while plan.finalists > 1 and dev * (1 + plan.finalists) + 2 * test > room:
        plan = replace(plan, finalists=plan.finalists - 1)
    wanted = dev * (1 + plan.finalists) + 2 * test
    if wanted <= room or not wanted:
        return task, plan
    share = room / wanted
    return _cut(task, calls, max(1, int(dev * share)), int(test * share)), plan


def _cut(task: Task, calls: int, dev: int, test: int) -> Task:
    """Return the task with the first dev and test items only, and a note if any is left out."""
    splits = task.splits
    if (dev, test) == (len(splits.dev), len(splits.test)):
        return task
    paid = [f"{dev} of {len(splits.dev)} dev items"] if dev < len(splits.dev) else []
    paid += [f"{test} of {len(splits.test)} test items"] if test < len(splits.test) else []
    more = " (--test N gives test items to train)" if test < len(splits.test) else ""
    note = f"{calls} calls pay for {' and '.join(paid)}; the others are not used{more}"
    splits = replace(splits, dev=splits.dev[:dev], test=splits.test[:test])
    return replace(task, splits=splits, notes=(*task.notes, note))


def plan_of(task: Task, plan: Plan) -> PlanResult:
    """Return how the calls of a fitted plan are divided."""
    each = calls_each(task)
    return PlanResult(
        probe=plan.probe,
        search=plan.search,
        choose=each * choosing_items(task, plan),
        test=each * 2 * len(task.splits.test),
    )


def shares(task: Task, plan: Plan) -> str:
    """Return in words how the calls of a fitted plan are divided."""
    found = plan_of(task, plan)
    whole = found.probe + found.search + found.choose + found.test
    probe = f"{found.probe} to choose the method, " if found.probe else ""
    test = f"{found.test} test" if found.test else "no test"
    return f"of {whole} calls: {probe}{found.search} search, {found.choose} choice, {test}"


def power_of(task: Task, gain: float, items: int | None = None) -> PowerResult | None:
    """Return which gain the test split can show, or ``items`` of it; None without test items."""
    n = len(task.splits.test) if items is None else items
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

    The two have no row in common: with demonstrations wanted, up to a quarter of the rows is kept for these.
    """
    rows = task.splits.train
    kept = min(4 * plan.demos, len(rows) // 4)
    panel = rows[: min(plan.last_rung, len(rows) - kept)]
    return panel, rows[len(panel) :] if plan.demos else ()


def choosing_items(task: Task, plan: Plan) -> int:
    """Return the highest number of answers for the choice among the finalists, including the seed prompt."""
    dev, must = len(task.splits.dev), len(task.splits.must)
    return dev + dev * plan.finalists + must * (1 + plan.finalists)


def end_cost(task: Task, plan: Plan, price: float | None, paid: int = 0) -> EndCost:
    """Return the highest cost of the end of the run, without the seed's dev rows, which the search scores.

    ``price``: USD for one scoring call, if known. ``paid``: answers of the end that an earlier session of the run got.
    """
    choice = choosing_items(task, plan) - len(task.splits.dev)
    calls = calls_each(task) * max(0, choice + 2 * len(task.splits.test) - paid)
    return EndCost(calls=calls, tokens=calls * call_tokens(task), usd=None if price is None else calls * price)
