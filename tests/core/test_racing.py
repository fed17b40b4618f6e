"""Tests of races: dropping, promoting, halving and bringing back candidates, and the error rate for equal ones."""

from __future__ import annotations

import math
import random
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpo_agent.core.evidence import ItemOrder, draw_item_order
from lpo_agent.core.racing import ALPHA, Race, evaluations, proven

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lpo_agent.core.racing import Fate, Scores

NEVER = 1e-12
"""An alpha at which nothing is ever proven within these races."""


def course_of(items: int) -> ItemOrder:
    return ItemOrder(tuple(f"i{number}" for number in range(items)), (1.0,) * items)


def scored(values: Sequence[float | None]) -> dict[str, float | None]:
    return {f"i{number}": value for number, value in enumerate(values)}


def rounds(race: Race, runners: Sequence[Scores], parent: Scores) -> Iterator[int]:
    """Run a race to its end; yield each round's target before it is asked for."""
    while race.running:
        target = race.target
        yield target
        race.add({number: runners[number] for number in race.running}, parent)
        race.settle()


def finished(race: Race, runners: Sequence[Scores], parent: Scores) -> Race:
    for _ in rounds(race, runners, parent):
        pass
    return race


def fates(race: Race) -> list[Fate]:
    return [entry.fate for entry in race.entries]


def counts(race: Race) -> list[int]:
    return [entry.comparison.count for entry in race.entries]


def wins(early: int, late: int = 0, *, items: int = 40, turn: int = 8) -> dict[str, float | None]:
    """Return scores of 1 on the first ``early`` items, then 0, and ``late`` from item ``turn`` on."""
    return scored([*(float(number < early) for number in range(turn)), *(float(late) for _ in range(items - turn))])


@pytest.mark.parametrize("look", [1, 4, 50])
def test_a_bad_candidate_is_dropped_at_the_same_item_whatever_the_look_ahead(look: int) -> None:
    item_order, right = course_of(60), scored([1.0] * 60)
    race = finished(Race(item_order, 2, look=look, first=None), [scored([0.0] * 60), right], right)
    assert fates(race) == ["dropped", "finished"]
    assert counts(race)[0] == 8  # an e-value of 511 / 9, and 1 of the other: a mean of 28.9; after seven 16.4
    assert race.entries[0].log_e < -math.log(1 / ALPHA)
    assert race.order() == [1]


@pytest.mark.parametrize("first", [None, 8])
def test_a_clear_winner_is_promoted_and_gets_no_more_items(first: int | None) -> None:
    item_order, wrong = course_of(60), scored([0.0] * 60)
    race = finished(Race(item_order, 3, look=1, first=first), [wrong, scored([1.0] * 60), wrong], wrong)
    assert fates(race)[1] == "promoted"
    assert counts(race)[1] < 20
    assert race.order()[0] == 1
    assert race.entries[1].log_e > math.log(1 / ALPHA)


def test_the_lower_half_is_outrun_at_first_and_at_each_doubling() -> None:
    runners = [wins(number) for number in range(8)]
    race = finished(Race(course_of(40), 8, look=3, first=8, alpha=NEVER), runners, wins(0))
    assert counts(race) == [8, 8, 8, 8, 16, 16, 32, 40]
    assert fates(race) == ["outrun"] * 7 + ["finished"]
    assert race.order() == [7]
    assert evaluations(race) == sum(counts(race)) + 40


def test_equals_are_outrun_from_the_back_and_an_odd_field_keeps_its_middle() -> None:
    race = finished(Race(course_of(20), 5, first=8, alpha=NEVER), [wins(2, items=20)] * 5, wins(0, items=20))
    assert counts(race) == [20, 20, 16, 8, 8]
    assert race.order() == [0, 1]


def test_without_halving_everyone_that_is_not_proven_worse_finishes_best_mean_first() -> None:
    runners = [wins(number, items=12) for number in (1, 3, 2, 3)]
    race = finished(Race(course_of(12), 4, first=None), runners, wins(2, items=12))
    assert fates(race) == ["finished"] * 4
    assert race.order() == [1, 3, 2, 0]
    assert evaluations(race) == 5 * 12


def test_a_course_shorter_than_the_first_rung_outruns_nobody() -> None:
    race = Race(course_of(5), 4, first=8, alpha=NEVER)
    runners = [scored([float(item < number) for item in range(5)]) for number in range(4)]
    assert list(rounds(race, runners, scored([0.0] * 5))) == [4, 5]
    assert fates(race) == ["finished"] * 4


