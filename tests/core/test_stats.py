"""Tests of statistics: coverage of intervals, levels of tests, and known exact values."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.result import delta, verdict
from lpo_agent.core.scores import Scored, Unscored, paired, summarize
from lpo_agent.core.stats import mean_interval, paired_interval, paired_p_value

VALUES = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=50)


def test_wilsons_interval_has_its_published_value() -> None:
    low, high = mean_interval([1.0] * 81 + [0.0] * 182)  # 81 of 263: Newcombe 1998, table I
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(VALUES)
def test_intervals_hold_their_mean_and_stay_in_range(values: list[float]) -> None:
    low, high = mean_interval(values)
    assert 0 <= low <= math.fsum(values) / len(values) + 1e-12
    assert math.fsum(values) / len(values) - 1e-12 <= high <= 1


def test_mcnemars_exact_test_has_its_known_values() -> None:
    assert paired_p_value([1] * 9 + [-1] + [0] * 40) == pytest.approx(22 / 1024)
    assert paired_p_value([1, -1]) == 1.0
    assert paired_p_value([0.0] * 10) == 1.0


def test_the_permutation_test_agrees_with_the_exact_one_where_both_apply() -> None:
    graded = [0.5] * 9 + [-0.5] + [0.0] * 5
    assert paired_p_value(graded) == pytest.approx(22 / 1024, abs=0.01)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40))
def test_the_paired_interval_is_seeded_and_ordered(differences: list[float]) -> None:
    low, high = paired_interval(differences)
    assert low <= high
    assert (low, high) == paired_interval(differences)


def test_the_paired_test_is_wrong_at_most_as_often_as_it_says() -> None:
    rng = random.Random(7)
    wrong = sum(paired_p_value([rng.choice([-1, 0, 0, 1]) for _ in range(60)]) < 0.05 for _ in range(2000))
    assert wrong / 2000 < 0.05


def test_missing_items_leave_the_mean_and_the_pairs() -> None:
    one: dict[str, Scored | Unscored] = {
        "a": Scored(value=1, output="x"),
        "b": Unscored(reason="broke"),
        "c": Scored(value=0, output="y"),
    }
    two = {"a": Scored(value=0, output="x"), "b": Scored(value=1, output="z")}
    score = summarize(one.values())
    assert (score.mean, score.n, score.unscored) == (0.5, 2, 1)
    assert paired(one, two, ["a", "b", "c"]) == [1.0]
    assert summarize([Unscored(reason="broke")]).mean is None


@pytest.mark.parametrize(
    ("differences", "has_test", "expected"),
    [
        ([1.0] * 10, True, "improved"),
        ([-1.0] * 10, True, "no_significant_improvement"),
        ([1.0, -1.0], True, "no_significant_improvement"),
        ([], True, "no_significant_improvement"),
        ([], False, "not_tested"),
    ],
)
def test_the_verdict(differences: list[float], *, has_test: bool, expected: str) -> None:
    assert verdict(delta(differences), has_test=has_test) == expected
