"""Tests of evidence: its error rate under the null hypothesis (exact for small cases), and its power."""

from __future__ import annotations

import math
import random
from itertools import permutations, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lpo_agent.core.evidence import (
    LARGEST_WEIGHT,
    BettingProcess,
    ItemOrder,
    PairedComparison,
    draw_item_order,
    item_discrimination,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ALPHAS = (0.2, 0.1, 0.05, 0.02)
Path = tuple[ItemOrder, list[float]]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"i{number}" for number in range(count))


def plain(count: int) -> ItemOrder:
    return ItemOrder(names(count), (1.0,) * count)


def winnings(weights: Sequence[float], differences: Sequence[float], order: Sequence[int], *, asked: int) -> float:
    """Return what the bets hold after the first ``asked`` items of an order."""
    bets = BettingProcess(ItemOrder(tuple(map(str, order)), tuple(weights[number] for number in order)))
    for number in order[:asked]:
        bets.add(differences[number])
    return math.exp(bets.log_e)


def noted(item_order: ItemOrder, differences: Iterable[float | None]) -> PairedComparison:
    comparison = PairedComparison(item_order)
    for difference in differences:
        comparison.add(difference)
    return comparison


def highest(item_order: ItemOrder, differences: Sequence[float]) -> tuple[float, float]:
    """Return the strongest evidence for better, and for worse, of all looks."""
    comparison, better, worse = PairedComparison(item_order), -math.inf, -math.inf
    for difference in differences:
        comparison.add(difference)
        better, worse = max(better, comparison.better), max(worse, comparison.worse)
    return better, worse


def most(alpha: float, paths: int) -> float:
    """Return a share that a chance of ``alpha`` passes in about one of 30,000 simulations."""
    return alpha + 4 * math.sqrt(alpha * (1 - alpha) / paths)


# tiny weighted courses: all orders, each with its exact chance


