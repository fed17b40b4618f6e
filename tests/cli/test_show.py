"""Tests of printed results: they are complete, not shortened, and contain no control characters."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lpo_agent.cli import show, words
from lpo_agent.cli.diff import diff_text, marked_text
from lpo_agent.core.result import (
    BestResult,
    CompareResult,
    EvaluateResult,
    LocalityResult,
    MarkResult,
    MarkSpan,
    RunResult,
    SeedResult,
    TestDelta,
    UsageResult,
    Verdict,
)
from lpo_agent.core.scores import Score, Scored, Unscored, summarize
from lpo_agent.core.text import Span, render
from lpo_agent.report import markup
from lpo_agent.report.pieces import pieces_of

NO_DEADLINE = settings(deadline=None)  # other processes may have the machine
TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
USAGE = UsageResult(
    calls=1240, cached_calls=310, failed_calls=2, input_tokens=82110, output_tokens=3400, usd=None, wall_s=65.0
)
BETTER = TestDelta(mean=0.33, ci95=(0.21, 0.44), p_value=0.003, n=96)
UNCLEAR = TestDelta(mean=0.05, ci95=(-0.1, 0.2), p_value=0.42, n=96)


def score(right: int, wrong: int, unscored: int = 0) -> Score:
    outcomes = [Scored(value=1.0, output="")] * right + [Scored(value=0.0, output="")] * wrong
    return summarize([*outcomes, *[Unscored(reason="time-out")] * unscored])


def result(
    seed: str = "Say which queue.",
    best: str = "Say in one word which queue.",
    verdict: Verdict = "improved",
    delta: TestDelta | None = BETTER,
) -> RunResult:
    old = SeedResult(prompt=seed, dev=score(30, 42), test=score(40, 56))
    new = BestResult(
        prompt=best, dev=score(60, 12, 1), test=score(71, 25), marked_parent=render(seed, [Span(0, 3)]), step=2
    )
    kept = BestResult(prompt=seed, dev=old.dev, test=old.test, marked_parent=None, step=0)
    lost = verdict == "no_significant_improvement"
    return RunResult(
        run_id="20261123-070000-abcd",
        status="completed",
        stop_reason="all steps done",
        verdict=verdict,
        seed=old,
        best=kept if lost else new,
        challenger=new if lost and delta else None,
        test_delta=delta,
        locality=LocalityResult(checked=4, violations=0, tagged_fraction=0.3, length_ratio=1.5),
        usage=USAGE,
        method="local-search",
        notes=("3 rows were dropped",),
    )


def printed(what: RunResult | EvaluateResult | CompareResult | MarkResult, width: int = 100) -> str:
    stream = io.StringIO()
    out = show.console(stream)
    out.width = width
    show.show_result(out, what)
    return stream.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


@NO_DEADLINE
@given(TEXTS, TEXTS)
def test_a_diff_holds_both_texts(old: str, new: str) -> None:
    pieces = pieces_of(old, new, ())
    assert "".join(text for kind, text, _ in pieces if kind != "new") == old
    assert "".join(text for kind, text, _ in pieces if kind != "gone") == new
    assert all(piece.text for piece in pieces)


@NO_DEADLINE
@given(TEXTS)
def test_a_diff_of_equal_texts_shows_no_change(text: str) -> None:
    assert {kind for kind, _, _ in pieces_of(text, text, ())} <= {"same"}


def test_a_diff_is_by_words_and_joins_neighbours() -> None:
    plain = diff_text("Say which queue it is.", "Tell me what queue it is!", colour=False)
    assert plain.plain == "[-Say which-]{+Tell me what+} queue it is[-.-]{+!+}"


def test_a_coloured_diff_has_styles_in_place_of_signs() -> None:
    text = diff_text("old word", "new word", colour=True)
    assert text.plain == "oldnew word"
    assert [str(span.style) for span in text.spans if str(span.style)] == ["red strike", "bold green"]


@NO_DEADLINE
@given(TEXTS, st.integers(0, 300), st.integers(0, 300))
def test_a_marked_prompt_reads_the_same_with_and_without_colour(text: str, one: int, other: int) -> None:
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    marked = render(text, [Span(start, end)])
    assert marked_text(marked, colour=True).plain == marked_text(marked, colour=False).plain == words.visible(marked)


@NO_DEADLINE
@given(TEXTS, TEXTS, st.integers(40, 100))
def test_a_report_is_never_wider_than_asked(seed: str, best: str, width: int) -> None:
    text = printed(result(seed, best), width)
    assert max(map(cell_len, text.split("\n"))) <= width


@NO_DEADLINE
@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=400))
def test_a_long_prompt_is_wrapped_not_cut(prompt: str) -> None:
    report = printed(result(best=prompt), 60)
    block = report.split("\nBest prompt\n")[1].split("\nScores\n")[0]
    assert "".join(block.split()) == prompt


@NO_DEADLINE
@given(st.text())
def test_control_characters_are_shown_as_escapes(text: str) -> None:
    shown = words.visible(text)
    assert all(c in "\n\t" or c.isprintable() or ord(c) >= 0xA0 for c in shown)
    shown.encode("utf-8")


def test_a_console_is_at_most_100_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert show.console(io.StringIO()).width == 100


@pytest.mark.parametrize(
    ("settings", "shows"),
    [
        ({"force_terminal": True, "color_system": "standard"}, True),
        ({"force_terminal": True, "color_system": "standard", "no_color": True}, False),
        ({"force_terminal": False}, False),
    ],
)
def test_colours_need_a_terminal_that_wants_them(settings: dict[str, object], *, shows: bool) -> None:
    assert show.coloured(Console(file=io.StringIO(), **settings)) is shows  # type: ignore[arg-type]  # many types


def test_an_improvement_is_reported_with_its_evidence() -> None:
    text = flat(printed(result()))
    assert "improved: p = 0.003, 95 % interval +0.21..+0.44 on 96 untouched test items" in text
    assert "Say{+ in one word+} which queue." in text
    assert "<edit>Say</edit> which queue." in text
    assert "best dev 0.83 72" in text
    assert "price unknown" in text
    assert "1,240 calls, 310 cached, 2 failed" in text
    assert "1:05 min" in text
    assert "lpo show 20261123-070000-abcd" in text
    assert "note: 3 rows were dropped" in text


def test_a_challenger_that_was_not_better_is_shown_as_challenger() -> None:
    text = flat(printed(result(verdict="no_significant_improvement", delta=UNCLEAR)))
    assert "no significant improvement: p = 0.42" in text
    assert "the seed prompt stays the answer" in text
    assert "method local-search, locality enforce; 4 edits checked: 0 changes outside the marks" in text
    assert "challenger test 0.74" in text
    assert "Best prompt Say which queue." in text


@pytest.mark.parametrize(
    ("verdict", "delta", "says"),
    [
        ("improved", BETTER, "This holds for this model"),
        ("no_significant_improvement", UNCLEAR, "more test items could tell"),
        ("no_significant_improvement", None, "No candidate has a higher score than the seed prompt"),
        ("not_tested", None, "not tested"),
    ],
)
def test_every_verdict_has_a_text(verdict: Verdict, delta: TestDelta | None, says: str) -> None:
    assert says in "\n".join(show.verdict_lines(result(verdict=verdict, delta=delta)))


def test_a_run_that_ended_early_says_how_to_go_on() -> None:
    early = result().model_copy(update={"status": "stopped", "stop_reason": "the budget is used up"})
    assert "continue with: lpo resume 20261123-070000-abcd" in printed(early)


def test_an_evaluation_counts_what_is_unscored_by_reason() -> None:
    evaluated = EvaluateResult(
        run_id="r",
        status="completed",
        stop_reason="all items scored",
        score=score(3, 1, 2),
        unscored=(("item:1", "time-out"), ("item:2", "time-out")),
        usage=USAGE,
        calls_per_s=12.5,
    )
    text = printed(evaluated)
    assert "0.75 on 4 items (95 % 0.30..0.95, 2 unscored)" in text
    assert "unscored, 2 items: time-out" in text


@pytest.mark.parametrize(
    ("delta", "says"),
    [
        (BETTER, "B is better than A"),
        (BETTER.model_copy(update={"mean": -0.3}), "A is better than B"),
        (UNCLEAR, "no significant difference"),
    ],
)
def test_a_comparison_says_which_is_better(delta: TestDelta, says: str) -> None:
    compared = CompareResult(
        run_id="r", status="completed", stop_reason="", a=score(1, 3), b=score(3, 1), delta=delta, usage=USAGE
    )
    assert says in printed(compared)


def test_marks_are_shown_with_their_reasons() -> None:
    spans = (
        MarkSpan(start=0, end=0, text="", reason="text may be added here"),
        MarkSpan(start=4, end=9, text="which", reason="hurts: -0.25 on 12 items", influence=-0.25),
        MarkSpan(start=16, end=16, text="", reason="text may be added here"),
    )
    prompt = "Say which queue."
    marked = render(prompt, [Span(span.start, span.end) for span in spans])
    text = printed(
        MarkResult(
            run_id="r", status="completed", stop_reason="", prompt=prompt, marked=marked, spans=spans, usage=USAGE
        )
    )
    assert "<edit></edit>Say <edit>which</edit> queue.<edit></edit>" in text
    assert "1. place at the beginning: text may be added here" in text
    assert "2. 'which': hurts: -0.25 on 12 items" in text
    assert "3. place after 'Say which queue.'" in text
    assert "run r; see it again with: lpo show r" in text
    assert "1,240 calls, 310 cached, 2 failed" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.96, "1:00 min"), (3599.9, "1:00:00 h"), (3725, "1:02:05 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert markup.duration(seconds) == shown


@pytest.mark.parametrize(
    ("usd", "shown"), [(0.0, "$0.00"), (0.0123, "$0.0123"), (2.5, "$2.50"), (None, words.UNKNOWN_PRICE)]
)
def test_money(usd: float | None, shown: str) -> None:
    assert words.money(usd) == shown
