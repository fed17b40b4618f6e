"""Tests of the report page: its numbers are those of the result, and texts of a run cannot inject markup."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpo_agent.core.result import (
    BestResult,
    EditResult,
    FrontPoint,
    LocalityResult,
    SearchResult,
    SeedResult,
    SpanResult,
    TestDelta,
)
from lpo_agent.report import gather, render_page
from tests.report import sample
from tests.report.reading import agrees, lookup, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.result import RunResult
    from tests.report.reading import Page

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"q' \u202eevil\u202c\x1b[31m\x00 "
    "</div></section>--> <!-- ]]> \u2066x &lt; {input}\ud800 onclick=a style=b"
)
TAGS = re.compile(
    "html|head|meta|title|style|body|header|nav|a|main|section|footer|script|p|h[23]|div|span|strong|small|b|q|code|ul|li|"
    "table|thead|tbody|tr|th|td|del|ins|sup|details|summary|svg|g|path|circle|text|tspan"
)
ATTRIBUTES = re.compile(
    "lang|charset|http-equiv|content|name|id|class|href|type|dir|data-key|data-value|width|height|viewbox|role|aria-label|"
    "d|cx|cy|r|x|y|text-anchor|transform"
)


def page(result: RunResult, log: Sequence[Event] = (), rows: int = 0, output: str = "") -> Page:
    return read(written(result, log, rows, output))


def written(result: RunResult, log: Sequence[Event] = (), rows: int = 0, output: str = "") -> str:
    test, found = sample.rows(rows), (result.challenger or result.best).prompt
    return render_page(gather(result, log, sample.outcomes(test, result.seed.prompt, found, output), test))


def with_challenger() -> RunResult:
    full = sample.full()
    kept = BestResult(prompt=sample.SEED, dev=full.seed.dev, test=full.seed.test, marked_parent=None, step=0)
    unclear = TestDelta(mean=-0.004, ci95=(-0.1, 0.09), p_value=0.93, n=149)
    changes = {"verdict": "no_significant_improvement", "best": kept, "challenger": full.best, "test_delta": unclear}
    return sample.full(**changes)


def bare() -> RunResult:
    """Return the result of a run that was stopped when it had only scored the seed prompt on dev."""
    seed = SeedResult(prompt=sample.SEED, dev=sample.score(3, 4), test=None)
    return sample.full(
        status="stopped",
        stop_reason="the budget is used up",
        verdict="not_tested",
        seed=seed,
        best=BestResult(prompt=sample.SEED, dev=seed.dev, test=None, marked_parent=None, step=0),
        test_delta=None,
        confirmation=None,
        front=(),
        power=None,
        locality=LocalityResult(checked=0, violations=0, tagged_fraction=None, length_ratio=1.0),
        search=SearchResult(),
        notes=(),
    )


RESULTS = {
    "full": (sample.full(), 150),
    "challenger": (with_challenger(), 150),
    "bare": (bare(), 0),
    "no price": (sample.full(usage=sample.full().usage.model_copy(update={"usd": None})), 0),
    "long": (sample.full(usage=sample.full().usage.model_copy(update={"wall_s": 7325.4, "usd": 12.345})), 0),
}


@pytest.mark.parametrize(("result", "rows"), RESULTS.values(), ids=RESULTS)
def test_every_number_comes_from_the_result(result: RunResult, rows: int) -> None:
    log = sample.search(sample.edited()[0]) if rows else []
    shown, content = page(result, log, rows), result.model_dump(mode="json", by_alias=True)
    assert shown.embedded == content
    assert shown.keyed()
    for element in shown.keyed():
        key, value = str(element.attributes["data-key"]), lookup(content, str(element.attributes["data-key"]))
        assert element.attributes["data-value"] == repr(value), key
        assert agrees(element.text, value), f"{key} is {value}, shown as {element.text}"


def test_all_parts_of_a_full_result_are_shown() -> None:
    result = sample.full()
    shown = page(result, sample.search(result.best.prompt), 150)
    assert len(shown.titles) == 10
    wanted = {"test_delta.mean", "test_delta.p_value", "test_delta.ci95.0", "test_delta.ci95.1", "confirmation.n"}
    wanted |= {
        f"{who}.{split}.{part}" for who in ("seed", "best") for split in ("dev", "test") for part in ("mean", "n")
    }
    wanted |= {f"power.{name}" for name in ("looked_for", "test_n", "shows", "needed", "discordant")}
    wanted |= {f"best.edits.{n}.{part}" for n in range(4) for part in ("worth", "ci95.0", "ci95.1", "n")}
    wanted |= {f"search.spans.{n}.{part}" for n in range(6) for part in ("tried", "paid", "gain")}
    wanted |= {f"front.{n}.{part}" for n in range(3) for part in ("dev.mean", "words", "tokens")}
    wanted |= {f"usage.{name}" for name in type(result.usage).model_fields}
    wanted |= {"search.calls_to.50%", "search.curve.39.0", "search.candidates", "locality.checked", "best.step"}
    assert wanted <= shown.keys


def test_every_number_of_the_result_has_its_path() -> None:
    odd = iter(range(700_001, 800_000))
    usage = sample.full().usage.model_copy(
        update={name: next(odd) for name in ("calls", "cached_calls", "input_tokens")}
    )
    spans = tuple(span.model_copy(update={"tried": next(odd), "paid": 1}) for span in sample.spans())
    front = tuple(point.model_copy(update={"words": next(odd)}) for point in sample.full().front)
    search = sample.full().search.model_copy(update={"spans": spans, "candidates": next(odd), "scorings": next(odd)})
    shown = page(sample.full(usage=usage, front=front, search=search), sample.search(sample.edited()[0]), 150)
    assert not re.findall(r"7\d\d,?\d\d\d", shown.bare)
    assert sum(bool(re.fullmatch(r"7\d\d,\d\d\d", each.text)) for each in shown.keyed()) >= next(odd) - 700_001


def test_what_is_missing_is_left_out() -> None:
    shown = page(bare())
    assert shown.titles == ["Summary", "What changed", "How local the edits were", "What it cost"]
    assert "This run is stopped: the budget is used up" in shown.bare
    assert "Nothing: the answer is the seed prompt itself." in shown.bare


@pytest.mark.parametrize(
    ("delta", "says"),
    [
        (
            TestDelta(mean=0.02, ci95=(-0.1, 0.14), p_value=0.7, n=149),
            "may be chance, so the seed prompt stays the answer",
        ),
        (TestDelta(mean=-0.2, ci95=(-0.3, -0.1), p_value=0.01, n=149), "has a lower score than the seed prompt"),
        (None, "No candidate has a higher score than the seed prompt on the dev items"),
    ],
)
def test_a_run_without_an_improvement_says_why(delta: TestDelta | None, says: str) -> None:
    changes = {"verdict": "no_significant_improvement", "test_delta": delta}
    assert says in page(with_challenger().model_copy(update=changes)).bare


def test_prompts_without_outcomes_are_reported_as_not_comparable() -> None:
    assert "so they cannot be compared" in page(sample.full()).bare


def test_items_are_counted_whole_and_wins_come_first() -> None:
    result = sample.full()
    text = page(result, rows=600).bare
    counts = re.search(r"(\d+) won, (\d+) lost, (\d+) level", text)
    assert counts is not None
    assert sum(map(int, counts.groups())) == 600
    assert f"{int(counts[1]) - 60} more are not listed" in text
    assert text.index("the found prompt has the higher score") < text.index("the seed prompt has the higher score")


def test_the_change_reads_as_both_prompts() -> None:
    result = sample.full()
    html = written(result).split('id="diff"')[1].split('<div class="prompt" dir="auto">')[1].split("</div>")[0]
    html = re.sub(r"<sup>\d+</sup>", "", html).replace("&#x27;", "'")
    assert re.sub(r"<ins>.*?</ins>|</?del>", "", html) == result.seed.prompt
    assert re.sub(r"<del>.*?</del>|</?ins>", "", html) == result.best.prompt


def hostile(text: str) -> RunResult:
    keep = f"{text} kept {text}"
    point = FrontPoint(prompt=text, dev=sample.score(3, 4), words=3, tokens=3.25)
    return sample.full(
        run_id=text,
        status="stopped",
        stop_reason=text,
        seed=SeedResult(prompt=text, dev=sample.score(3, 4), test=sample.score(3, 4)),
        best=BestResult(prompt=keep, dev=sample.score(5, 2), test=sample.score(5, 2), marked_parent=text, step=1),
        search=SearchResult(spans=(SpanResult(start=0, end=len(text), tried=2, paid=1, gain=0.1),)),
        front=(point, point.model_copy(update={"tokens": 9.5})),
        notes=(text,),
    )


def hostile_page(text: str) -> str:
    result = hostile(text)
    log = sample.search(result.best.prompt, steps=3, filler=text)
    log[0] = sample.started(text, model=text, optimizer_model=f"{text}2", metric=text)
    test = sample.rows(12, text)
    outs = sample.outcomes(test, result.seed.prompt, result.best.prompt, text)
    return render_page(gather(result, log, outs, test))


def check_harmless(html: str) -> Page:
    html.encode("utf-8")
    shown = read(html)
    assert all(TAGS.fullmatch(element.tag) for element in shown.elements)
    assert all(ATTRIBUTES.fullmatch(name) for element in shown.elements for name in element.attributes)
    assert all(str(link.attributes["href"]).startswith("#") for link in shown.all("a"))
    (script,) = shown.all("script")
    assert script.attributes == {"type": "application/json", "id": "result"}
    assert not set("<>&") & set(script.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    return shown


def test_a_hostile_run_cannot_inject_markup() -> None:
    shown = check_harmless(hostile_page(HOSTILE))
    assert shown.embedded["seed"]["prompt"] == HOSTILE
    assert "<script>alert(1)</script>" in shown.bare
    assert "U+202E" in shown.bare


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1, max_size=60) | st.text("</>&\"'-!\u202e\u2066{}script ", min_size=1, max_size=40))
def test_no_text_breaks_the_page(text: str) -> None:
    assert check_harmless(hostile_page(text)).embedded["seed"]["prompt"] == text


def test_the_page_may_show_its_own_style_and_nothing_else() -> None:
    html = written(sample.full())
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'sha256-" + digest + "'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in html
    assert not re.search(r"https?:|url\(|@import|\ssrc=|\sstyle=", html)
    assert "prefers-color-scheme:dark" in style[1]
    assert "@media print" in style[1]


def test_a_long_run_stays_small() -> None:
    filler = "Read the whole message twice before the answer is given, and mind what was asked. " * 40
    seed, best = filler, f"{filler} Be exact. {filler}"
    places = tuple(SpanResult(start=n * 9, end=n * 9 + 8, tried=5, paid=2, gain=0.01) for n in range(120))
    edits = (EditResult(start=9, end=9, old="", new="x " * 900, worth=0.1, ci95=(0.0, 0.2), n=300),) * 2
    line = tuple((n * 20, min(0.9, 0.3 + n / 500)) for n in range(250))
    point = FrontPoint(prompt=best, dev=sample.score(5, 2), words=999, tokens=2000.5)
    result = sample.full(
        seed=SeedResult(prompt=seed, dev=sample.score(300, 500), test=sample.score(300, 500)),
        best=BestResult(prompt=best, dev=None, test=sample.score(600, 200), marked_parent=best, step=7, edits=edits),
        search=SearchResult(candidates=250, curve=line, spans=places),
        front=tuple(point.model_copy(update={"tokens": 2000.5 + n}) for n in range(12)),
    )
    log = sample.search(best, steps=16, branches=4, each=4, filler=filler)
    test = sample.rows(2500, filler)
    outs = sample.outcomes(test, seed, best, filler)
    assert sum(map(len, outs.values())) == 5000
    html = render_page(gather(result, log, outs, test))
    assert len(html.encode()) < 2_000_000
    assert "too many prompts to draw each" in read(html).bare


@pytest.mark.parametrize(
    ("shown", "value", "right"),
    [
        ("0.43", 0.4267, True),
        ("0.42", 0.4267, False),
        ("\N{MINUS SIGN}0.03", -0.031, True),
        ("+0.03", -0.031, False),
        ("1,377", 1377, True),
        ("1,377", 1378, False),
        ("25%", 0.251, True),
        ("25%", 0.26, False),
        ("< 0.001", 0.0000042, True),
        ("< 0.001", 0.002, False),
        ("2:22 min", 142.118, True),
        ("2:02:05 h", 7325.4, True),
        ("$0.0831", 0.08312, True),
    ],
)
def test_the_rounding_check_finds_wrong_numbers(shown: str, value: Any, *, right: bool) -> None:
    assert agrees(shown, value) is right
