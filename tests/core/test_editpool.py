"""Composition of edits: disjoint edits compose exactly, and text outside their spans never changes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.editpool import PoolEdit, compatible, compose, excludes, fitted, joined
from lpo_agent.core.factorial import Factorial
from lpo_agent.core.text import MarkedPrompt, Prompt, Span, is_local, outside

SEED = Prompt(text="Read the note. Say it loud. Be brief.\n\nNote: {input}")


def edit(start: int, end: int, text: str, *, stacks: bool = False, core: str = "", alone: str = "") -> PoolEdit:
    return PoolEdit(Span(start, end), text, "test", core=core, stacks=stacks, alone=alone)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Prompt, list[PoolEdit]]:
    text = draw(st.text(alphabet="ab .\n", min_size=1, max_size=40))
    places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
    edits = st.builds(
        lambda place, new, stacks: edit(place[0], place[1], new, stacks=stacks and place[0] == place[1]),
        places,
        st.text(alphabet="xyz ", max_size=6),
        st.booleans(),
    )
    return Prompt(text=text), draw(st.lists(edits, max_size=8))


@given(pools())
def test_text_outside_the_spans_of_a_set_never_changes(pool: tuple[Prompt, list[PoolEdit]]) -> None:
    prompt, edits = pool
    chosen: list[PoolEdit] = []
    for each in edits:
        if compatible(chosen, each):
            chosen.append(each)
    child = compose(prompt, chosen)
    spans = tuple(each.span for each in joined(chosen))
    assert is_local(MarkedPrompt(prompt=prompt, spans=spans), child.text)
    kept, at = [*outside(prompt.text, spans)], 0
    parts = []
    for piece, new in zip(kept, [*(each.text for each in joined(chosen)), ""], strict=True):
        parts += [piece, new]
        at += len(piece) + len(new)
    assert child.text == "".join(parts)
    assert len(child.text) == at


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_edits_does_not_matter(pool: tuple[Prompt, list[PoolEdit]], rng: random.Random) -> None:
    prompt, edits = pool
    chosen: list[PoolEdit] = []
    for each in edits:
        if compatible(chosen, each):
            chosen.append(each)
    assert compose(prompt, chosen) == compose(prompt, rng.sample(chosen, len(chosen)))


def test_overlapping_edits_exclude_each_other_and_neighbours_do_not() -> None:
    cut = edit(15, 27, "")
    assert excludes(cut, edit(20, 22, "x"))
    assert excludes(cut, edit(20, 20, "x"))
    assert not excludes(cut, edit(27, 27, " x"))
    assert not excludes(cut, edit(27, 37, "x"))
    assert excludes(edit(5, 5, "x"), edit(5, 5, "y", stacks=True))
    assert not excludes(edit(5, 5, "x", stacks=True), edit(5, 5, "y", stacks=True))


def test_one_text_stands_in_a_prompt_once_and_so_do_examples() -> None:
    assert excludes(edit(0, 0, "Be quick. ", core="Be quick."), edit(37, 37, " Be quick.", core="Be quick."))
    assert excludes(edit(0, 0, "one", alone="examples"), edit(37, 37, "two", alone="examples"))


def test_words_that_are_added_touch_no_other_words() -> None:
    text = SEED.text
    assert fitted(text, 0, "Go.") == "Go. "
    assert fitted(text, 14, "Go.") == " Go."
    assert fitted(text, len(text), "Go:") == "\nGo:"
    assert fitted("Sort it.\n{input}", 9, "Go.") == "Go.\n"


def test_a_draw_is_a_set_of_compatible_edits() -> None:
    model = Factorial()
    model.add([edit(n, n + 4, "x") for n in range(0, 30, 2)] + [edit(0, 0, str(n), stacks=True) for n in range(4)])
    model.note(frozenset(), {"a": 0.0})
    model.refit()
    rng = random.Random(0)
    for _ in range(50):
        chosen = [model.pool[n] for n in sorted(model.draw(rng, 5))]
        assert len(chosen) <= 5
        assert all(compatible([one], other) for one in chosen for other in chosen if one is not other)


def test_the_incumbent_is_the_best_set_that_was_scored_as_a_whole() -> None:
    model = Factorial()
    model.add([edit(0, 4, "x"), edit(5, 8, "y"), edit(15, 18, "z")])
    items = [str(n) for n in range(12)]
    model.note(frozenset(), dict.fromkeys(items, 0.0))
    model.note(frozenset({0}), dict.fromkeys(items, 1.0))
    model.note(frozenset({1}), dict.fromkeys(items, 0.0))
    model.note(frozenset({0, 2}), {"0": 1.0})
    model.refit()
    assert model.incumbent == frozenset({0})
    assert model.chance(0) > 0.95 > model.chance(1)
    worth, error = model.share(frozenset({0}), frozenset({0}))
    assert worth == model.worth(frozenset({0}))
    assert 0 < error < 0.2


def test_two_edits_that_pay_only_together_are_chosen_together() -> None:
    rng = random.Random(4)
    model = Factorial()
    model.add([edit(n, n, f" {n}.", core=str(n), stacks=True) for n in range(12)])
    items = [str(n) for n in range(24)]
    model.note(frozenset(), {item: float(rng.random() < 0.4) for item in items})
    for other in range(2, 12):
        for chosen, score in (({0, 1, other}, 0.9), ({0, other}, 0.35), ({1, other}, 0.35)):
            found = {item: float(rng.random() < score) for item in rng.sample(items, 6)}
            model.note(frozenset(chosen), found)
    model.refit()
    assert {0, 1} <= model.expected(4)
    assert model.worth(frozenset({0, 1})) > 0.05 + sum(model.worth(frozenset({n})) for n in (0, 1))
    effects = {"edit": -0.02, "pair": 0.3}
    assert model.best(lambda term: effects.get(str(term[0]), 0.0) if term != ("pair", 0, 2) else 0.0, 2) == {0, 1}


def test_the_worth_of_an_edit_counts_each_item_once_however_often_it_was_scored() -> None:
    errors = []
    for repeats in (1, 8):
        model = Factorial()
        model.add([edit(n, n, f" {n}.", core=str(n), stacks=True) for n in range(9)])
        for number in range(repeats):
            extra = frozenset({number}) if number else frozenset()
            model.note(extra, {str(item): 0.0 for item in range(6)})
            model.note(extra | {8}, {str(item): float(item < 3) for item in range(6)})
        model.refit()
        errors.append(model.share(frozenset({8}), frozenset({8}))[1])
    assert errors[1] > 0.5 * errors[0]
