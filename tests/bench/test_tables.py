"""Tests of tables, comparisons and curves, with rows written by hand."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest

from lpo_agent.bench.grid import Cell
from lpo_agent.bench.plotting import mean_curve, plot
from lpo_agent.bench.rows import BenchResult, CellRow
from lpo_agent.bench.statistics import CellScores, compare_arms, compare_reference, compare_with_seed
from lpo_agent.bench.tables import to_csv, to_markdown
from lpo_agent.core.result import UsageResult
from lpo_agent.core.stats import holm

if TYPE_CHECKING:
    from pathlib import Path

USAGE = UsageResult(calls=9, cached_calls=1, failed_calls=0, input_tokens=5, output_tokens=4, usd=None, wall_s=1.0)


def cell(locality: str = "off", *, seed: int = 0, method: str = "pe2", task: str = "t", marker: str = "llm") -> Cell:
    marked = "-" if locality in {"off", "think"} else marker
    return Cell(task=task, method=method, locality=locality, marker=marked, seed=seed)


def row(of: Cell, test: float, **more: object) -> CellRow:
    content = {"cell": of, "run_id": "r", "status": "completed", "seed_test": 0.25, "test": test, "test_n": 4, **more}
    return CellRow.model_validate(content)


def result(*rows: CellRow) -> BenchResult:
    return BenchResult(
        run_id="r",
        status="completed",
        stop_reason="all cells done",
        name="small",
        model="m",
        optimizer_model="o",
        rows=rows,
        comparisons=(),
        usage=USAGE,
    )


def line(text: str, *start: str) -> list[str]:
    """Return the cells of the one table line that begins with ``start``."""
    lines = [[cell.strip() for cell in found.strip("|").split("|")] for found in text.splitlines() if "|" in found]
    (found,) = [cells for cells in lines if cells[: len(start)] == list(start)]
    return found


def score_table(text: str) -> str:
    return text.partition("## Test score")[2].partition("##")[0]


def gain_table(text: str) -> str:
    return text.partition("## Gains")[2].partition("##")[0]


def test_the_seed_prompt_has_a_row_of_its_own() -> None:
    text = to_markdown(result(row(cell(), 0.5, seed_was_best=False, best_step=2), row(cell("nudge"), 0.75)))
    scores = score_table(text)
    assert line(scores, "seed prompt")[2] == "25.0"
    assert line(scores, "pe2", "off")[2:] == ["50.0", "2", "0 of 1"]
    assert line(scores, "pe2", "nudge")[2:] == ["75.0", "-", "-"]


def test_seeds_are_averaged_and_their_spread_is_shown() -> None:
    rows = [row(cell(seed=n), score, seed_was_best=n == 2) for n, score in enumerate((0.4, 0.5, 0.6))]
    steps = [each.model_copy(update={"best_step": step}) for each, step in zip(rows, (1, 3, None), strict=True)]
    scores = score_table(to_markdown(result(*steps)))
    assert line(scores, "pe2", "off")[2:] == ["50.0 ± 10.0", "2 [1.5, 2.5]", "1 of 3"]


def test_the_mean_over_tasks_is_missing_where_a_task_is() -> None:
    both = [row(cell(task=task), 0.5) for task in "ab"]
    half = row(cell("nudge", task="a"), 0.7)
    gone = CellRow(cell=cell("nudge", task="b"), run_id="r", status="failed", reason="no key")
    text = to_markdown(result(*both, half, gone))
    scores = score_table(text)
    assert line(scores, "pe2", "off")[2:5] == ["50.0", "50.0", "50.0"]
    assert line(scores, "pe2", "nudge")[2:5] == ["70.0", "-", "-"]
    assert line(gain_table(text), "pe2", "nudge")[2] == "-"
    assert line(text, "b.pe2.nudge.llm.0") == ["b.pe2.nudge.llm.0", "failed", "no key"]


def test_many_tasks_get_a_table_of_their_own() -> None:
    rows = [row(cell(task=f"t{n}"), n / 10) for n in range(8)]
    text = to_markdown(result(*rows))
    assert line(score_table(text), "pe2", "off")[2] == "35.0"
    assert line(text, "t7") == ["t7", "25.0", "70.0"]


def test_malformed_replies_and_global_proposals_are_shown_as_shares() -> None:
    bad = row(cell("enforce"), 0.5, proposals=4, tag_replies=10, malformed=5, malformed_share=0.5, global_share=0.75)
    edited = to_markdown(result(bad)).partition("## What was edited")[2].partition("##")[0]
    assert line(edited, "pe2", "enforce")[10:12] == ["50%", "75%"]


def test_csv_has_a_line_for_each_cell() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(result(row(cell(), 0.5, usage=USAGE), row(cell("nudge"), 0.75))))))
    assert [(found["locality"], found["test"]) for found in lines] == [("off", "0.5"), ("nudge", "0.75")]
    assert lines[0]["usage_calls"] == "9"
    assert "curve" not in lines[0]


def values(*scores: int, seed: int = 0) -> CellScores:
    """Return what a cell's best prompt scored, and its seed prompt, which scored ``seed`` everywhere."""
    rows = [f"test:{n}" for n in range(len(scores))]
    return CellScores(dict(zip(rows, map(float, scores), strict=True)), dict.fromkeys(rows, float(seed)))