def test_a_candidate_that_reaches_the_end_at_a_rung_has_finished() -> None:
    race = finished(Race(course_of(8), 2, first=8, alpha=NEVER), [wins(1, items=8), wins(2, items=8)], wins(0, items=8))
    assert fates(race) == ["finished"] * 2


def second_half(early: Sequence[int], late: Sequence[int]) -> Race:
    """Race four on 80 items against a parent that has 8 of the first 16, and all of the rest."""
    runners = [wins(one, other, items=80, turn=16) for one, other in zip(early, late, strict=True)]
    return finished(Race(course_of(80), 4, look=20, first=16), runners, wins(8, 1, items=80, turn=16))


def test_the_best_outrun_comes_back_if_all_that_went_on_are_dropped() -> None:
    race = second_half([10, 9, 6, 7], late=[0, 0, 1, 1])
    assert fates(race) == ["dropped", "dropped", "outrun", "finished"]
    assert max(counts(race)[:2]) < 32
    assert counts(race)[2:] == [16, 80]
    assert race.order() == [3]


def test_if_the_one_that_came_back_is_dropped_too_the_next_one_comes_back() -> None:
    race = second_half([10, 9, 6, 7], late=[0, 0, 1, 0])
    assert fates(race) == ["dropped", "dropped", "finished", "dropped"]


def test_nobody_comes_back_while_one_that_went_on_is_left() -> None:
    race = second_half([10, 9, 7, 7], late=[1, 0, 1, 1])
    assert fates(race) == ["finished", "dropped", "outrun", "outrun"]


def test_a_race_in_which_all_are_dropped_has_no_order() -> None:
    right = scored([1.0] * 40)
    race = finished(Race(course_of(40), 3, first=8), [scored([0.0] * 40)] * 3, right)
    assert fates(race) == ["dropped"] * 3
    assert race.order() == []


def test_items_with_only_one_score_are_ignored() -> None:
    parent = scored([1.0, None, 0.0, 1.0, 0.0, 0.0])
    runner = {"i0": 0.0, "i1": 1.0, "i2": None, "i4": 1.0, "i5": 1.0}
    race = finished(Race(course_of(6), 1, first=None), [runner], parent)
    assert race.entries[0].comparison.differences == [-1.0, 1.0, 1.0]
    assert (fates(race), counts(race)) == (["finished"], [6])


def test_an_unscored_candidate_ranks_as_equal_to_its_parent() -> None:
    better, worse = scored([1.0] + [0.0] * 5), scored([-1.0] + [0.0] * 5)
    race = finished(Race(course_of(6), 3, first=None), [worse, {}, better], scored([0.0] * 6))
    assert race.order() == [2, 1, 0]


def test_a_race_without_candidates_is_over() -> None:
    race = Race(course_of(10), 0)
    race.settle()
    assert (race.running, race.order(), evaluations(race)) == ([], [], 0)


def test_a_race_on_no_items_ends_at_once() -> None:
    race = finished(Race(course_of(0), 2), [{}, {}], {})
    assert fates(race) == ["finished"] * 2


def test_a_single_candidate_is_never_outrun() -> None:
    race = finished(Race(course_of(40), 1, first=4, alpha=NEVER), [wins(0)], wins(8))
    assert (fates(race), counts(race)) == (["finished"], [40])


SCORES = st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.0, None])


@st.composite
def races(draw: st.DrawFn) -> tuple[Race, list[Scores], Scores]:
    """Draw a race with all of its scores; some candidates win or lose all items, so that all fates occur."""
    size, runners = draw(st.integers(1, 50)), draw(st.integers(0, 7))
    column = st.one_of(
        st.lists(SCORES, min_size=size, max_size=size),
        st.sampled_from([[0.0] * size, [1.0] * size]),
        st.integers(0, size).map(lambda at: [1.0] * at + [0.0] * (size - at)),
    )
    race = Race(
        course_of(size),
        runners,
        look=draw(st.integers(1, 60)),
        first=draw(st.sampled_from([None, 1, 3, 8])),
        alpha=draw(st.sampled_from([0.05, 0.3])),
    )
    return race, [scored(draw(column)) for _ in range(runners)], scored(draw(column))