@st.composite
def harmless(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Draw unequal weights, and differences (thirds or quarters, some rounded) that add up to 0 or less."""
    size, parts = draw(st.integers(2, 5)), draw(st.sampled_from([1, 3, 4]))
    weights = draw(st.lists(st.one_of(st.just(1.0), st.floats(1, LARGEST_WEIGHT)), min_size=size, max_size=size))
    steps = draw(st.lists(st.integers(-parts, parts), min_size=size, max_size=size))
    total = sum(steps)
    if abs(steps[-1] - total) <= parts and draw(st.booleans()):
        steps[-1] -= total  # exactly 0, the hardest case
    elif total > 0:
        steps = [-step for step in steps]
    assume(len(set(weights)) > 1)
    return weights, [step / parts for step in steps]


@given(harmless())
@settings(max_examples=120, deadline=None)
def test_expected_winnings_never_grow_whatever_came_before(case: tuple[list[float], list[float]]) -> None:
    weights, differences = case
    everything = range(len(weights))
    assert winnings(weights, differences, everything, asked=0) == pytest.approx(1.0)
    for asked in everything:
        for seen in permutations(everything, asked):
            left = [number for number in everything if number not in seen]
            now = winnings(weights, differences, [*seen, *left], asked=asked)
            total = math.fsum(weights[number] for number in left)
            expected = 0.0
            for number in left:
                order = [*seen, number, *(other for other in left if other != number)]
                expected += weights[number] / total * winnings(weights, differences, order, asked=asked + 1)
            assert expected <= now + 1e-9 * max(1.0, now)


@given(harmless())
@settings(max_examples=60, deadline=None)
def test_the_exact_chance_of_ever_passing_is_at_most_alpha(case: tuple[list[float], list[float]]) -> None:
    weights, differences = case
    passed = dict.fromkeys((0.5, *ALPHAS), 0.0)
    for order in permutations(range(len(weights))):
        left, chance = math.fsum(weights), 1.0
        for number in order:
            chance *= weights[number] / left
            left -= weights[number]
        item_order = ItemOrder(tuple(map(str, order)), tuple(weights[number] for number in order))
        better, _ = highest(item_order, [differences[number] for number in order])
        for alpha in passed:
            passed[alpha] += chance * (better >= math.log(1 / alpha))
    assert all(share <= alpha + 1e-9 for alpha, share in passed.items())


def test_a_sum_that_may_still_be_0_is_not_proven() -> None:
    bets = BettingProcess(ItemOrder(("telling", "dull"), (3.0, 1.0)))
    bets.add(1.0)
    before = bets.log_e
    bets.add(-1.0)
    assert bets.log_e == pytest.approx(before)


def test_a_sum_that_cannot_become_0_is_proven() -> None:
    item_order = ItemOrder(names(9), (3.0, *(2.0,) * 8))
    bets = BettingProcess(item_order)
    for _ in range(6):
        bets.add(1.0)
    assert bets.log_e == math.inf
    bets.add(-1.0)
    assert bets.log_e == math.inf


# plain orders: items are draws from all there could be


@pytest.mark.parametrize(
    "chances",
    [
        {1.0: 0.5, -1.0: 0.5},
        {1.0: 0.2, 0.0: 0.6, -1.0: 0.2},
        {0.5: 2 / 3, -1.0: 1 / 3},
        {1.0: 0.1, -0.25: 0.4, 0.0: 0.5},
    ],
)
def test_expected_winnings_of_independent_draws_are_at_most_1(chances: dict[float, float]) -> None:
    steps = 6
    expected = [0.0] * steps
    for path in product(chances, repeat=steps):
        bets, chance = BettingProcess(plain(steps)), math.prod(chances[difference] for difference in path)
        for step, difference in enumerate(path):
            bets.add(difference)
            expected[step] += chance * math.exp(bets.log_e)
    assert expected == pytest.approx([1.0] * steps)  # a fair game loses nothing either


# long courses: simulated


def coins(rng: random.Random) -> Path:
    return plain(80), [float(rng.choice((-1, 0, 1))) for _ in range(80)]


def small_wins_rare_big_losses(rng: random.Random) -> Path:
    return plain(80), [0.25 if rng.random() < 0.8 else -1.0 for _ in range(80)]


def mixed(rng: random.Random) -> Path:
    """Whole wins early, undone by half losses: bets take over from McNemar's test mid-way."""
    return plain(80), [1.0 if rng.random() < 1 / 3 else -0.5 for _ in range(80)]


def adversary(rng: random.Random) -> Path:
    """Items that earlier prompts show to discriminate are won, the others lost; the whole sum is exactly 0."""
    items = names(100)
    earlier = {
        item: [rng.choice((0.0, 1.0)) if number % 2 else 1.0 for _ in range(12)] for number, item in enumerate(items)
    }
    item_order = draw_item_order(items, item_discrimination(earlier), str(rng.random()))
    weight = dict(zip(item_order.items, item_order.weights, strict=True))
    ranked = sorted(items, key=lambda item: (weight[item], item))
    worth = {item: 1.0 if place >= 50 else -1.0 for place, item in enumerate(ranked)}
    return item_order, [worth[item] for item in item_order.items]


def graded_adversary(rng: random.Random) -> Path:
    """A few discriminating items are won by far, and many other ones lost by a little: together just below 0."""
    items = names(45)
    item_order = draw_item_order(items, {item: float(item in items[:15]) for item in items}, str(rng.random()))
    return item_order, [2 / 3 if item in items[:15] else -1 / 3 - 1e-6 for item in item_order.items]


@pytest.mark.parametrize("draw", [coins, small_wins_rare_big_losses, mixed, adversary, graded_adversary])
def test_the_error_rate_of_evidence_is_at_most_alpha(
    draw: Callable[[random.Random], Path],
) -> None:
    rng, paths = random.Random(11), 700
    found = [highest(*draw(rng))[0] for _ in range(paths)]
    for alpha in ALPHAS:
        assert sum(better >= math.log(1 / alpha) for better in found) / paths <= most(alpha, paths)


def test_the_error_rate_of_evidence_of_harm_is_at_most_alpha_against_an_adversary() -> None:
    rng, paths = random.Random(12), 700
    mirrored = [
        (item_order, [-difference for difference in differences])
        for item_order, differences in map(adversary, [rng] * paths)
    ]
    found = [highest(*path)[1] for path in mirrored]
    assert sum(worse >= math.log(20) for worse in found) / paths <= most(0.05, paths)


def test_the_adversary_would_fool_evidence_that_ignores_the_weights() -> None:
    rng, paths = random.Random(13), 200
    found = [highest(plain(100), adversary(rng)[1])[0] for _ in range(paths)]
    assert sum(better >= math.log(20) for better in found) / paths > 0.15


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 3.0), (1.0, 1.5, 2.0, 2.5, 3.0)])
@pytest.mark.parametrize("size", [1.0, 0.9])
def test_a_candidate_that_always_wins_is_soon_shown_to_be_better(weights: tuple[float, ...], size: float) -> None:
    item_order = ItemOrder(names(60), tuple(weights[number % len(weights)] for number in range(60)))
    comparison = noted(item_order, [size] * 12)
    assert comparison.better > math.log(20)
    assert comparison.worse < 0


