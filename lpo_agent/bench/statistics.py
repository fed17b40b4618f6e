"""Are two arms different? Paired tests over test items, adjusted for how many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from lpo_agent.bench.grid import arm_key, arm_of
from lpo_agent.bench.rows import SEED_PROMPT, Comparison
from lpo_agent.core.result import delta
from lpo_agent.core.stats import holm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.bench.grid import Cell

ALL: Final = "all"
BASES: Final = ("off", "think")
MOST_TASKS: Final = 4
"""Up to so many tasks are compared one by one too; with more, only all together."""

Values = dict[str, float]
"""The test score of a prompt, by row id."""
Key = tuple[str, str, int]
"""Task, row, seed."""
Scores = Mapping[Key, float]
Arm = TypeVar("Arm")


class TestScores(NamedTuple):
    """What a cell's best prompt and the seed prompt scored on the test items."""

    best: Values
    seed: Values


def compare_arms(tested: Mapping[Cell, TestScores]) -> tuple[Comparison, ...]:
    """Return each arm against "off", and the marked ones against "think", method by method.

    McNemar's exact test where differences are -1, 0 and 1 (one seed, 0/1 scores), else a sign-flip
    permutation test; bootstrap intervals. All p-values are one family for Holm's adjustment.
    """
    scores = _by_arm(tested, lambda cell: (cell.method, arm_of(cell)))
    found = []
    for method in dict.fromkeys(cell.method for cell in tested):
        arms = [arm for m, arm in scores if m == method]
        for base in BASES:
            for arm in arms:
                if base in arms and arm != base and arm not in BASES[: BASES.index(base)]:
                    pairs = _pairs(scores[method, arm], scores[method, base])
                    groups = _groups(pairs) if len(pairs) <= MOST_TASKS else _whole(pairs)
                    found += _compared(method, arm, base, groups)
    return _adjusted(found)


def compare_with_seed(tested: Mapping[Cell, TestScores]) -> tuple[Comparison, ...]:
    """Return each arm against the seed prompt, over the items of all tasks together; one family."""
    scores, seeds = _by_arm(tested, arm_key), _by_arm(tested, arm_key, seed=True)
    of = {arm_key(cell): cell for cell in tested}
    found: list[Comparison] = []
    for key, cell in of.items():
        groups = _whole(_pairs(scores[key], seeds[key]))
        found += _compared(cell.method, arm_of(cell), SEED_PROMPT, groups)
    return _adjusted(found)


def compare_reference(tested: Mapping[Cell, TestScores], reference: str | None) -> tuple[Comparison, ...]:
    """Return the arm ``reference`` against the seed prompt and each other arm, all tasks together; one family."""
    scores = _by_arm(tested, arm_key)
    cell = next((cell for cell in tested if arm_key(cell) == reference), None)
    if cell is None:
        return ()
    key, method, arm = arm_key(cell), cell.method, arm_of(cell)
    bases = {SEED_PROMPT: _by_arm(tested, arm_key, seed=True)[key]} | scores
    found: list[Comparison] = []
    for base, old in bases.items():
        if base != key:
            found += _compared(method, arm, base, _whole(_pairs(scores[key], old)))
    return _adjusted(found)


def _by_arm(
    tested: Mapping[Cell, TestScores], name: Callable[[Cell], Arm], *, seed: bool = False
) -> dict[Arm, dict[Key, float]]:
    """Return the best prompts' scores (or the seed prompt's in these cells) by arm, then by task, row and seed."""
    scores: dict[Arm, dict[Key, float]] = {}
    for cell, (best, old) in tested.items():
        arm = scores.setdefault(name(cell), {})
        arm |= {(cell.task, row, cell.seed): value for row, value in (old if seed else best).items()}
    return scores


def _pairs(new: Scores, old: Scores) -> dict[str, list[float]]:
    """Return the differences on what both scored, by task: one for each test item, its mean over seeds.

    An item is one observation however many seeds there are; they share what is hard about it.
    """
    differences: dict[str, dict[str, list[float]]] = {}
    for task, row, seed in sorted(new.keys() & old.keys()):
        difference = new[task, row, seed] - old[task, row, seed]
        differences.setdefault(task, {}).setdefault(row, []).append(difference)
    return {task: [_mean(each) for each in rows.values()] for task, rows in differences.items()}


def _whole(pairs: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return all differences as one group, under the task's name if there is only one."""
    name = next(iter(pairs)) if len(pairs) == 1 else ALL
    return {name: [value for values in pairs.values() for value in values]}


def _groups(pairs: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {**pairs, **_whole(pairs)}


def _compared(method: str, arm: str, base: str, groups: Mapping[str, Sequence[float]]) -> list[Comparison]:
    return [
        Comparison(method=method, arm=arm, base=base, task=task, delta=found, p_holm=1.0)
        for task, values in groups.items()
        if (found := delta(values)) is not None
    ]


def _adjusted(found: Sequence[Comparison]) -> tuple[Comparison, ...]:
    adjusted = holm([each.delta.p_value for each in found])
    return tuple(each.model_copy(update={"p_holm": p}) for each, p in zip(found, adjusted, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
