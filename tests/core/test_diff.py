"""Tests of the measures of proposals, with small texts computed by hand and with arbitrary texts."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lpo_agent.core.beam_options import BeamOptions, beam_options_for, budget_share
from lpo_agent.core.diff import Measures, mean_of, measure, repetition
from lpo_agent.core.events import BeamSelected, Proposed
from lpo_agent.core.influence import phrases, reranked
from lpo_agent.core.messages import Effect, Mark
from lpo_agent.core.tally import Tally, calls_to
from lpo_agent.core.text import (
    TAG,
    MarkedPrompt,
    Prompt,
    Replacement,
    Span,
    is_local,
    merge,
    outside,
    parse_prompt,
    parse_tags,
    rewritten,
    splice,
)
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

ATOMS = st.sampled_from(["{input}", "{city}", "{", "}", " ", "\n", "a", "a b", "<", "é", "👩‍👩‍👧", "\u202e", "\u2003"])
TEXT = st.lists(st.one_of(st.text(max_size=8), ATOMS), max_size=10).map("".join)
PLAIN = TEXT.filter(lambda text: not TAG.search(text))
WORDS = st.lists(st.sampled_from(["a", "b", "c", "{input}", "d."]), max_size=12).map(" ".join)


@st.composite
def spans(draw: st.DrawFn, length: int, most: int = 4) -> tuple[Span, ...]:
    """Draw sorted disjoint spans, empty ones included."""
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=2 * most)))
    found: list[Span] = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        if not found or (start >= found[-1].end and Span(start, end) != found[-1]):
            found.append(Span(start, end))
    return tuple(found)


@st.composite
def prompts(draw: st.DrawFn, texts: st.SearchStrategy[str] = PLAIN) -> Prompt:
    """Draw a prompt with editable and kept regions."""
    text = draw(texts)
    editable = tuple(merge(draw(spans(len(text))))) if draw(st.booleans()) else None
    return Prompt(
        text=text, editable=editable or None, keep=tuple(merge(s for s in draw(spans(len(text))) if s[0] < s[1]))
    )


@st.composite
def marked_prompts(draw: st.DrawFn, texts: st.SearchStrategy[str] = PLAIN) -> MarkedPrompt:
    """Draw a prompt with spans inside its free regions."""
    prompt = draw(prompts(texts))
    found = [
        Span(free.start + span.start, free.start + span.end)
        for free in prompt.free_spans()
        for span in draw(spans(free.end - free.start, most=2))
    ]
    unique = [
        span for n, span in enumerate(found) if n == 0 or (span.start >= found[n - 1].end and span != found[n - 1])
    ]
    assume(all(one.end <= other.start for one, other in pairwise(unique)))
    return MarkedPrompt(prompt=prompt, spans=tuple(unique))


def marked(rendered: str) -> MarkedPrompt:
    """Return the prompt without its tags, its spans marked."""
    text, found = parse_tags(rendered)
    return MarkedPrompt(prompt=Prompt(text=text), spans=tuple(found["edit"]))


def leak(rendered: str, child: str) -> float | None:
    tagged = marked(rendered)
    return measure(tagged.prompt.text, child, tagged).leakage


# measure


def test_an_edit_inside_its_tag_has_no_leakage() -> None:
    found = measure("Say a word now", "Say two more words now", marked("Say <edit>a word</edit> now"))
    assert found == Measures(
        tags=1,
        tag_words=2.0,
        tagged_fraction=0.5,
        local=True,
        leakage=0.0,
        changed=0.75,  # two words gone, three new: three of four
        length_ratio=1.25,
        repetition=0.0,
    )


def test_measures_of_tags_are_none_without_tags() -> None:
    found = measure("Say a word", "Say it", None)
    assert (found.tags, found.tag_words, found.tagged_fraction, found.local, found.leakage) == (None,) * 5
    assert found.changed == pytest.approx(2 / 3)
    assert found.length_ratio == pytest.approx(2 / 3)


def test_several_tags_are_counted_with_the_mean_of_their_words() -> None:
    tagged = marked("<edit>One two three</edit> four <edit>five</edit> six<edit></edit>")
    found = measure(tagged.prompt.text, "Eins four sechs six", tagged)
    assert found.tags == 3
    assert found.tag_words == pytest.approx(4 / 3)
    assert found.tagged_fraction == pytest.approx(4 / 6)
    assert (found.local, found.leakage) == (True, 0.0)


@pytest.mark.parametrize(
    ("rendered", "child", "share"),
    [
        # One of three untagged words is gone; the change beside the tag is free.
        ("Say <edit>a word</edit> now please", "Say two words now", 1 / 3),
        # Two words are added far from the tag, three words are untagged.
        ("<edit>one</edit> two three four", "one two three four five six", 2 / 3),
        # Another word far from the tag takes the place of one.
        ("<edit>one</edit> two three four", "one two drei four", 1 / 3),
        # Words next to the tag that go with it.
        ("one <edit>two</edit> three", "one zwei", 1 / 2),
        # All of it is rewritten: no more than all can leak.
        ("one <edit>two</edit> three", "x y z w v u t s r q p", 1.0),
        # All is tagged, and nothing is left that could leak.
        ("<edit>one two</edit>", "x y z", 0.0),
        # Only white space outside of the tag changed: no word leaked.
        ("one two <edit>three</edit>", "one  two three", 0.0),
        # Nothing is left.
        ("one <edit>two</edit> three four", "", 1.0),
        # A word that moved is gone in one place and added in another.
        ("a b c d <edit>e</edit>", "b a c d e", 2 / 4),
    ],
)
def test_leakage_is_the_share_of_untagged_words_that_changed(rendered: str, child: str, share: float) -> None:
    assert leak(rendered, child) == pytest.approx(share)


def test_white_space_outside_tags_is_no_word_but_is_no_local_edit() -> None:
    tagged = marked("one two <edit>three</edit>")
    assert measure("one two three", "one  two three", tagged).local is False
    assert measure("one two three", "one two  three", tagged).local is True


@given(marked_prompts(), st.data())
def test_whatever_is_put_into_the_tags_leaks_nothing(tagged: MarkedPrompt, data: st.DataObject) -> None:
    new = [Replacement(n, data.draw(TEXT)) for n in range(len(tagged.spans)) if data.draw(st.booleans())]
    try:
        child = splice(tagged, new).text
    except EditRejected:
        assume(False)
    found = measure(tagged.prompt.text, child, tagged)
    assert (found.leakage, found.local) == (0.0, True)
    assert found.tags == len(tagged.spans)


@given(marked_prompts(), TEXT)
@example(MarkedPrompt(prompt=Prompt(text=""), spans=()), "a")
@example(MarkedPrompt(prompt=Prompt(text=" "), spans=(Span(0, 1),)), "a b")
def test_measures_of_any_text_are_shares(tagged: MarkedPrompt, child: str) -> None:
    found = measure(tagged.prompt.text, child, tagged)
    assert found.leakage is not None
    assert 0 <= found.leakage <= 1
    assert 0 <= found.changed <= 1
    assert 0 <= found.repetition <= 1
    assert found.length_ratio >= 0
    assert found.tagged_fraction is not None
    assert 0 <= found.tagged_fraction <= 1
    pieces = map(re.escape, outside(tagged.prompt.text, tagged.spans))
    assert found.local == bool(re.fullmatch(".*".join(pieces), child, re.DOTALL))
    assert found.leakage == 0 or not found.local


@given(marked_prompts(WORDS), st.integers(1, 12))
def test_a_text_without_a_common_word_leaks_all_that_is_untagged(tagged: MarkedPrompt, count: int) -> None:
    text = tagged.prompt.text
    found = measure(text, " ".join(["other"] * count), tagged)
    words = [match.span() for match in re.finditer(r"\S+", text)]
    untagged = [w for w in words if not any(w[0] < span.end and w[1] > span.start for span in tagged.spans)]
    assert found.changed == 1
    if untagged:
        assert (found.leakage, found.local) == (1, False)
    elif tagged.spans:
        assert found.leakage == 0


@given(marked_prompts())
def test_the_same_text_has_changed_nothing(tagged: MarkedPrompt) -> None:
    found = measure(tagged.prompt.text, tagged.prompt.text, tagged)
    assert (found.changed, found.leakage, found.local, found.length_ratio) == (0, 0, True, 1)


# repetition


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("a b", 0.0),
        ("a b c", 0.0),
        ("a b c a b c", 1 / 4),  # abc bca cab abc: the last was there
        ("A b c  a B\nC", 1 / 4),
        ("x x x x x", 2 / 3),
    ],
)
def test_repetition_is_the_share_of_three_words_that_were_there_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@given(st.lists(st.sampled_from(["a", "b", "C", "c", "d."]), min_size=3, max_size=20))
def test_saying_all_again_repeats_it(words: list[str]) -> None:
    text, count = " ".join(words), len(words)
    assert 0 <= repetition(text) < 1
    # Of 2 n - 2 runs at least the n - 2 of the second half were there.
    assert repetition(f"{text} {text}") >= (count - 2) / (2 * count - 2) - 1e-12


# rewritten


def test_a_rewrite_moves_what_is_kept_along() -> None:
    prompt = parse_prompt("Read <keep>all of it</keep> and say {input} now.")
    child = rewritten(prompt, "First of all, look at all of it, then tell {input}")
    assert child.text == "First of all, look at all of it, then tell {input}"
    assert [span.of(child.text) for span in child.keep] == ["all of it"]
    assert child.placeholders == ("input",)


@pytest.mark.parametrize(
    "text",
    [
        "Read it and say {input} now.",  # what is kept is gone
        "Say {input}, all of it.",  # in another order
        "Read all of it and say now.",  # no placeholder
        "Read all of it and say {input} {input} now.",  # twice
        "Read all of it and say {input} in {city}.",  # one more
        "Read all of it and say {{input}} now.",  # none: it is text
        "Read all  of it and say {input} now.",  # not the same text
        "",
    ],
)
def test_a_rewrite_that_loses_what_must_be_kept_is_rejected(text: str) -> None:
    prompt = parse_prompt("Read <keep>all of it</keep> and say {input} now.")
    with pytest.raises(EditRejected):
        rewritten(prompt, text)


def test_a_rewrite_keeps_what_stands_outside_the_editable_regions() -> None:
    prompt = parse_prompt("Head. <edit>Change me.</edit> Tail.")
    assert rewritten(prompt, "Head. Changed. Tail.").text == "Head. Changed. Tail."
    assert rewritten(prompt, "Head.  Tail.").editable == (Span(6, 6),)
    for text in ("Head. Changed.", "Kopf. Changed. Tail.", "Head. Changed. Tail. More."):
        with pytest.raises(EditRejected):
            rewritten(prompt, text)


@given(prompts(), st.data())
def test_a_rewrite_of_all_that_is_free_is_accepted_as_it_is(prompt: Prompt, data: st.DataObject) -> None:
    free = MarkedPrompt(prompt=prompt, spans=tuple(prompt.free_spans()))
    assume(free.spans)
    try:
        text = splice(free, [Replacement(n, data.draw(TEXT)) for n in range(len(free.spans))]).text
    except EditRejected:
        assume(False)
    child = rewritten(prompt, text)
    assert child.text == text
    assert [span.of(child.text) for span in child.keep] == [span.of(prompt.text) for span in prompt.keep]
    assert child.placeholders == prompt.placeholders


@given(prompts(WORDS), WORDS)
def test_any_text_is_rejected_or_taken_with_all_that_is_kept(prompt: Prompt, text: str) -> None:
    try:
        child = rewritten(prompt, text)
    except EditRejected:
        return
    assert child.text == text
    assert is_local(MarkedPrompt(prompt=prompt, spans=tuple(prompt.free_spans())), text)
    assert [span.of(child.text) for span in child.keep] == [span.of(prompt.text) for span in prompt.keep]
    again = rewritten(child, text)  # and can be kept on
    assert (again.text, again.keep) == (child.text, child.keep)


# reranked


def marks(*found: tuple[int, int]) -> list[Mark]:
    return [Mark(span=Span(*span), reason="tagged") for span in found]


def effects(*found: tuple[int, int, float]) -> list[Effect]:
    return [Effect(span=Span(start, end), influence=influence, n=6) for start, end, influence in found]


def test_reranking_leaves_what_helps_alone_and_takes_the_most_harmful_first() -> None:
    tagged = marks((0, 2), (3, 5), (6, 8), (9, 9))
    measured = effects((0, 2, -0.1), (3, 5, 0.5), (6, 8, -0.5))
    assert [m.span for m in reranked(tagged, measured, 1)] == [Span(6, 8)]
    assert [m.span for m in reranked(tagged, measured, 2)] == [Span(0, 2), Span(6, 8)]
    assert [m.span for m in reranked(tagged, measured, 3)] == [Span(0, 2), Span(6, 8), Span(9, 9)]
    assert [m.span for m in reranked(tagged, measured, 9)] == [Span(0, 2), Span(6, 8), Span(9, 9)]
    assert [m.span for m in reranked(tagged, measured, 0)] == [Span(0, 2), Span(6, 8), Span(9, 9)]


def test_reranking_says_what_was_measured() -> None:
    (mark,) = reranked(marks((0, 2)), effects((0, 2, -0.5)), 4)
    assert (mark.influence, mark.reason) == (-0.5, "tagged; hurts: -0.50 on 6 items")
    (unknown,) = reranked(marks((0, 2)), [], 4)
    assert (unknown.influence, unknown.reason) == (None, "tagged")


def test_reranking_takes_the_least_helpful_where_all_help() -> None:
    measured = effects((0, 2, 0.5), (3, 5, 0.1), (6, 8, 0.3))
    assert [m.span for m in reranked(marks((0, 2), (3, 5), (6, 8)), measured, 2)] == [Span(3, 5), Span(6, 8)]


@given(
    st.dictionaries(st.integers(0, 9), st.none() | st.integers(-4, 4).map(lambda n: n / 4), min_size=1),
    st.integers(0, 6),
)
def test_reranking_keeps_to_its_budget_and_never_prefers_what_helps(
    known: dict[int, float | None], budget: int
) -> None:
    tagged = marks(*((2 * n, 2 * n + 1) for n in sorted(known)))
    measured = effects(*((2 * n, 2 * n + 1, value) for n, value in known.items() if value is not None))
    kept = reranked(tagged, measured, budget)
    places = [mark.span for mark in kept]
    assert places == sorted(places)
    assert set(places) <= {mark.span for mark in tagged}
    worth = {n: value or 0.0 for n, value in known.items()}
    open_to_change = [n for n in worth if worth[n] <= 0] or list(worth)
    assert len(kept) == min(budget or len(worth), len(open_to_change))
    taken = [worth[span.start // 2] for span in places]
    left = [worth[n] for n in open_to_change if Span(2 * n, 2 * n + 1) not in places]
    assert not left or max(taken) <= min(left)
    assert all(value <= 0 for value in taken) or all(value > 0 for value in worth.values())


def test_phrases_have_at_most_five_words_and_leave_placeholders_alone() -> None:
    prompt = Prompt(text="Read all of the many words of it, one by one; then say {input}.")
    found = [span.of(prompt.text) for span in phrases(prompt)]
    assert found
    assert all(1 <= len(text.split()) <= 5 for text in found)
    assert not any("{input}" in text for text in found)


# budgets of edits


@pytest.mark.parametrize(
    ("schedule", "steps", "shares"),
    [
        ("constant", 3, [1, 1, 1]),
        ("linear", 5, [1, 0.8, 0.6, 0.4, 0.2]),
        # 0.2 + 0.8 (1 + cos(pi done)) / 2 at done = 0, 1/4, 1/2, 3/4, 1; cos(pi / 4) = 0.7071
        ("cosine", 5, [1, 0.88284, 0.6, 0.31716, 0.2]),
        ("cosine", 3, [1, 0.6, 0.2]),
        ("cosine", 1, [1]),
        ("linear", 2, [1, 0.2]),
    ],
)
def test_budget_shares_by_hand(schedule: str, steps: int, shares: list[float]) -> None:
    found = [budget_share(schedule, step, steps, 0.2) for step in range(1, steps + 1)]
    assert found == pytest.approx(shares, abs=1e-5)


@given(st.sampled_from(["linear", "cosine"]), st.integers(2, 50), st.floats(0.01, 1))
def test_budget_shares_fall_from_one_to_the_floor(schedule: str, steps: int, floor: float) -> None:
    shares = [budget_share(schedule, step, steps, floor) for step in range(1, steps + 1)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(floor)
    assert all(one >= other - 1e-12 for one, other in pairwise(shares))


def test_a_shrunk_budget_is_never_nothing_and_no_cap_stays_no_cap() -> None:
    numbers = BeamOptions(tags=3, tag_growth=0, tag_schedule="linear", tag_floor=0.1)
    assert [numbers.shrunk(step, 4).tags for step in (1, 2, 3, 4)] == [3, 2, 1, 1]  # 3, 2.1, 1.2, 0.3
    assert [numbers.shrunk(step, 4).tag_growth for step in (1, 4)] == [0, 0]
    uncapped = BeamOptions(tags=0, tag_growth=10, tag_schedule="cosine")
    assert (uncapped.shrunk(3, 3).tags, uncapped.shrunk(3, 3).tag_growth) == (0, 2)
    assert numbers.shrunk(1, 4) is numbers


@pytest.mark.parametrize(
    ("given_words", "seed_words", "cap"),
    [(-1, 4, 50), (-1, 33, 50), (-1, 34, 51), (-1, 100, 150), (0, 100, 0), (70, 100, 70)],
)
def test_new_prompts_have_a_cap_of_fifty_words_or_half_more_than_the_seed(
    given_words: int, seed_words: int, cap: int
) -> None:
    assert BeamOptions(max_words=given_words).word_cap(seed_words) == cap


def test_the_defaults_of_the_beam_methods_are_those_of_the_originals() -> None:
    ape, apo, pe2 = (beam_options_for(method, {}) for method in ("ape", "apo", "pe2"))
    # simple_ape: 5 sets of 5 examples, 10 instructions each, temperature 0.9.
    assert (ape.induce, ape.induce_items, ape.induce_each, ape.induce_temperature) == (5, 5, 10, 0.9)
    # ProTeGi's main.py: beam 4, minibatch 64, 4 errors a gradient, 1 gradient, 1 step, 2 Monte-Carlo
    # samples, expansion 8, bf, 8 rounds, 8 prompts a round, 32 samples, c 1, 0.7 and 1024 tokens.
    assert (apo.beam, apo.minibatch, apo.errors, apo.reasons, apo.edits, apo.paraphrases) == (4, 64, 4, 1, 1, 2)
    assert (apo.expansion, apo.selection, apo.eval_rounds, apo.eval_prompts, apo.eval_items) == (8, "bf", 8, 8, 32)
    assert (apo.eval_budget, apo.ucb_c) == (32 * 8 * 8, 1.0)
    assert (apo.critique_temperature, apo.critique_tokens, apo.rewrite_tokens) == (0.7, 1024, 1024)
    # PE2's scripts: beam 4 of all so far, 2 errors, ten items at a time, 0.5 and 1500 tokens, 0.7 and
    # 300 tokens, no step size, no history.
    assert (pe2.beam, pe2.pool, pe2.errors, pe2.look, pe2.step_size, pe2.history) == (4, "all", 2, 10, 0, False)
    assert (pe2.critique_temperature, pe2.critique_tokens) == (0.5, 1500)
    assert (pe2.rewrite_temperature, pe2.rewrite_tokens) == (0.7, 300)
    # The paper's rule: at most five words in a tag.
    assert {numbers.tag_words for numbers in (ape, apo, pe2)} == {5}


# what a run adds up


def test_calls_to_a_share_of_the_gain_by_hand() -> None:
    # From 0.3 to 0.6: half of the gain at 0.45, 90 % at 0.57.
    assert calls_to([(10, 0.3), (34, 0.5), (82, 0.56), (102, 0.6), (170, 0.6)]) == {"50%": 34, "90%": 102, "100%": 102}
    assert calls_to([(10, 0.0), (20, 1.0)]) == {"50%": 20, "90%": 20, "100%": 20}
    assert calls_to([(10, 0.3), (20, 0.3)]) is None
    assert calls_to([(10, 0.3)]) is None
    assert calls_to([]) is None


@given(st.lists(st.integers(0, 20), min_size=2, max_size=12).map(sorted))
def test_the_calls_to_a_share_grow_with_it(best: Sequence[int]) -> None:
    curve = [(10 * n, value / 20) for n, value in enumerate(best, start=1)]
    found = calls_to(curve)
    if best[0] == best[-1]:
        assert found is None
        return
    assert found is not None
    assert list(found) == ["50%", "90%", "100%"]
    assert found["50%"] <= found["90%"] <= found["100%"]
    assert found["100%"] == 10 * (best.index(best[-1]) + 1)
    middle = next(n for n, value in enumerate(best, start=1) if 2 * (value - best[0]) >= best[-1] - best[0])
    assert found["50%"] == 10 * middle


def proposed(measures: Measures | None, **changes: Any) -> Proposed:
    told: dict[str, Any] = {"step": 1, "branch": 0, "parent": "p", "purpose": "mend", "locality": "nudge"}
    told |= {"candidate": None if measures is None else "c", "fallback": False, "replies": 1, "malformed": 0}
    return Proposed(**(told | changes), measures=measures)


def test_a_tally_adds_up_proposals_and_nothing_else() -> None:
    tally = Tally()
    local = measure("a b c d", "x b c d", marked("<edit>a</edit> b c d"))
    leaking = measure("a b c d", "x b c y", marked("<edit>a</edit> b c d"))
    untagged = measure("a b c d", "e", None)
    tally.note(proposed(local))
    tally.note(proposed(leaking, replies=2, malformed=1))
    tally.note(proposed(untagged, fallback=True, locality="off", replies=2, malformed=2))
    tally.note(proposed(None, replies=0, lost="too many malformed replies"))
    tally.note(BeamSelected(step=1, candidates=("c",)))
    assert (tally.replies, tally.malformed, tally.fallbacks, tally.lost) == (5, 3, 1, 1)
    assert tally.made == [local, leaking, untagged]
    assert tally.mean("leakage") == pytest.approx((0 + 1 / 3) / 2)
    assert tally.most_leakage() == pytest.approx(1 / 3)
    assert tally.mean("length_ratio") == pytest.approx((1 + 1 + 0.25) / 3)
    assert tally.mean("tags") == 1


def test_an_empty_tally_knows_no_means() -> None:
    tally = Tally()
    assert (tally.mean("leakage"), tally.most_leakage()) == (None, None)
    assert mean_of([None, None]) is None
    assert mean_of([None, 1.0, 0.0]) == 0.5
