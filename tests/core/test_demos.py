"""Tests of few-shot examples: every change is a local edit, is reversible, and shows the rows literally."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.demos import (
    DemoEdit,
    block_spans,
    block_text,
    blocks,
    draw_edit,
    place,
    size,
    usable,
    without_blocks,
)
from lpo_agent.core.messages import Row
from lpo_agent.core.text import (
    PLACEHOLDER,
    TAG,
    MarkedPrompt,
    Prompt,
    Replacement,
    Span,
    fill,
    is_local,
    merge,
    parse_prompt,
    splice,
)

ATOMS = st.sampled_from(
    ["{input}", "{{input}}", "{{{x}}}", "{x}}", "{", "}", "\n", "\n\n", "Example:\n", "Input: a", "Answer: b", "é", "<"]
)
TEXT = st.lists(st.one_of(st.text(max_size=8), ATOMS), max_size=8).map("".join)
PLAIN = TEXT.filter(lambda text: not TAG.search(text))
WORDS = st.text("ab {}\n", max_size=6)
ONE = st.fixed_dictionaries({"input": st.one_of(WORDS, TEXT)})
TWO = st.fixed_dictionaries({"input": WORDS, "x": st.one_of(WORDS, TEXT)})


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Draw a prompt with editable and kept regions, often at line ends."""
    text = draw(PLAIN)
    lines = [0, *(at for at, char in enumerate(text) if char == "\n"), len(text)]
    edges = st.one_of(st.sampled_from(lines), st.integers(0, len(text)))

    def spans() -> list[Span]:
        return [Span(*sorted(pair)) for pair in draw(st.lists(st.tuples(edges, edges), max_size=3))]

    editable = tuple(merge(spans())) if draw(st.booleans()) else None
    return Prompt(text=text, editable=editable or None, keep=tuple(merge(s for s in spans() if s.start < s.end)))


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Draw rows that can be shown, some with the same answer, some alike."""
    shape = draw(st.sampled_from([ONE, TWO]))
    pairs = draw(st.lists(st.tuples(shape, st.one_of(st.sampled_from(["yes", "no"]), WORDS)), max_size=6))
    return usable([Row(id=str(n), variables=values, target=target) for n, (values, target) in enumerate(pairs)])


def made(prompt: Prompt, move: DemoEdit) -> Prompt:
    """Return the prompt after the move, proved to be local."""
    marked = MarkedPrompt(prompt=prompt, spans=(move.span,))
    child = splice(marked, [Replacement(0, move.text)])
    assert is_local(marked, child.text)
    assert child.text == prompt.text[: move.span.start] + move.text + prompt.text[move.span.end :]
    return child


@given(prompts(), row_lists(), st.integers(0, 3), st.integers(0, 99), st.integers(1, 12))
def test_moves_are_local_bounded_and_reversible(
    prompt: Prompt, rows: list[Row], most: int, seed: int, steps: int
) -> None:
    rng, at = random.Random(seed), prompt
    if blocks(prompt.text, rows):
        return
    for _ in range(steps):
        move = draw_edit(at, rows, most, rng)
        if move is None:
            break
        at = made(at, move)
        there = [row.id for row, _ in blocks(at.text, rows)]
        assert len(there) <= most
        assert len(set(there)) == len(there)
    assert [span.of(at.text) for span in at.keep] == [span.of(prompt.text) for span in prompt.keep]
    while blocks(at.text, rows):
        move = draw_edit(at, rows, 0, rng)
        assert move is not None
        at = made(at, move)
    assert at == prompt


@given(prompts(), row_lists(), st.integers(0, 99))
def test_filling_shows_the_rows_as_they_are(prompt: Prompt, rows: list[Row], seed: int) -> None:
    move = draw_edit(prompt, rows, 1, random.Random(seed))
    if move is None or move.note != "add an example":
        return
    child = made(prompt, move)
    ((row, span),) = blocks(child.text, rows)
    given_values = dict.fromkeys(prompt.placeholders, "VALUE")
    before, after = child.text[: span.start], child.text[span.end :]
    names = {"Input": row.variables["input"]} if len(row.variables) == 1 else row.variables
    literal = "\n".join(
        [*(f"{name}: {value.strip()}" for name, value in names.items()), f"Answer: {row.target.strip()}"]
    )
    assert (
        fill(child.text, given_values) == f"{fill(before, given_values)}Example:\n{literal}{fill(after, given_values)}"
    )


@given(TEXT)
def test_no_value_becomes_a_placeholder(value: str) -> None:
    body = block_text(Row(id="1", variables={"input": value}, target=value))
    assert not PLACEHOLDER.search(body)
    assert fill(body, {}) == f"Example:\nInput: {value.strip()}\nAnswer: {value.strip()}"


@given(prompts(), row_lists(), st.integers(0, 99))
def test_the_same_seed_draws_the_same_move(prompt: Prompt, rows: list[Row], seed: int) -> None:
    assert draw_edit(prompt, rows, 2, random.Random(seed)) == draw_edit(prompt, rows, 2, random.Random(seed))


@given(PLAIN, row_lists())
def test_blocks_are_disjoint_and_taken_out_whole(text: str, rows: list[Row]) -> None:
    bodies = frozenset(map(block_text, rows))
    whole = f"{text}\n\n" + "\n\n".join(sorted(bodies))
    found = block_spans(whole, bodies)
    assert {span.of(whole) for span in found} == bodies
    assert merge(found) == found
    assert len(without_blocks(whole, bodies)) == len(whole) - sum(span.end - span.start for span in found)


def reviews(count: int = 9) -> list[Row]:
    """Return rows of three labels; most of them are good."""
    labels = ["bad", "mixed", *["good"] * (count - 2)]
    return [Row(id=str(n), variables={"input": f"review {n}"}, target=label) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("source", "before"),
    [
        ("Classify.\nText: {input}\nLabel:", "Text: {input}"),
        ("Classify {input} as good or bad.", "Classify {input}"),
        ("Classify.\n\nText:\n{input}\nLabel:", "Text:\n{input}"),
        ("Classify it.\n\nThe text:\n```text\n{input}\n```\n", "The text:\n```"),
        ("Classify.\n<text>\n{input}\n</text>", "<text>\n{input}"),
        ("Classify.\n<keep>Text: </keep>{input}", "Text: {input}"),
        ("<keep>Rule.\n</keep><edit>Classify.</edit>\n\nText: {input}", "\n\nText: {input}"),
        ("<edit>Classify.</edit> {input}", "Classify. {input}"),
        ("Classify the text.", ""),
        ("<edit>Classify.</edit>\n<keep>Be kind.</keep>", "\nBe kind."),
    ],
)
def test_examples_stand_before_the_input(source: str, before: str) -> None:
    prompt = parse_prompt(source, {"input"})
    where = place(prompt)
    assert where is not None
    assert where.start == where.end == (prompt.text.index(before) if before else len(prompt.text))


@pytest.mark.parametrize(
    "source", ["Rules: <edit>Classify it</edit> {input}", "<keep>Q: {input}\nA:</keep> think <edit>x</edit>"]
)
def test_there_may_be_no_place(source: str) -> None:
    prompt = parse_prompt(source, {"input"})
    assert place(prompt) is None
    assert draw_edit(prompt, reviews(), 3, random.Random(0)) is None


def test_a_block_reads_like_an_example() -> None:
    prompt = Prompt(text="Classify.\nText: {input}\nLabel:")
    row = Row(id="1", variables={"input": " so {x} "}, target="good")
    move = draw_edit(prompt, [row], 1, random.Random(0))
    assert move is not None
    assert made(prompt, move).text == ("Classify.\nExample:\nInput: so {{x}}\nAnswer: good\n\nText: {input}\nLabel:")
    several = Row(id="2", variables={"city": "Rome", "year": "{{n}}"}, target="4")
    assert block_text(several) == "Example:\ncity: Rome\nyear: {{{n}}}\nAnswer: 4"


def test_a_prompt_without_placeholder_gets_examples_at_its_end() -> None:
    at = Prompt(text="Classify.")
    for count in (1, 2):
        move = draw_edit(at, reviews(2), 2, random.Random(4))
        assert move is not None
        at = made(at, move)
        assert (move.note, len(blocks(at.text, reviews(2)))) == ("add an example", count)
    assert at.text.startswith("Classify.\n\nExample:\nInput: review")


def test_labels_that_are_shown_least_come_first() -> None:
    rows = reviews()
    for seed in range(20):
        rng, at = random.Random(seed), Prompt(text="Classify.\nText: {input}")
        for _ in range(12):
            move = draw_edit(at, rows, 3, rng)
            assert move is not None
            at = made(at, move)
            counts = Counter(row.target for row, _ in blocks(at.text, rows))
            if move.note == "add an example":
                assert max(counts.values()) == 1


def test_all_three_moves_are_drawn() -> None:
    rng, at, notes = random.Random(1), Prompt(text="Classify.\nText: {input}"), Counter[str]()
    for _ in range(60):
        move = draw_edit(at, reviews(), 2, rng)
        assert move is not None
        notes[move.note] += 1
        at = made(at, move)
    assert min(notes[note] for note in ("add an example", "swap an example", "drop an example")) > 5


def test_more_examples_than_allowed_are_only_taken_out() -> None:
    at = Prompt(text="\n\n".join([*map(block_text, reviews(5)), "Text: {input}"]))
    for seed in range(5):
        move = draw_edit(at, reviews(), 2, random.Random(seed))
        assert move is not None
        assert move.note == "drop an example"


def test_kept_examples_are_not_touched() -> None:
    body = block_text(reviews()[0])
    prompt = parse_prompt(f"<keep>{body}\n\nText: </keep>{{input}}\n<edit></edit>", {"input"})
    assert [row.id for row, _ in blocks(prompt.text, reviews())] == ["0"]
    assert draw_edit(prompt, reviews(), 1, random.Random(0)) is None


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("word " * 61, "good"),
        ("w" * 1000, "good"),
        ("读" * 61, "good"),
        ("<edit>so</edit>", "good"),
        ("so", "</ Keep >"),
        ("so <edit", "good"),
        ("so\nExample:\nInput: x", "good"),
        ("so", " "),
        (" \n", "good"),
    ],
)
def test_rows_that_cannot_be_shown(value: str, target: str) -> None:
    assert usable([Row(id="1", variables={"input": value}, target=target)]) == []


def test_rows_alike_are_usable_once_and_the_first_counts() -> None:
    rows = [Row(id=str(n), variables={"input": text}, target="good") for n, text in enumerate(["a", "a ", "b", "a"])]
    assert [row.id for row in usable(rows)] == ["0", "2"]


def test_the_longer_of_two_blocks_is_found() -> None:
    short, long = (Row(id=t, variables={"input": "a"}, target=t) for t in ("yes", "yes\nand no"))
    text = f"{block_text(long)}\n\nText: {{input}}"
    assert [row for row, _ in blocks(text, [short, long])] == [long]
    assert [row for row, _ in blocks(text.replace("and no", "and"), [short, long])] == [short]
    assert blocks(text.replace("yes", "yess"), [short, long]) == []


def test_size_counts_letters_where_no_spaces_are() -> None:
    assert size("Don't do it, ever.") == 4
    assert size("把文本分类 now") == 6
    assert size("") == 0
