"""Tests of choosing parents: the Pareto front over items, and the leader."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.pool import draw, front, leader


def scores(*rows: str) -> list[dict[str, float]]:
    return [{str(item): float(mark) for item, mark in enumerate(row)} for row in rows]


def test_a_prompt_that_is_the_only_one_right_on_an_item_stays_in_the_front() -> None:
    assert front(scores("1110", "0001", "0110")) == [3, 1, 0]


def test_only_one_of_equal_prompts_is_in_the_front() -> None:
    assert sorted(front(scores("110", "110"))) == [0, 3]


def test_items_that_one_prompt_was_not_asked_do_not_count() -> None:
    one, other = scores("11", "01")
    del other["0"]
    assert front([one, other]).count(0) == 1


@given(st.lists(st.text("01", min_size=6, max_size=6), min_size=1, max_size=6))
def test_every_item_has_a_best_prompt_in_the_front(rows: list[str]) -> None:
    found, weights = scores(*rows), front(scores(*rows))
    assert any(weights)
    for item in map(str, range(6)):
        best = max(each[item] for each in found)
        assert any(weight and each[item] == best for each, weight in zip(found, weights, strict=True))


def test_the_leader_has_the_highest_mean_and_among_equals_is_short() -> None:
    assert leader(scores("100", "110", "011"), [5, 9, 7]) == 2
    assert leader(scores("110", "011"), [5, 5]) == 0
    assert leader([{}], [3]) == 0


def test_prompts_without_weight_are_drawn_only_if_none_has_weight() -> None:
    rng = random.Random(0)
    assert {draw(rng, [0, 2, 0, 1]) for _ in range(60)} == {1, 3}
    assert {draw(rng, [0, 0]) for _ in range(60)} == {0, 1}
