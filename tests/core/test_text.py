"""Tests of spans, tags and splicing: exactness and locality for arbitrary Unicode text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.text import (
    TAG,
    MarkedPrompt,
    Prompt,
    Replacement,
    Span,
    fill,
    is_local,
    merge,
    parse_prompt,
    parse_tags,
    render,
    rewritten,
    splice,
    subtract,
)
from lpo_agent.errors import EditRejected, MarkupError

ATOMS = st.sampled_from(
    ["{input}", "{city}", "{{input}}", "<", ">", "<ed", "it>", "/edit>", "{", "}", "\n", "é", "👩‍👩‍👧", "\u202e"]
)
TEXT = st.lists(st.one_of(st.text(max_size=12), ATOMS), max_size=12).map("".join)
PLAIN = TEXT.filter(lambda text: not TAG.search(text))


@st.composite
def disjoint(draw: st.DrawFn, length: int, most: int = 5) -> tuple[Span, ...]:
    """Draw sorted disjoint spans in a text of ``length``, empty ones included."""
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=2 * most)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    spans: list[Span] = []
    for start, end in pairs:
        if not spans or (start >= spans[-1].end and Span(start, end) != spans[-1]):
            spans.append(Span(start, end))
    return tuple(spans)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Draw a prompt with editable and kept regions."""
    text = draw(PLAIN)
    editable = tuple(merge(draw(disjoint(len(text))))) if draw(st.booleans()) else None
    keep = tuple(merge(s for s in draw(disjoint(len(text))) if s.start < s.end))
    return Prompt(text=text, editable=editable or None, keep=keep)


@st.composite
def marked_prompts(draw: st.DrawFn) -> MarkedPrompt:
    """Draw a prompt with spans inside its free regions."""
    prompt = draw(prompts())
    spans: list[Span] = []
    for free in prompt.free_spans():
        for span in draw(disjoint(free.end - free.start, most=2)):
            moved = Span(span.start + free.start, span.end + free.start)
            if not spans or (moved.start >= spans[-1].end and moved != spans[-1]):
                spans.append(moved)
    return MarkedPrompt(prompt=prompt, spans=tuple(spans))


@st.composite
def edits(draw: st.DrawFn) -> tuple[MarkedPrompt, list[Replacement]]:
    """Draw a marked prompt and new texts for some of its spans, hostile ones included."""
    marked = draw(marked_prompts())
    numbers = draw(st.lists(st.sampled_from(range(len(marked.spans))), unique=True)) if marked.spans else []
    return marked, [Replacement(number, draw(TEXT)) for number in numbers]


@given(edits())
def test_an_accepted_edit_changes_nothing_outside_its_spans(edit: tuple[MarkedPrompt, list[Replacement]]) -> None:
    marked, replacements = edit
    try:
        child = splice(marked, replacements)
    except EditRejected:
        return
    new, text, at = dict(replacements), marked.prompt.text, 0
    for number, span in enumerate(marked.spans):
        untouched = text[at : span.start]
        assert child.text.startswith(untouched)
        filled = new.get(number, span.of(text))
        assert child.text[len(untouched) :].startswith(filled)
        child = Prompt.model_construct(text=child.text[len(untouched) + len(filled) :], editable=None, keep=())
        at = span.end
    assert child.text == text[at:]


@given(edits())
def test_the_locality_check_accepts_every_splice(edit: tuple[MarkedPrompt, list[Replacement]]) -> None:
    marked, replacements = edit
    try:
        child = splice(marked, replacements)
    except EditRejected:
        return
    assert is_local(marked, child.text)


@given(edits())
def test_kept_regions_and_placeholders_survive_every_accepted_edit(
    edit: tuple[MarkedPrompt, list[Replacement]],
) -> None:
    marked, replacements = edit
    try:
        child = splice(marked, replacements)
    except EditRejected:
        return
    parent = marked.prompt
    assert [s.of(child.text) for s in child.keep] == [s.of(parent.text) for s in parent.keep]
    assert child.placeholders == parent.placeholders
    assert not TAG.search(child.text)
    assert Prompt.model_validate_json(child.model_dump_json()) == child


@given(edits())
def test_what_was_not_editable_stays_as_it_was(edit: tuple[MarkedPrompt, list[Replacement]]) -> None:
    marked, replacements = edit
    if marked.prompt.editable is None:
        return
    try:
        child = splice(marked, replacements)
    except EditRejected:
        return
    assert child.editable is not None
    before = render(marked.prompt.text, marked.prompt.editable, "hole").split("<hole>")
    after = render(child.text, child.editable, "hole").split("<hole>")
    assert [piece.split("</hole>")[-1] for piece in before] == [piece.split("</hole>")[-1] for piece in after]


