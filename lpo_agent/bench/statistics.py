"""Compares the arms of a benchmark: paired tests over test items, with Holm's correction for multiple tests."""

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
MAX_SINGLE_TASKS: Final = 4
"""Up to so many tasks are also compared one by one; more are only compared together."""

Values = dict[str, float]
"""The test score of a prompt, by row id."""
Key = tuple[str, str, int]
"""Task, row, seed."""
Scores = Mapping[Key, float]
Arm = TypeVar("Arm")


class CellScores(NamedTuple):
    """The test scores of a cell's best prompt and of the seed prompt."""

    best: Values
    seed: Values


def compare_arms(tested: Mapping[Cell, CellScores]) -> tuple[Comparison, ...]:
    """Return, for each method, the comparisons of all arms with "off", and of the marked arms with "think".

    The test is McNemar's exact one if all differences are -1, 0 or 1 (one seed, 0/1 scores), otherwise a
    sign-flip permutation test; the intervals are bootstrap intervals. Holm's correction is over all
    comparisons returned.
    """
    scores = _by_arm(tested, lambda cell: (cell.method, arm_of(cell)))
    found = []
    for method in dict.fromkeys(cell.method for cell in tested):
        arms = [arm for m, arm in scores if m == method]
        for base in BASES:
            for arm in arms:
                if base in arms and arm != base and arm not in BASES[: BASES.index(base)]:
                    pairs = _pairs(scores[method, arm], scores[method, base])
                    groups = _by_task_and_pooled(pairs) if len(pairs) <= MAX_SINGLE_TASKS else _pooled(pairs)
                    found += _compared(method, arm, base, groups)
    return _adjusted(found)


def compare_with_seed(tested: Mapping[Cell, CellScores]) -> tuple[Comparison, ...]:
    """Return the comparison of each arm with the seed prompt, over all tasks; Holm's correction is over all arms."""
    scores, seeds = _by_arm(tested, arm_key), _by_arm(tested, arm_key, seed=True)
    of = {arm_key(cell): cell for cell in tested}
    found: list[Comparison] = []
    for key, cell in of.items():
        groups = _pooled(_pairs(scores[key], seeds[key]))
        found += _compared(cell.method, arm_of(cell), SEED_PROMPT, groups)
    return _adjusted(found)


def compare_reference(tested: Mapping[Cell, CellScores], reference: str | None) -> tuple[Comparison, ...]:
    """Return the comparisons of the arm ``reference`` with the seed prompt and each other arm, over all tasks.

    Holm's correction is over all of them. Returns nothing if no cell of the arm was tested.
    """
    scores = _by_arm(tested, arm_key)
    cell = next((cell for cell in tested if arm_key(cell) == reference), None)
    if cell is None:
        return ()
    key, method, arm = arm_key(cell), cell.method, arm_of(cell)
    bases = {SEED_PROMPT: _by_arm(tested, arm_key, seed=True)[key]} | scores
    found: list[Comparison] = []
    for base, old in bases.items():
        if base != key:
            found += _compared(method, arm, base, _pooled(_pairs(scores[key], old)))
    return _adjusted(found)


def _by_arm(
    tested: Mapping[Cell, CellScores], name: Callable[[Cell], Arm], *, seed: bool = False
) -> dict[Arm, dict[Key, float]]:
    """Return test scores by arm, then by task, row and seed; with ``seed``, those of the seed prompt."""
    scores: dict[Arm, dict[Key, float]] = {}
    for cell, (best, old) in tested.items():
        arm = scores.setdefault(name(cell), {})
        arm |= {(cell.task, row, cell.seed): value for row, value in (old if seed else best).items()}
    return scores


def _pairs(new: Scores, old: Scores) -> dict[str, list[float]]:
    """Return the differences by task: one for each test item that both scored, averaged over seeds.

    An item counts as one observation whatever the number of seeds, because its scores under different
    seeds are not independent.
    """
    differences: dict[str, dict[str, list[float]]] = {}
    for task, row, seed in sorted(new.keys() & old.keys()):
        difference = new[task, row, seed] - old[task, row, seed]
        differences.setdefault(task, {}).setdefault(row, []).append(difference)
    return {task: [_mean(each) for each in rows.values()] for task, rows in differences.items()}


def _pooled(pairs: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return the differences of all tasks as one group, named "all", or after the task if there is only one."""
    name = next(iter(pairs)) if len(pairs) == 1 else ALL
    return {name: [value for values in pairs.values() for value in values]}


def _by_task_and_pooled(pairs: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {**pairs, **_pooled(pairs)}


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