def test_arms_are_compared_item_by_item() -> None:
    old, new = [0] * 10, [1] * 8 + [0] * 2
    found = compare_arms({cell(): values(*old), cell("nudge"): values(*new)})
    (only,) = found
    assert (only.method, only.arm, only.base, only.task, only.delta.n) == ("pe2", "nudge", "off", "t", 10)
    assert only.delta.mean == pytest.approx(0.8)
    assert only.delta.p_value == pytest.approx(2 / 2**8)  # McNemar: 8 of 8, two-sided
    assert only.p_holm == only.delta.p_value


def test_marked_arms_are_compared_with_thinking_too_and_adjusted_together() -> None:
    arms = ("off", "think", "nudge", "enforce")
    found = compare_arms({cell(arm): values(*([0] * 5 + [n % 2] * 5)) for n, arm in enumerate(arms)})
    pairs = [(each.arm, each.base) for each in found]
    assert pairs == [
        ("think", "off"),
        ("nudge", "off"),
        ("enforce", "off"),
        ("nudge", "think"),
        ("enforce", "think"),
    ]
    assert [each.p_holm for each in found] == pytest.approx(holm([each.delta.p_value for each in found]))


def test_only_what_both_arms_scored_is_compared_and_seeds_are_averaged() -> None:
    found = compare_arms(
        {
            cell(seed=0): values(0, 0, 1),
            cell(seed=1): values(0, 1),
            cell("nudge", seed=0): values(1, 0),
            cell("nudge", seed=1): values(1, 1),
            cell("nudge", seed=2): values(1, 1),
        }
    )
    assert found[0].delta.n == 2
    assert found[0].delta.mean == pytest.approx(0.5)


def test_markers_are_arms_of_their_own() -> None:
    found = compare_arms({cell(): values(0), cell("enforce", marker="random"): values(1)})
    assert [each.arm for each in found] == ["enforce/random"]


def test_tasks_are_compared_one_by_one_and_together() -> None:
    both = {cell(arm, task=task): values(0, 1) for task in "ab" for arm in ("off", "nudge")}
    assert [(each.task, each.delta.n) for each in compare_arms(both)] == [("a", 2), ("b", 2), ("all", 4)]
    many = {cell(arm, task=f"t{n}"): values(0, 1) for n in range(5) for arm in ("off", "nudge")}
    assert [(each.task, each.delta.n) for each in compare_arms(many)] == [("all", 10)]


