"""Tests of what is learned about places: rewards, credit, rejected texts, and the draw."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from lpo_agent.core.credit import Try, drawn, learned, records, rejected, same_place, tries_of
from lpo_agent.core.messages import Credit, Rejected
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span, splice

SEED = Prompt(text="Read the note. Say it loud. Be brief.")
LOUD = Span(15, 27)


def marked(prompt: Prompt, *spans: Span) -> MarkedPrompt:
    return MarkedPrompt(prompt=prompt, spans=spans)


def test_an_edit_that_gained_is_rewarded_and_one_that_changed_nothing_is_not() -> None:
    gained, nothing, lost = (Try(LOUD, "x", gain, 16).reward for gain in (0.5, 0.0, -0.5))
    assert gained > 0.95
    assert lost < nothing < 0.25


def test_more_items_make_the_same_gain_more_of_a_reward() -> None:
    assert Try(LOUD, "x", 0.3, 48).reward > Try(LOUD, "x", 0.3, 8).reward


def test_a_race_gives_gains_for_the_changed_places() -> None:
    parent = marked(SEED, LOUD, Span(37, 37))
    assert SEED.text[slice(*LOUD)] == "Say it loud."
    filled = [Replacement(0, "Say it loud."), Replacement(1, " Answer:")]
    assert tries_of(SEED, parent, filled, gain=0.25, items=8) == [Try(Span(37, 37), " Answer:", 0.25, 8)]


def test_places_keep_their_credit_when_the_text_before_them_changes() -> None:
    child = splice(marked(SEED, Span(0, 14)), [Replacement(0, "Look at each and every note.")])
    moved = Span(29, 41)
    assert moved.of(child.text) == LOUD.of(SEED.text)
    (found,) = learned(SEED, child, [Try(LOUD, "x", 0.5, 16)], [moved])
    assert found.span == moved
    assert found.paid > 0.95
    assert found.paid + found.barren == pytest.approx(1)


def test_places_without_a_try_have_no_credit() -> None:
    assert learned(SEED, SEED, [Try(LOUD, "x", 0.5, 16)], [Span(0, 14)]) == []


def test_an_insertion_beside_a_phrase_is_another_place() -> None:
    assert same_place(LOUD, Span(20, 22))
    assert not same_place(LOUD, Span(27, 27))
    assert same_place(Span(27, 27), Span(27, 27))


def test_texts_without_gain_are_remembered_for_their_span() -> None:
    tries = [Try(LOUD, "Whisper.", -0.1, 8), Try(LOUD, "Sing.", 0.2, 8), Try(Span(0, 14), "Read.", -0.3, 8)]
    assert rejected(SEED, marked(SEED, Span(14, 14), LOUD), tries) == (Rejected(span=1, text="Whisper."),)


def test_spans_with_gains_come_before_untried_ones_and_these_before_spans_without_gain() -> None:
    rng = random.Random(1)
    paid, barren = Credit(span=LOUD, paid=5, barren=0), Credit(span=LOUD, paid=0, barren=5)
    draws = [[drawn(rng, credit, None) for _ in range(400)] for credit in (paid, None, barren)]
    won = [sum(a > b for a, b in zip(one, other, strict=True)) for one, other in pairwise(draws)]
    assert won == [pytest.approx(343, abs=25), pytest.approx(343, abs=25)]


def test_words_that_help_are_drawn_last() -> None:
    rng = random.Random(1)
    assert max(drawn(rng, None, 0.5) for _ in range(100)) < min(drawn(rng, None, -0.5) for _ in range(100))


def test_records_add_up_what_was_tried_at_each_place() -> None:
    tries = [Try(LOUD, "a", 0.5, 8), Try(Span(0, 4), "b", 0.0, 8), Try(LOUD, "c", -0.1, 8)]
    first, second = records(tries)
    assert first == (Span(0, 4), 1, 0, 0.0)
    assert second[:3] == (LOUD, 2, 1)
    assert second.gain == pytest.approx(0.2)
