"""Tests of the choice among finalists, and of the gates that exclude one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.choosing import Finalist, choose, pareto_front, regressed, selection_size, worst_class

SEED = {str(n): 0.0 for n in range(20)}


def finalist(right: int, words: int, tokens: float = 100.0, start: int = 0) -> Finalist:
    return Finalist({str(n): float(start <= n < start + right) for n in range(20)}, words, tokens)


def test_half_of_dev_confirms_unless_it_is_tiny() -> None:
    assert (selection_size(11), selection_size(12), selection_size(50), selection_size(51)) == (11, 6, 25, 26)


def test_nothing_is_chosen_where_nothing_beats_the_seed() -> None:
    assert choose([finalist(0, 3)], SEED) is None
    assert choose([], SEED) is None
    assert choose([finalist(3, 3)], {str(n): 1.0 for n in range(20)}) is None


def test_a_clearly_best_finalist_is_chosen() -> None:
    assert choose([finalist(4, 3), finalist(16, 30)], SEED) == 1


def test_among_finalists_without_a_clear_difference_the_shortest_is_chosen() -> None:
    assert choose([finalist(10, 30), finalist(9, 12, start=5)], SEED) == 1
    assert choose([finalist(10, 12), finalist(10, 12)], SEED) == 0


def test_a_short_finalist_that_is_not_better_than_the_seed_is_not_chosen() -> None:
    assert choose([finalist(1, 30), finalist(0, 2)], SEED) == 0


def test_must_pass_items_may_not_get_worse_nor_lack_a_score() -> None:
    old = {"a": 1.0, "b": 0.5, "c": 0.0}
    assert regressed({"a": 1.0, "b": 0.4}, old) == ["b", "c"]
    assert regressed({"a": 1.0, "b": 0.5, "c": 1.0}, old) == []


def test_the_worst_class_is_found_behind_a_better_mean() -> None:
    classes = {"a": "yes", "b": "yes", "c": "no", "d": "no"}
    old = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0}
    assert worst_class({"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}, old, classes) == 0.5
    assert worst_class(old, old, classes) == 0.0
    assert worst_class({}, old, classes) == 0.0


def test_the_front_excludes_prompts_that_are_worse_in_all_criteria() -> None:
    found = [finalist(10, 30, 200), finalist(10, 30, 200), finalist(5, 10, 150), finalist(5, 11, 150)]
    assert pareto_front(found) == [0, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 4)), max_size=6))
def test_every_prompt_off_the_front_is_dominated_by_one_on_it(points: list[tuple[int, int, int]]) -> None:
    found = [finalist(*point) for point in points]
    kept = {points[number] for number in pareto_front(found)}
    for score, words, tokens in points:
        assert any(s >= score and w <= words and t <= tokens for s, w, t in kept)