def test_gains_over_the_seed_prompt_are_paired_and_adjusted_together() -> None:
    arms = {
        cell(): values(1, 1, 1, 1, 1, 1, 0, 0),
        cell("nudge"): values(*[0] * 8),
        cell(task="b"): values(1, 1, 0, 0, seed=1),
    }
    found = compare_with_seed(arms)
    assert [(each.arm, each.base, each.task, each.delta.n) for each in found] == [
        ("off", "seed prompt", "all", 12),
        ("nudge", "seed prompt", "t", 8),
    ]
    assert found[0].delta.mean == pytest.approx((6 - 2) / 12)
    assert found[1].delta.ci95 == (0.0, 0.0)
    assert [each.p_holm for each in found] == pytest.approx(holm([each.delta.p_value for each in found]))
    assert found[0].p_holm > found[0].delta.p_value


def test_a_reference_is_compared_with_every_other_arm_and_the_seed_prompt() -> None:
    arms = {
        cell("enforce", method="lpo", marker="influence"): values(1, 1, 1, 1),
        cell("enforce", method="lpo", marker="influence", seed=1): values(1, 1, 0, 0),
        cell(): values(1, 1, 1, 0),
        cell(seed=1): values(0, 0, 0, 0),
        cell("nudge"): values(1, 1, 1, 1),
    }
    found = compare_reference(arms, "lpo/enforce/influence")
    assert {each.method for each in found} == {"lpo"}
    assert [(each.base, each.delta.n, each.delta.mean) for each in found] == [
        ("seed prompt", 4, 0.75),
        ("pe2/off", 4, pytest.approx((1 / 2 + 1 / 2 + 0 + 1 / 2) / 4)),
        ("pe2/nudge", 4, 0.0),
    ]
    assert [each.p_holm for each in found] == pytest.approx(holm([each.delta.p_value for each in found]))
    assert compare_reference(arms, None) == compare_reference(arms, "ape/off") == ()


def test_gains_and_their_calls_have_a_line_for_each_arm() -> None:
    calls = [(90, 10, 40, 60), (110, 20, 80, 90), (100, None, None, None)]
    rows = [
        row(cell(seed=n), 0.5, calls=total, calls_to_50=half, calls_to_90=most, calls_to_100=whole)
        for n, (total, half, most, whole) in enumerate(calls)
    ]
    gains = compare_with_seed({each.cell: values(1, 0, 1, 0, 1, 0, 1, 0) for each in rows})
    text = to_markdown(result(*rows).model_copy(update={"gains": gains}))
    assert line(gain_table(text), "seed prompt")[2] == "25.0"
    found = line(gain_table(text), "pe2", "off")
    assert found[2:4] == ["50.0", "+50.0"]
    assert found[5:] == ["0.125", "100", "15", "60", "75", "2 of 3"]


def test_the_document_ends_with_the_command_that_made_it() -> None:
    against = compare_reference({cell(): values(1, 1), cell("nudge"): values(0, 1)}, "pe2/off")
    more = {"command": "lpo bench small --seeds 0,1", "reference": "pe2/off", "against": against, "search_calls": 200}
    found = result(row(cell(), 0.5)).model_copy(update=more)
    text = to_markdown(found, "bench.svg")
    assert text.endswith("```console\n$ lpo bench small --seeds 0,1\n```\n")
    assert "(bench.svg)" in text
    assert "may make 200 calls" in text
    versus = text.partition("## pe2/off against the others")[2].partition("##")[0]
    assert line(versus, "pe2/nudge")[1:3] == ["2", "+50.0"]
    assert "## Command" not in to_markdown(result(row(cell(), 0.5)))


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_mean_curve_keeps_last_values() -> None:
    one, two = ((10, 0.2), (30, 0.6)), ((20, 0.4), (40, 0.8))
    calls, means = zip(*mean_curve([one, two]), strict=True)
    assert calls == (20, 30, 40)
    assert means == pytest.approx((0.3, 0.5, 0.7))
    assert mean_curve([]) == ()


def test_curves_are_drawn_as_png_and_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    rows = [row(cell(arm), 0.5, curve=((10, 0.1), (50, 0.4 + n / 10))) for n, arm in enumerate(("enforce", "off"))]
    paths = [tmp_path / "c.png", tmp_path / "c.svg"]
    assert plot(result(*rows), paths)
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_text(encoding="utf-8").count("<svg") == 1
    assert not plot(result(row(cell(), 0.5)), paths)
