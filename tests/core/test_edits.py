"""Tests of edits: they turn the seed into a text and back, one by one, and keep their places."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from lpo_agent.core.edits import (
    Edit,
    applied,
    edits_between,
    mergeable_edits,
    moved_place,
    new_spans,
    origin,
    reverted,
    touch,
)
from lpo_agent.core.text import Prompt, Span, parse_prompt, rewritten
from lpo_agent.errors import EditRejected, MarkupError

WORDS = ["be", "kind", "sort", "the", "_x", "mail", "and", "say", "why", "now", "Ünïcode", "7", "don't"]
GLUE = [" ", " ", " ", ". ", ", ", "\n", "\n\n- ", ""]
PLAIN = st.lists(st.sampled_from([*WORDS, *GLUE]), max_size=8).map("".join)
SPLICED = st.one_of(st.just(""), PLAIN, st.text(alphabet="ab é\n.-", max_size=6))
HOSTILE = st.one_of(SPLICED, st.sampled_from(["{input}", "{", "}", "<edit>", "</keep>", "{{x}}"]))


@st.composite
def seeds(draw: st.DrawFn) -> Prompt:
    """Draw a prompt of plain, kept and editable parts with placeholders."""
    kinds = ["{}", "{}", "<keep>{}</keep>", draw(st.sampled_from(["{}", "<edit>{}</edit>"]))]
    parts = [
        draw(st.sampled_from(kinds)).replace("{}", draw(PLAIN))
        if draw(st.integers(0, 4))
        else draw(st.sampled_from(["{input}", " {city} "]))
        for _ in range(draw(st.integers(1, 6)))
    ]
    try:
        seed = parse_prompt("".join(parts))
    except MarkupError:
        reject()
    assume(seed.free_spans())
    return seed


def cut(draw: st.DrawFn, region: Span, text: str, new: st.SearchStrategy[str]) -> str:
    """Return a region's text with up to two places replaced."""
    old, parts, at = region.of(text), [], 0
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(at, len(old)))
        end = draw(st.integers(start, min(len(old), start + 10)))
        parts += [old[at:start], draw(new)]
        at = end
    return "".join([*parts, old[at:]])


def changed(draw: st.DrawFn, seed: Prompt, new: st.SearchStrategy[str] = SPLICED) -> str:
    """Return the seed's text with random words spliced into its free regions."""
    parts, at = [], 0
    for region in seed.free_spans():
        parts += [seed.text[at : region.start], cut(draw, region, seed.text, new)]
        at = region.end
    return "".join([*parts, seed.text[at:]])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Prompt, str]:
    """Draw a seed and a text that was made of it by edits which it allows."""
    seed = draw(seeds())
    text = changed(draw, seed)
    try:
        rewritten(seed, text)
    except EditRejected:  # two braces met
        reject()
    return seed, text


@given(pairs())
def test_edits_lead_to_the_text(pair: tuple[Prompt, str]) -> None:
    seed, text = pair
    child = applied(seed, edits_between(seed, text))
    assert child.text == text
    assert [span.of(text) for span in child.keep] == [span.of(seed.text) for span in seed.keep]


@given(pairs())
def test_edits_are_sorted_apart_and_change_something(pair: tuple[Prompt, str]) -> None:
    seed, text = pair
    edits = edits_between(seed, text)
    assert list(edits) == sorted(edits)
    assert not any(touch(one.span, other.span) for one, other in pairwise(edits))
    assert all(edit.text != edit.span.of(seed.text) for edit in edits)
    free = seed.free_spans()
    assert all(any(region.start <= e.span.start and e.span.end <= region.end for region in free) for e in edits)


@given(seeds())
def test_an_unchanged_prompt_has_no_edits(seed: Prompt) -> None:
    assert edits_between(seed, seed.text) == ()
    assert applied(seed, ()) == seed


@given(pairs())
def test_taking_all_edits_out_one_by_one_leads_back_to_the_seed(pair: tuple[Prompt, str]) -> None:
    seed, text = pair
    edits = list(edits_between(seed, text))
    while edits:
        prompt = reverted(seed, edits, len(edits) - 1)
        edits.pop()
        assert applied(seed, edits_between(seed, prompt.text)).text == prompt.text
        assert prompt == applied(seed, edits)
    assert applied(seed, edits) == seed


@st.composite
def attempts(draw: st.DrawFn) -> tuple[Prompt, str]:
    """Draw a seed and a text that it may not allow."""
    seed = draw(seeds())
    return seed, changed(draw, seed, HOSTILE)


@given(attempts())
def test_a_text_with_changed_protected_parts_is_refused(attempt: tuple[Prompt, str]) -> None:
    seed, text = attempt
    try:
        rewritten(seed, text)
    except EditRejected:
        with pytest.raises(EditRejected):
            applied(seed, edits_between(seed, text))
    else:
        assert applied(seed, edits_between(seed, text)).text == text


@pytest.mark.parametrize("text", ["Sort mail now. ", "Sort {input} mail now. Be brief.", "Sort mail now. Be {input}"])
def test_kept_text_must_be_unchanged(text: str) -> None:
    seed = parse_prompt("Sort mail now. <keep>Be brief.</keep> {input}")
    with pytest.raises(EditRejected):
        edits_between(seed, text)


