"""Tests of splitting a prompt into phrases, and of the places where text can be added."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.influence import effect, insertion_points, phrases, without
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import Prompt, Span, parse_prompt


def test_phrases_are_short_and_end_at_punctuation() -> None:
    prompt = parse_prompt("Read the customer's message and decide quickly, please.\n\nMessage: {input}", {"input"})
    assert [span.of(prompt.text) for span in phrases(prompt)] == [
        "Read the customer's message",
        "and decide quickly,",
        "please.",
        "Message:",
    ]


@given(st.text(alphabet="ab {}.\n", max_size=80))
def test_phrases_are_disjoint_free_and_hold_every_word(text: str) -> None:
    prompt = Prompt(text=text)
    spans = phrases(prompt)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    covered = {i for span in spans for i in range(*span)}
    free = {i for span in prompt.free_spans() for i in range(*span) if not text[i].isspace()}
    assert covered >= free
    assert all(len(span.of(text).split()) <= 5 for span in spans)


def test_text_can_be_added_at_ends_and_after_sentences() -> None:
    prompt = parse_prompt("Sort it. Be quick.\n\n{input}", {"input"})
    assert [span.start for span in insertion_points(prompt)] == [0, 8, 18, 20, 27]


def test_leaving_a_phrase_out_takes_its_space_along() -> None:
    prompt = parse_prompt("Sort it now. {input}", {"input"})
    left = without(prompt, Span(5, 8))
    assert left is not None
    assert left.text == "Sort now. {input}"
    assert without(Prompt(text="Sort"), Span(0, 4)) is None


def test_the_sign_of_an_effect_tells_help_from_harm() -> None:
    good, bad = Scored(value=1, output=""), Scored(value=0, output="")
    helps = effect(Span(0, 1), {"a": good, "b": good}, {"a": bad, "b": good}, ["a", "b"])
    assert helps is not None
    assert (helps.influence, helps.n) == (0.5, 2)
    assert effect(Span(0, 1), {"a": good}, {}, ["a"]) is None
