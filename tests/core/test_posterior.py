"""The posterior over edits: it covers the truth, and finds a planted edit."""

from __future__ import annotations

import random

import pytest

from lpo_agent.core.posterior import (
    Observation,
    Posterior,
    Prior,
    Term,
    Variances,
    backward,
    cholesky,
    fit,
    forward,
    variances_of,
)

EDITS: list[Term] = [("edit", number) for number in range(40)]
VARIANCES = Variances(noise=0.1, items=0.1)


def played(
    rng: random.Random, effects: dict[Term, float], *, sets: int, size: int = 3, looks: int = 3
) -> list[Observation]:
    """Score random sets of edits on a few of 24 items each, and the seed prompt on all of them."""
    items = [rng.gauss(0.0, VARIANCES.items**0.5) for _ in range(24)]
    found: list[Observation] = []

    def score(terms: tuple[Term, ...], number: int) -> None:
        value = 0.4 + items[number] + sum(effects[t] for t in terms) + rng.gauss(0.0, VARIANCES.noise**0.5)
        found.append(Observation(terms, str(number), value))

    for number in range(24):
        score((), number)
    for _ in range(sets):
        terms = tuple(rng.sample(list(effects), size))
        for number in rng.sample(range(24), looks):
            score(terms, number)
    return found


def test_the_factor_of_a_matrix_solves_its_equations() -> None:
    matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]]
    factor = cholesky(matrix)
    found = backward(factor, forward(factor, [1.0, 2.0, 3.0]))
    for line, right in zip(matrix, [1.0, 2.0, 3.0], strict=True):
        assert sum(a * b for a, b in zip(line, found, strict=True)) == pytest.approx(right)


def test_its_intervals_cover_the_truth_as_often_as_they_say() -> None:
    covered = total = 0
    for seed in range(40):
        rng = random.Random(seed)
        effects = {term: rng.gauss(0.0, 0.15) for term in EDITS[:20]}
        found = fit(played(rng, effects, sets=40), dict.fromkeys(effects, Prior(0.0, 0.15**2)), VARIANCES)
        for term, effect in effects.items():
            low, high = found.interval(term)
            covered, total = covered + (low <= effect <= high), total + 1
    assert 0.85 <= covered / total <= 0.95


def test_a_planted_edit_among_forty_is_found() -> None:
    right = 0
    for seed in range(100):
        rng = random.Random(seed)
        effects = dict.fromkeys(EDITS, 0.0)
        planted = rng.choice(EDITS)
        effects[planted] = 0.4
        found = fit(played(rng, effects, sets=100), dict.fromkeys(EDITS, Prior(0.0, 0.15**2)), VARIANCES)
        right += max(EDITS, key=lambda term: found.mean((term,))) == planted
    assert right >= 95


def test_two_prompts_on_one_item_are_compared_and_its_difficulty_does_not_count() -> None:
    a, b = EDITS[:2]
    priors = dict.fromkeys((a, b), Prior(0.0, 1.0))
    easy = [Observation((a,), str(n), 1.0) for n in range(10)] + [Observation((), str(n), 1.0) for n in range(10)]
    hard = [Observation((b,), str(n), 0.0) for n in range(20, 30)] + [
        Observation((), str(n), 0.0) for n in range(20, 30)
    ]
    found = fit([*easy, *hard], priors, Variances(0.05, 0.3))
    assert abs(found.mean((a,))) < 0.1  # the means of the two prompts differ by 1
    assert abs(found.mean((b,))) < 0.1


def test_draws_scatter_as_the_posterior_says_and_unseen_terms_as_their_prior() -> None:
    a, b = EDITS[:2]
    priors = {a: Prior(0.0, 0.04), b: Prior(-0.1, 0.09)}
    found = fit([Observation((a,), str(n), 0.8) for n in range(8)], priors, VARIANCES)
    rng = random.Random(1)
    draws = [found.draw(rng) for _ in range(4000)]
    for term, mean, deviation in ((a, found.mean((a,)), found.variance({a: 1.0}) ** 0.5), (b, -0.1, 0.3)):
        values = [draw[term] for draw in draws]
        centre = sum(values) / len(values)
        assert centre == pytest.approx(mean, abs=0.02)
        spread = (sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5
        assert spread == pytest.approx(deviation, rel=0.06)


def test_the_variances_are_estimated() -> None:
    rng = random.Random(3)
    effects = dict.fromkeys(EDITS[:5], 0.0)
    observations = [
        Observation((rng.choice(EDITS[:5]),), str(n), 0.5 + item + rng.gauss(0, 0.2))
        for n in range(40)
        for item in [rng.gauss(0, 0.5)]
        for _ in range(8)
    ]
    posterior: Posterior = fit(observations, dict.fromkeys(effects, Prior(0.0, 0.01)), Variances())
    found = variances_of(observations, posterior)
    assert found.noise == pytest.approx(0.045, abs=0.02)
    assert found.items == pytest.approx(0.2, abs=0.1)


def test_older_scores_count_less() -> None:
    (a,) = EDITS[:1]
    near = [Observation((a,), str(n), 0.9) for n in range(10)]
    far = [Observation((a,), str(n), 0.1, 0.1) for n in range(10)]
    seed = [Observation((), str(n), 0.5) for n in range(10)]
    assert fit([*seed, *near, *far], {a: Prior(0.0, 1.0)}, VARIANCES).mean((a,)) > 0.25