def test_edits_are_found_word_by_word() -> None:
    seed = parse_prompt("Sort the mail. <keep>Be brief.</keep> {input}")
    assert edits_between(seed, "Please sort the new mail. Be brief. Mail: {input}!") == (
        Edit(Span(0, 4), "Please sort"),
        Edit(Span(8, 8), " new"),
        Edit(Span(24, 24), " Mail:"),
        Edit(Span(32, 32), "!"),
    )


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("one two three", "ONE TWO three", [Edit(Span(0, 7), "ONE TWO")]),  # no word between them
        ("one two three", "ONE two THREE", [Edit(Span(0, 3), "ONE"), Edit(Span(8, 13), "THREE")]),
        ("one _two three", "ONE _two THREE", [Edit(Span(0, 3), "ONE"), Edit(Span(9, 14), "THREE")]),
        ("old {input}", "new word {input}", [Edit(Span(0, 3), "new word")]),  # the space before it stays
        ("one two", "one", [Edit(Span(3, 7), "")]),
        ("- <edit>a b</edit>\n- <edit>c</edit>", "- a\n- b\n- c!", [Edit(Span(3, 3), "\n-"), Edit(Span(9, 9), "!")]),
        ("<edit>a b</edit> <edit>c</edit>", "a X b c", [Edit(Span(1, 1), " X")]),  # the first space was not kept
    ],
)
def test_edits_are_as_small_as_whole_words_allow(source: str, text: str, expected: list[Edit]) -> None:
    seed = parse_prompt(source)
    assert applied(seed, expected).text == text
    assert list(edits_between(seed, text)) == expected


@given(pairs())
def test_each_new_text_stands_in_the_edited_text(pair: tuple[Prompt, str]) -> None:
    seed, text = pair
    edits = edits_between(seed, text)
    assert [span.of(text) for span in new_spans(edits)] == [edit.text for edit in edits]


# seeds of different words, in which each edit replaces words by new ones: here the edits are unique


class Known(NamedTuple):
    """A seed of different words and the edits that were made."""

    seed: Prompt
    edits: tuple[Edit, ...]


FRAMES = ["{0}", "{0} {{input}} {1}", "<keep>Fixed words. </keep>{0} {{input}}", "{0}<keep> Fixed words. </keep>{1}"]
EDITABLE = ["<edit>{0}</edit> <edit>{1}</edit> <edit>{2}</edit>", "- <edit>{0}</edit>\n- <edit>{1}</edit>\n- {2}"]


@st.composite
def unique_seeds(draw: st.DrawFn) -> Prompt:
    frame = draw(st.sampled_from([*FRAMES, *EDITABLE]))
    texts = [" ".join(f"old{part}x{number}" for number in range(draw(st.integers(1, 9)))) for part in range(3)]
    return parse_prompt(frame.format(*texts))


def words(seed: Prompt) -> list[Span]:
    """Return the seed's words that may be replaced."""
    found = []
    for region in seed.free_spans():
        at = region.start
        for word in region.of(seed.text).split(" "):
            if word:
                found.append(Span(at, at + len(word)))
            at += len(word) + 1
    return found


def replaced(draw: st.DrawFn, seed: Prompt, name: str) -> tuple[Edit, ...]:
    """Draw edits that each replace one word, with an unchanged word between any two."""
    places = words(seed)
    chosen = draw(st.sets(st.sampled_from(range(len(places)))))
    apart = [n for n in sorted(chosen) if n - 1 not in chosen]
    return tuple(
        Edit(places[n], " ".join(f"{name}{n}y{more}" for more in range(draw(st.integers(1, 3))))) for n in apart
    )


@st.composite
def known(draw: st.DrawFn) -> Known:
    seed = draw(unique_seeds())
    return Known(seed, replaced(draw, seed, "new"))


@given(known())
def test_the_edits_that_were_made_are_found(case: Known) -> None:
    text = applied(case.seed, case.edits).text
    assert edits_between(case.seed, text) == case.edits


@given(known(), st.data())
def test_a_prompt_without_one_edit_has_the_others(case: Known, data: st.DataObject) -> None:
    assume(case.edits)
    number = data.draw(st.sampled_from(range(len(case.edits))))
    left = reverted(case.seed, case.edits, number).text
    assert edits_between(case.seed, left) == (*case.edits[:number], *case.edits[number + 1 :])


@given(known())
def test_new_text_stands_for_its_place_and_unchanged_words_for_themselves(case: Known) -> None:
    text = applied(case.seed, case.edits).text
    for edit, new in zip(case.edits, new_spans(case.edits), strict=True):
        assert origin(case.edits, new) == edit.span
        assert origin(case.edits, Span(new.start + 1, new.end - 1)) == edit.span
        assert origin(case.edits, Span(new.end, new.end)) == edit.span
    for word in words(case.seed):
        at = text.find(word.of(case.seed.text))
        if at >= 0:
            assert origin(case.edits, Span(at, at + len(word.of(case.seed.text)))) == word