@pytest.mark.parametrize("discrimination", [0.0, 1.0])
def test_a_clear_winner_is_nearly_always_found(discrimination: float) -> None:
    rng, paths, items = random.Random(17), 100, names(120)
    wins, losses = set(items[:40]), set(items[40:48])
    found = 0
    for _ in range(paths):
        item_order = draw_item_order(items, dict.fromkeys(items[:60], discrimination), str(rng.random()))
        differences = [float((item in wins) - (item in losses)) for item in item_order.items]
        found += highest(item_order, differences)[0] >= math.log(20)
    assert found / paths > 0.95


# the order


def test_an_order_is_seeded_and_holds_each_item_once_with_its_own_weight() -> None:
    items = names(30)
    discrimination = {item: number / 29 for number, item in enumerate(items[:20])}
    item_order = draw_item_order(items, discrimination, "seed")
    assert item_order == draw_item_order(items, discrimination, "seed")
    assert item_order.items != draw_item_order(items, discrimination, "another").items
    assert sorted(item_order.items) == sorted(items)
    assert list(item_order.weights) == pytest.approx(
        [1 + (LARGEST_WEIGHT - 1) * discrimination.get(item, 0.0) for item in item_order.items]
    )


def test_an_order_is_plain_if_all_items_have_equal_weights() -> None:
    assert draw_item_order(names(5), {}, "a").plain
    assert draw_item_order(names(5), dict.fromkeys(names(5), 0.7), "a").plain
    assert not draw_item_order(names(5), {"i2": 0.7}, "a").plain
    assert draw_item_order((), {}, "a") == ItemOrder((), ())


def test_the_first_item_is_drawn_in_proportion_to_its_weight() -> None:
    draws = 4000
    first = sum(draw_item_order(("a", "b", "c"), {"a": 1.0}, str(seed)).items[0] == "a" for seed in range(draws))
    assert first / draws == pytest.approx(3 / 5, abs=4 * math.sqrt(0.24 / draws))


def test_discriminating_items_come_earlier_on_average() -> None:
    items, places = names(20), {True: 0, False: 0}
    for seed in range(200):
        order = draw_item_order(items, dict.fromkeys(items[:10], 1.0), str(seed)).items
        for place, item in enumerate(order):
            places[item in items[:10]] += place
    assert places[True] < 0.8 * places[False]


def test_the_weight_of_an_item_is_the_variance_of_its_scores() -> None:
    scores: dict[str, list[float]] = {
        "new": [],
        "split": [1, 0, 1, 0],
        "right": [1] * 8,
        "wrong": [0] * 8,
        "half": [0.5, 0.5],
    }
    found = item_discrimination(scores)
    assert found == pytest.approx({"new": 1.0, "split": 1.0, "right": 0.36, "wrong": 0.36, "half": 0.5})


@given(st.lists(st.floats(0, 1), max_size=20))
def test_the_weight_of_an_item_is_between_0_and_1(scores: list[float]) -> None:
    assert 0 < item_discrimination({"a": scores})["a"] <= 1 + 1e-12


# duels


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0, None]), min_size=1, max_size=25))
def test_changing_from_mcnemars_test_to_bets_is_as_good_as_bets_from_the_start(
    differences: list[float | None],
) -> None:
    comparison, up, down = PairedComparison(plain(26)), BettingProcess(plain(26)), BettingProcess(plain(26))
    for difference in [*differences, 0.5]:
        comparison.add(difference)
        up.add(difference or 0.0)
        down.add(-(difference or 0.0))
    assert (comparison.better, comparison.worse) == pytest.approx((up.log_e, down.log_e))


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=25), st.sampled_from([1.0, 3.0]))
def test_evidence_for_better_and_worse_is_symmetric(differences: list[float], weight: float) -> None:
    item_order = ItemOrder(names(25), (weight, *(1.0,) * 24))
    one, other = noted(item_order, differences), noted(item_order, [-difference for difference in differences])
    assert (one.better, one.worse) == pytest.approx((other.worse, other.better))


@pytest.mark.parametrize("item_order", [plain(6), ItemOrder(names(6), (3.0, 1.0, 1.0, 2.0, 1.0, 3.0))])
@pytest.mark.parametrize("size", [1.0, 0.5])
def test_an_unscored_item_changes_neither_evidence_nor_differences(item_order: ItemOrder, size: float) -> None:
    gap, nothing = noted(item_order, [size, None, -size, size]), noted(item_order, [size, 0.0, -size, size])
    assert (gap.better, gap.worse) == pytest.approx((nothing.better, nothing.worse))
    assert gap.count == 4
    assert gap.differences == [size, -size, size]
    assert gap.mean == pytest.approx(size / 3)


def test_a_duel_starts_without_evidence() -> None:
    comparison = PairedComparison(plain(3))
    assert (comparison.better, comparison.worse, comparison.mean, comparison.count) == (0.0, 0.0, 0.0, 0)