@given(PLAIN, st.data())
def test_a_change_outside_the_spans_is_found(text: str, data: st.DataObject) -> None:
    spans = data.draw(disjoint(len(text), most=1))
    marked = MarkedPrompt.model_construct(prompt=Prompt(text=text), spans=spans)
    outside = [i for i in range(len(text)) if not any(s.start <= i < s.end for s in marked.spans)]
    if not outside:
        return
    at = data.draw(st.sampled_from(outside))
    damaged = text[:at] + ("\u0001" if text[at] != "\u0001" else "\u0002") + text[at + 1 :]
    assert not is_local(marked, damaged)


@given(marked_prompts())
def test_parsing_undoes_rendering(marked: MarkedPrompt) -> None:
    text, spans = parse_tags(marked.render())
    assert text == marked.prompt.text
    assert tuple(spans["edit"]) == marked.spans


@given(st.integers(0, 30), st.integers(0, 30), disjoint(30))
def test_subtract_keeps_exactly_what_no_hole_covers(one: int, other: int, holes: tuple[Span, ...]) -> None:
    region = Span(min(one, other), max(one, other))
    left = {i for piece in subtract(region, holes) for i in range(*piece)}
    assert left == {i for i in range(*region) if not any(h.start <= i < h.end for h in holes)}


@given(TEXT, st.dictionaries(st.sampled_from(["input", "city"]), TEXT, min_size=2))
def test_values_are_filled_in_once_and_never_expanded_again(value: str, values: dict[str, str]) -> None:
    values |= {"input": value}
    assert fill("a {input} b {{input}} c {city}", values) == f"a {value} b {{input}} c {values['city']}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a <edit>b <edit>c</edit></edit>", "nested"),
        ("a <edit>b", "never closed"),
        ("a</edit> b", "closes nothing"),
        ("a <edit>b</keep>", "closes nothing"),
        ("a <Edit>b</Edit>", "not a tag"),
        ("a <edit >b</edit>", "not a tag"),
        ("a\n<edit/>", "line 2"),
        ("<keep>all of it</keep>", "nothing in the prompt may change"),
        ("<keep>Q: </keep>{input}", "nothing in the prompt may change"),
        ("", "empty"),
        ("Say {nme}", "placeholder {nme}"),
        ("Say {{input}}", "plain text"),
    ],
)
def test_bad_markup_is_refused_with_a_reason(source: str, message: str) -> None:
    with pytest.raises(MarkupError, match=message):
        parse_prompt(source, {"input"})


def test_tags_become_regions_of_the_bare_text() -> None:
    prompt = parse_prompt("<keep>Be kind.</keep> <edit>Say it</edit>: {input}<edit></edit>", {"input"})
    assert prompt.text == "Be kind. Say it: {input}"
    assert [span.of(prompt.text) for span in prompt.keep] == ["Be kind."]
    assert [span.of(prompt.text) for span in prompt.free_spans()] == ["Say it", ""]


def test_text_may_be_added_after_a_placeholder_at_the_end() -> None:
    prompt = parse_prompt("{city}: say {input}", {"input", "city"})
    assert prompt.free_spans() == [Span(0, 0), Span(6, 12), Span(19, 19)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("<edit>x</edit>", "tag"), ("{city}", "placeholder"), ("</keep>", "tag")],
)
def test_an_edit_that_writes_tags_or_placeholders_is_rejected(text: str, reason: str) -> None:
    marked = MarkedPrompt(prompt=Prompt(text="Say {input} now"), spans=(Span(0, 3),))
    with pytest.raises(EditRejected, match=reason):
        splice(marked, [Replacement(0, text)])


def test_a_placeholder_formed_with_untouched_text_is_rejected() -> None:
    marked = MarkedPrompt(prompt=Prompt(text="a input} b"), spans=(Span(2, 2),))
    with pytest.raises(EditRejected, match="placeholder"):
        splice(marked, [Replacement(0, "{")])


def test_spans_may_not_touch_protected_text() -> None:
    with pytest.raises(ValueError, match="must be kept"):
        MarkedPrompt(prompt=Prompt(text="Say {input}"), spans=(Span(2, 6),))


@pytest.mark.parametrize("replacements", [[Replacement(1, "x")], [Replacement(0, "x"), Replacement(0, "y")]])
def test_unknown_and_repeated_spans_are_rejected(replacements: list[Replacement]) -> None:
    marked = MarkedPrompt(prompt=Prompt(text="Say it"), spans=(Span(0, 3),))
    with pytest.raises(EditRejected):
        splice(marked, replacements)


def test_text_may_be_added_between_two_parts_that_never_change() -> None:
    prompt = parse_prompt("<keep>Note:</keep><edit></edit>{input}", {"input"})
    assert prompt.free_spans() == [Span(5, 5)]
    assert rewritten(prompt, "Note: hear, {input}").text == "Note: hear, {input}"
    assert parse_prompt("<keep>Note:</keep>{input}<edit> ok</edit>", {"input"}).free_spans() == [Span(12, 15)]
