"""Tests of parsing replies: valid ones are accepted, all others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.agents.parsing import slot_options, tagged_prompts, tagged_spans
from lpo_agent.core.text import TAG, Prompt, Span
from lpo_agent.errors import ReplyError

PROMPT = Prompt(text="Sort the note.\n\nNote: {input}", keep=(Span(0, 4),))


@pytest.mark.parametrize(
    "reply",
    [
        "Sort <edit>the note</edit>.\n\nNote: {input}",
        "  Sort <edit>the note</edit>.\n\nNote: {input}\n",
        "Here it is:\n```\nSort <edit>the note</edit>.\n\nNote: {input}\n```",
        "~~~~\nSort <edit>the note</edit>.\n\nNote: {input}\n~~~~",
        "sort  <edit>the note</edit>.\n \n\nNote: {input}  ",
    ],
)
def test_a_reply_that_is_the_prompt_with_tags_gives_its_spans(reply: str) -> None:
    assert tagged_spans(reply, PROMPT) == [Span(5, 13)]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Sort <edit>a note</edit>.\n\nNote: {input}", "not the prompt"),
        ("Sure! Sort <edit>the note</edit>.\n\nNote: {input}", "not the prompt"),
        ("Sort <edit>the <edit>note</edit></edit>.\n\nNote: {input}", "malformed"),
        ("Sort <edit>the note.\n\nNote: {input}", "malformed"),
        ("Sort the note.\n\nNote: {input}", "no tagged text"),
        ("<edit>Sort</edit> the note.\n\nNote: {input}", "no tagged text"),
        ("", "not the prompt"),
    ],
)
def test_any_other_reply_is_refused_with_a_reason(reply: str, reason: str) -> None:
    with pytest.raises(ReplyError, match=reason):
        tagged_spans(reply, PROMPT)


def test_spans_are_cut_at_what_is_protected() -> None:
    assert tagged_spans("<edit>Sort the note.\n\nNote: {input}</edit>", PROMPT) == [Span(4, 22)]


@given(st.text(max_size=60).filter(lambda text: not TAG.search(text)), st.data())
def test_every_valid_tagging_is_accepted_and_lies_in_free_text(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    prompt = Prompt(text=text)
    reply = f"{text[:start]}<edit>{text[start:end]}</edit>{text[end:]}"
    frozen = {i for span in prompt.frozen_spans() for i in range(*span)}
    if set(range(start, end)) <= frozen:  # nothing is tagged that may change; a tag at its edge may still count
        return
    spans = tagged_spans(reply, prompt)
    covered = {i for span in spans for i in range(*span)}
    assert covered == set(range(start, end)) - frozen


def test_options_fill_slots_by_number() -> None:
    reply = (
        '<option><slot number="1">one</slot><slot number="2"></slot></option>\n'
        '<option><slot number="3">no such slot</slot></option><option>nothing</option>'
        '<option><slot number="2">two\nlines</slot></option>'
    )
    assert slot_options(reply, 2) == [{0: "one", 1: ""}, {1: "two\nlines"}]


@pytest.mark.parametrize("reply", ["", "I would write: be kind", '<option><slot number="9">x</slot></option>'])
def test_a_reply_without_options_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match="option"):
        slot_options(reply, 2)


def test_what_a_model_says_about_a_prompt_becomes_none() -> None:
    assert tagged_prompts("Sure!\n<PROMPT>\nSay it.\n</PROMPT>\nIt is shorter.") == ["Say it."]
    assert tagged_prompts("Here it is:\n```\nSay it.\n```\nIt is shorter.") == ["Say it."]
    for chatter in ("Say it in one word.", "", "```\na\n```\nor\n```\nb\n```", "<prompt>Say it and"):
        with pytest.raises(ReplyError, match="<prompt>"):
            tagged_prompts(chatter)
