"""Tests of finding what a model quotes inexactly, and of reading its JSON."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.lenient import items, number_of, objects, spoken
from lpo_agent.core.quotation import find, moved, numbered, same
from lpo_agent.core.quoted_edits import QuotedEdit, resolve
from lpo_agent.core.sections import likeliest, listed, sections_of
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span, parse_prompt, splice
from lpo_agent.errors import EditRejected

TEXT = """You sort letters \u2014 with care.
Write \u201cbilling\u201d if it\u2019s about money,  and "delivery" otherwise.
- Never reply in upper case.
- Reply within one line.

Letter: {input}
Answer:"""
PROMPT = Prompt(text=TEXT)


@pytest.mark.parametrize(
    ("line", "quote", "found"),
    [
        (1, "with care", "with care"),
        (1, "letters - with care", "letters \u2014 with care"),
        (2, '"billing" if it\'s about money, and', "\u201cbilling\u201d if it\u2019s about money,  and"),
        (2, "WRITE 'BILLING'", "Write \u201cbilling\u201d"),
        (2, "aboutmoney,and", "about money,  and"),
        (3, "**Never** reply in upper case", "Never reply in upper case"),
        (3, "Never repli in uper case", "Never reply in upper case"),
        (1, "Reply within one line.", "Reply within one line."),
        (None, "Reply within one line.", "Reply within one line."),
        (99, "Reply within one line.", "Reply within one line."),
        (2, "Write \u201cbilling\u201d ... otherwise.", TEXT.split("\n")[1]),
        (3, "Never reply in upper case.\r\n- Reply within", "Never reply in upper case.\n- Reply within"),
    ],
)
def test_a_quotation_is_found_despite_small_differences(line: int | None, quote: str, found: str) -> None:
    assert find(TEXT, quote, line).of(TEXT) == found


@pytest.mark.parametrize(
    ("line", "quote", "why"),
    [
        (1, "Always answer in French", "not in the prompt"),
        (None, "REPLY", "stand there 2 times"),
        (None, "xx", "not in the prompt"),
    ],
)
def test_a_quotation_that_is_not_clear_is_refused(line: int | None, quote: str, why: str) -> None:
    with pytest.raises(EditRejected, match=why):
        find(TEXT, quote, line)


def test_whole_words_go_before_parts_of_words() -> None:
    assert find("This is it", "is", 1) == Span(5, 7)


def child(edit: QuotedEdit, prompt: Prompt = PROMPT) -> str:
    (place,) = resolve(prompt, edit)
    return splice(MarkedPrompt(prompt=prompt, spans=(place.span,)), [Replacement(0, place.options[0])]).text


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (QuotedEdit(3, "never REPLY", "replace", (" Do not write ",)), "Never reply", "Do not write"),
        (QuotedEdit(1, "with care", "delete"), "with care.", "."),
        (QuotedEdit(1, "with care", "insert after", ("Be fair.",)), "with care.", "with care. Be fair."),
        (QuotedEdit(1, "with care", "insert after", ("and speed",)), "with care.", "with care and speed."),
        (QuotedEdit(1, "with care", "replace", ("fast.",)), "with care.", "fast."),
        (QuotedEdit(4, "- Reply within one line", "delete"), "- Reply within one line.\n", ""),
        (QuotedEdit(3, "- Never reply in upper case.", "delete"), "- Never reply in upper case.\n", ""),
        (QuotedEdit(4, "", "delete"), "- Reply within one line.\n", ""),
        (QuotedEdit(1, "with care.", "insert after", ("Be fair.",)), "with care.", "with care. Be fair."),
        (QuotedEdit(1, "You", "insert before", ("As a clerk,",)), "You sort", "As a clerk, You sort"),
        (QuotedEdit(4, "", "insert after", ("- Reply in English.",)), "one line.", "one line.\n- Reply in English."),
        (
            QuotedEdit(4, "Reply within one line.", "insert after", ("- Be kind.",)),
            "one line.",
            "one line.\n- Be kind.",
        ),
        (QuotedEdit(6, "Letter: {input}", "replace", ("Letter: {input}\nTeam:",)), "{input}", "{input}\nTeam:"),
        (QuotedEdit(6, "Letter: {input}", "insert before", ("Now sort.\n",)), "Letter:", "Now sort.\nLetter:"),
        (QuotedEdit(99, "", "insert after", ("Team:",)), "Answer:", "Answer:\nTeam:"),
    ],
)
def test_an_edit_changes_what_it_quotes_and_spaces_are_taken_care_of(edit: QuotedEdit, old: str, new: str) -> None:
    assert child(edit) == TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (QuotedEdit(6, "Letter: {input}", "replace", ("The letter",)), "must be kept"),
        (QuotedEdit(6, "{input}", "delete"), "must be kept"),
        (QuotedEdit(1, "care", "replace", ("care",)), "changes nothing"),
        (QuotedEdit(1, "care", "replace", ("care for {name}",)), "placeholder"),
        (QuotedEdit(1, "care", "insert after", (" ",)), "adds nothing"),
        (QuotedEdit(1, "care", "replace", ()), "no new text"),
        (QuotedEdit(99, "", "delete"), "no such line"),
    ],
)
def test_an_edit_that_breaks_something_is_refused(edit: QuotedEdit, why: str) -> None:
    with pytest.raises(EditRejected, match=why):
        resolve(PROMPT, edit)


def test_one_bad_option_does_not_cost_the_others() -> None:
    (place,) = resolve(PROMPT, QuotedEdit(1, "with care", "replace", ("{oops}", "fast", "fast", "well")))
    assert place.options == ("fast", "well")


def test_kept_text_is_not_edited() -> None:
    prompt = parse_prompt("<keep>Sort it.</keep> Be quick. {input}", {"input"})
    assert child(QuotedEdit(1, "be quick", "replace", ("Be slow",)), prompt) == "Sort it. Be slow. {input}"
    with pytest.raises(EditRejected, match="must be kept"):
        resolve(prompt, QuotedEdit(1, "Sort it.", "delete"))


SPOILED = [str.upper, str.lower, lambda text: text.replace(" ", ""), lambda text: text.replace(" ", "  ")]


@given(st.integers(0, 4), st.integers(0, 20), st.integers(3, 12), st.sampled_from(SPOILED))
def test_any_passage_of_a_line_is_found_in_it_or_refused(line: int, start: int, words: int, spoil: object) -> None:
    lines = TEXT.split("\n")
    found = lines[line].split(" ")[start : start + words]
    quote = spoil(" ".join(found))  # type: ignore[operator]
    if len([letter for letter in quote if letter.isalnum()]) < 4:
        return
    try:
        span = find(TEXT, quote, line + 1)
    except EditRejected as exc:
        assert "2 times" in str(exc)  # noqa: PT017 - the only excuse
    else:
        assert same(span.of(TEXT).strip(" -\u2014."), quote.strip(" -\u2014."))


def test_spans_of_a_sloppy_copy_are_moved_to_the_original() -> None:
    copy = TEXT.replace("\u201c", '"').replace("\u201d", '"').replace(",  and", ", and")
    at = copy.index('"delivery"')
    assert same(TEXT, copy)
    assert [span.of(TEXT) for span in moved(TEXT, [Span(at, at + 10)], copy)] == ['"delivery"']
    (point,) = moved(TEXT, [Span(at, at)], copy)
    assert TEXT[point.start :].startswith('"delivery"')


def test_lines_are_numbered_and_gaps_are_shown() -> None:
    assert numbered("a\nb\nc").split("\n") == ["1| a", "2| b", "3| c"]
    assert numbered("a\nb\nc", [Span(0, 1), Span(4, 5)]).split("\n") == ["1| a", "[...]", "3| c"]


EDITS = {"edits": [{"line": 1, "quote": "a {b}", "options": ["x"]}, {"line": 2, "quote": 'say "c"', "options": []}]}
WHOLE = json.dumps(EDITS, indent=1)


@pytest.mark.parametrize(
    "reply",
    [
        WHOLE,
        f"Sure, for {{input}}:\n```json\n{WHOLE}\n```\nDone.",
        f"<think>{{'edits': []}} no</think>{WHOLE}",
        f"and so on</think>\n{WHOLE}",
        WHOLE.replace("]\n}", "],\n}").replace("}\n ]", "},\n ]"),
        str(EDITS),
        json.dumps(EDITS["edits"]),
        "\n".join(map(json.dumps, EDITS["edits"])),
        WHOLE[:-3],
        f'{WHOLE[:-4]}, {{"line": 3, "quote": "cut o',
    ],
)
def test_json_is_read_leniently(reply: str) -> None:
    assert items(objects(spoken(reply)), "edits", frozenset({"options"})) == EDITS["edits"]


@pytest.mark.parametrize("reply", ["", "I would rather not.", "{", "{}{", '{"edits": "none"}', "<think>{'edits'"])
def test_replies_without_json_give_nothing(reply: str) -> None:
    assert items(objects(spoken(reply)), "edits", frozenset({"options"})) == []


def test_reasoning_that_does_not_end_leaves_nothing() -> None:
    assert spoken("<think>Hm, {") == ""
    assert spoken("Use <think> tags.") == "Use <think> tags."


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("line 12", 12), ("x", None), (True, None), (None, None)])
def test_numbers_are_read_from_words_too(value: object, number: int | None) -> None:
    assert number_of(value) == number


def test_sections_begin_at_headings_and_cover_the_text() -> None:
    text = "\n\n".join(f"## Part {n}\n\n{'Some words about it. ' * 12}" for n in range(20))
    found = sections_of(text)
    assert [each.title for each in found] == [f"## Part {n}" for n in range(20)]
    assert (found[0].first, found[-1].last) == (1, text.count("\n") + 1)
    assert all(one.last + 1 == other.first for one, other in pairwise(found))
    assert listed(found).split("\n")[2].startswith("3. lines 9 to ")
    text = text.replace("Some words", "Refunds of parcels", 1)
    assert likeliest(text, sections_of(text), "It is wrong about refunds.", 1)[0].title == "## Part 0"


def test_text_without_headings_is_divided_by_size() -> None:
    found = sections_of("\n".join("Some words about it, and so on." for _ in range(600)))
    assert 4 <= len(found) <= 6
