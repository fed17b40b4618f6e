"""Tests of power: the number of items that show a gain, against simulations and at the limits."""

from __future__ import annotations

import random

import pytest

from lpo_agent.core.power import gain_shown, items_needed
from lpo_agent.core.stats import paired_p_value


@pytest.mark.parametrize(("gain", "discordant"), [(0.1, 0.25), (0.2, 0.25), (0.15, 0.4)])
def test_the_number_of_items_shows_the_gain_in_four_of_five_samples(gain: float, discordant: float) -> None:
    rng, n = random.Random(1), items_needed(gain, discordant)
    wins = (discordant + gain) / 2

    def shown() -> bool:
        draws = [rng.random() for _ in range(n)]
        found = [1.0 if d < wins else -1.0 if d < discordant else 0.0 for d in draws]
        return paired_p_value(found) < 0.05 and sum(found) > 0

    assert sum(shown() for _ in range(400)) / 400 == pytest.approx(0.8, abs=0.07)


def test_a_gain_larger_than_the_usual_disagreement_needs_as_much_disagreement() -> None:
    assert items_needed(0.5) == items_needed(0.5, 0.5)
    assert items_needed(1.0) >= 1


def test_what_a_number_of_items_shows_needs_no_more_than_that_number() -> None:
    for items in (20, 50, 100, 400, 2000):
        gain = gain_shown(items)
        assert items_needed(gain) <= items
        assert items_needed(gain - 0.001) > items
    assert gain_shown(1) == 1.0
