"""Are two arms different? Paired tests over test items, adjusted for how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lpo_agent.bench.rows import Comparison
from lpo_agent.core.result import delta
from lpo_agent.core.stats import holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpo_agent.bench.grid import Cell

ALL: Final = "all"
BASES: Final = ("off", "think")
MOST_TASKS: Final = 4
"""Up to so many tasks are compared one by one too; with more, only all together."""

Values = dict[str, float]
"""The test score of a cell's best prompt, by row id."""


def compare_arms(values: Mapping[Cell, Values]) -> tuple[Comparison, ...]:
    """Return each arm against "off", and the marked ones against "think", method by method.

    McNemar's exact test where differences are -1, 0 and 1 (one seed, 0/1 scores), else a sign-flip
    permutation test; bootstrap intervals. All p-values are one family for Holm's adjustment.
    """
    scores = _by_arm(values)
    found = []
    for method in dict.fromkeys(cell.method for cell in values):
        arms = [arm for m, arm in scores if m == method]
        for base in BASES:
            for arm in arms:
                if base in arms and arm != base and arm not in BASES[: BASES.index(base)]:
                    found += _compared(method, arm, base, scores)
    adjusted = holm([each.delta.p_value for each in found])
    return tuple(each.model_copy(update={"p_holm": p}) for each, p in zip(found, adjusted, strict=True))


def arm_of(cell: Cell) -> str:
    """Return how a cell's edits are bound and marked, such as "nudge" or "enforce/random"."""
    return cell.locality if cell.marker in {"-", "llm"} else f"{cell.locality}/{cell.marker}"


Key = tuple[str, str, int]
"""Task, row, seed."""


def _by_arm(values: Mapping[Cell, Values]) -> dict[tuple[str, str], dict[Key, float]]:
    """Return the scores by method and arm, then by task, row and seed."""
    scores: dict[tuple[str, str], dict[Key, float]] = {}
    for cell, rows in values.items():
        arm = scores.setdefault((cell.method, arm_of(cell)), {})
        arm |= {(cell.task, row, cell.seed): value for row, value in rows.items()}
    return scores


def _compared(
    method: str, arm: str, base: str, scores: Mapping[tuple[str, str], Mapping[Key, float]]
) -> list[Comparison]:
    new, old = scores[method, arm], scores[method, base]
    differences: dict[str, dict[str, list[float]]] = {}
    for task, row, seed in sorted(new.keys() & old.keys()):
        difference = new[task, row, seed] - old[task, row, seed]
        differences.setdefault(task, {}).setdefault(row, []).append(difference)
    by_task = {task: [_mean(each) for each in rows.values()] for task, rows in differences.items()}
    groups = by_task if len(by_task) <= MOST_TASKS else {}
    if len(by_task) != 1:
        groups = groups | {ALL: [value for values in by_task.values() for value in values]}
    tested = {task: delta(values) for task, values in groups.items()}
    return [
        Comparison(method=method, arm=arm, base=base, task=task, delta=found, p_holm=1.0)
        for task, found in tested.items()
        if found is not None
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