@given(races())
@settings(max_examples=200, deadline=None)
def test_a_target_grows_but_passes_neither_the_next_rung_nor_the_end(
    drawn: tuple[Race, list[Scores], Scores],
) -> None:
    race, runners, parent = drawn
    limit, asked = len(race.item_order.items), 0
    for target in rounds(race, runners, parent):
        done, running = counts(race), [counts(race)[number] for number in race.running]
        assert min(running) < target <= min(limit, min(running) + race.look)
        if race.first is not None:
            rung = race.first
            while rung <= max(done):
                rung *= 2
            assert target <= rung
        asked = max(asked, target)
        assert max(done) <= asked
    assert set(fates(race)) <= {"dropped", "outrun", "finished", "promoted"}
    assert len(race.entries) == 0 or race.order() or set(fates(race)) == {"dropped"}


@given(races())
@settings(max_examples=100, deadline=None)
def test_only_the_end_of_the_course_and_evidence_let_a_candidate_through(
    drawn: tuple[Race, list[Scores], Scores],
) -> None:
    race = finished(*drawn)
    means = [race.entries[number].comparison.mean for number in race.order()]
    assert means == sorted(means, reverse=True)
    for number, entry in enumerate(race.entries):
        assert (number in race.order()) == (entry.fate in {"finished", "promoted"})
        if entry.fate == "finished":
            assert entry.comparison.count == len(race.item_order.items)
        if entry.fate in {"dropped", "promoted"}:
            strength = entry.comparison.worse if entry.fate == "dropped" else entry.comparison.better
            assert strength >= math.log(1 / race.alpha) - 1e-9


# wrong drops of candidates that are as good as the parent

FIELD = 6


def equals(rng: random.Random, kind: str) -> tuple[ItemOrder, list[Mapping[str, float]], Mapping[str, float]]:
    """Return an order and scores of equal candidates; "weighted": discriminating items are lost, others won."""
    items = [f"i{number}" for number in range(60)]
    if kind == "weighted":
        discrimination = set(rng.sample(items, 30))
        item_order = draw_item_order(items, dict.fromkeys(discrimination, 1.0), str(rng.random()))
        parent = {item: 1.0 if item in discrimination else 0.0 for item in items}
        return item_order, [{item: 1.0 - parent[item] for item in items} for _ in range(FIELD)], parent

    def scores() -> dict[str, float]:
        tries = 3 if kind == "graded" else 1
        return {item: sum(rng.random() < 0.5 for _ in range(tries)) / tries for item in items}

    return draw_item_order(items, {}, str(rng.random())), [scores() for _ in range(FIELD)], scores()


@pytest.mark.parametrize("first", [None, 8])
@pytest.mark.parametrize("kind", ["0/1", "graded", "weighted"])
def test_a_race_among_equals_drops_any_of_them_at_most_as_often_as_it_says(kind: str, first: int | None) -> None:
    rng, paths, wrong = random.Random(23), 250, 0
    for _ in range(paths):
        item_order, runners, parent = equals(rng, kind)
        wrong += "dropped" in fates(finished(Race(item_order, FIELD, look=4, first=first), runners, parent))
    assert wrong / paths <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / paths)


# closed testing

LOGS = st.lists(st.one_of(st.floats(-6, 8), st.sampled_from([0.0, math.log(20), math.inf, -math.inf])), max_size=7)


def rejected_by_all_subsets(logs: Sequence[float], bar: float) -> set[int]:
    """Return the hypotheses of which every subset that holds them has a mean e-value of ``bar`` or more."""
    values, everyone = [math.exp(log) for log in logs], range(len(logs))
    subsets = [set(subset) for size in everyone for subset in combinations(everyone, size + 1)]
    low = [subset for subset in subsets if math.fsum(values[number] for number in subset) / len(subset) < bar]
    return set(everyone) - set().union(*low)


@given(LOGS, st.sampled_from([0.05, 0.2, 0.01]))
@settings(deadline=None)
def test_proven_is_the_closed_test_over_all_subsets(logs: list[float], alpha: float) -> None:
    found = set(proven(logs, alpha))
    assert rejected_by_all_subsets(logs, (1 + 1e-9) / alpha) <= found
    assert found <= rejected_by_all_subsets(logs, (1 - 1e-9) / alpha)


def test_one_candidate_needs_its_own_evidence_and_more_need_more() -> None:
    bar = math.log(20)
    assert proven([bar + 1e-9]) == [0]
    assert proven([bar - 1e-6]) == []
    assert proven([bar + 1e-9, 0.0]) == []
    assert proven([math.log(40), 0.0]) == [0]
    assert proven([bar + 1e-9] * 5) == [0, 1, 2, 3, 4]
    assert proven([]) == []