@given(known())
def test_a_span_over_everything_stands_for_everything(case: Known) -> None:
    text = applied(case.seed, case.edits).text
    assert origin(case.edits, Span(0, len(text))) == Span(0, len(case.seed.text))


@pytest.mark.parametrize(
    ("span", "place"),
    [
        (Span(0, 3), Span(0, 3)),  # "one", before the deletion of " two"
        (Span(3, 3), Span(3, 7)),  # where " two" was taken out
        (Span(0, 9), Span(0, 13)),  # "one three", across it
        (Span(3, 9), Span(7, 13)),  # " three", after it
        (Span(10, 14), Span(14, 18)),  # "FOUR" for "four"
        (Span(4, 12), Span(8, 18)),  # "three FO": the whole of "four"
        (Span(12, 19), Span(14, 23)),  # "UR five"
        (Span(14, 14), Span(14, 18)),  # the end of "FOUR"
        (Span(15, 15), Span(19, 19)),  # between words
        (Span(19, 23), Span(23, 23)),  # " six", added
        (Span(15, 23), Span(19, 23)),  # "five six"
        (Span(23, 23), Span(23, 23)),
    ],
)
def test_origins_at_deletions_replacements_and_additions(span: Span, place: Span) -> None:
    seed = Prompt(text="one two three four five")
    edits = [Edit(Span(3, 7), ""), Edit(Span(14, 18), "FOUR"), Edit(Span(23, 23), " six")]
    assert applied(seed, edits).text == "one three FOUR five six"
    assert origin(edits, span) == place


@given(known(), st.data())
def test_untouched_spans_are_mapped_forth_and_back_unchanged(case: Known, data: st.DataObject) -> None:
    text = applied(case.seed, case.edits).text
    one, other = data.draw(st.tuples(*[st.integers(0, len(case.seed.text))] * 2))
    place = Span(min(one, other), max(one, other))
    there = moved_place(case.edits, place)
    assert (there is None) == any(touch(edit.span, place) for edit in case.edits)
    if there is not None:
        assert there.of(text) == place.of(case.seed.text)
        assert origin(case.edits, there) == place


@st.composite
def mates(draw: st.DrawFn) -> tuple[Prompt, tuple[Edit, ...], tuple[Edit, ...]]:
    """Draw a seed and the edits of two prompts, some of which they share."""
    seed = draw(unique_seeds())
    return seed, replaced(draw, seed, "new"), replaced(draw, seed, draw(st.sampled_from(["new", "own"])))


@given(mates())
def test_grafts_are_exactly_the_edits_that_do_not_touch_the_parent(
    case: tuple[Prompt, tuple[Edit, ...], tuple[Edit, ...]],
) -> None:
    _, parent, other = case
    new = mergeable_edits(parent, other)
    for edit in other:
        assert (edit in new) != any(touch(edit.span, own.span) for own in parent)
    assert not set(new) & set(parent)
    assert mergeable_edits(parent, parent) == []


@given(mates())
def test_a_merged_prompt_keeps_the_edits_of_both(case: tuple[Prompt, tuple[Edit, ...], tuple[Edit, ...]]) -> None:
    seed, parent, other = case
    merged = sorted([*parent, *mergeable_edits(parent, other)])
    text = applied(seed, merged).text
    assert [span.of(text) for span in new_spans(merged)] == [edit.text for edit in merged]
    assert set(parent) <= set(merged)
    if not any(after.span.start - before.span.end == 1 for before, after in pairwise(merged)):  # else found as one
        assert edits_between(seed, text) == tuple(merged)


@given(mates())
def test_grafts_put_into_the_parent_where_they_land_give_the_merged_prompt(
    case: tuple[Prompt, tuple[Edit, ...], tuple[Edit, ...]],
) -> None:
    seed, own, other = case
    parent, new = applied(seed, own), mergeable_edits(own, other)
    spans = [moved_place(own, edit.span) for edit in new]
    there = [Edit(span, edit.text) for span, edit in zip(spans, new, strict=True) if span is not None]
    assert len(there) == len(new)
    assert applied(parent, there).text == applied(seed, sorted([*own, *new])).text


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Span(0, 3), Span(4, 5), False),
        (Span(0, 3), Span(3, 5), True),
        (Span(0, 3), Span(3, 3), True),
        (Span(2, 2), Span(2, 2), True),
        (Span(0, 9), Span(4, 5), True),
        (Span(2, 2), Span(3, 3), False),
    ],
)
def test_places_touch_if_they_share_text_or_a_border(one: Span, other: Span, *, expected: bool) -> None:
    assert touch(one, other) == touch(other, one) == expected


def test_long_prompts_are_compared_quickly() -> None:
    """Blanks between words would make this quadratic: minutes, and not a moment."""
    text = " ".join(f"word{n % 7000}" for n in range(60_000))
    seed = Prompt(text=text)
    changed = text.replace("word10 ", "other ", 1).replace("word6990 ", "", 1)
    assert [edit.text for edit in edits_between(seed, changed)] == ["other", ""]
