"""Writes the result of a benchmark as Markdown tables, in the form of the paper's, and as CSV."""

from __future__ import annotations

import csv
import io
import re
import statistics
from typing import TYPE_CHECKING, Any, Final

from lpo_agent.bench.grid import NONE, arm_of
from lpo_agent.bench.rows import SEED_PROMPT
from lpo_agent.core.diff import mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lpo_agent.bench.rows import BenchResult, CellRow, Comparison
    from lpo_agent.core.result import TestDelta

MAX_TASK_COLUMNS: Final = 6
"""With more tasks than this, the scores by task are in a table of their own, with a line for each task."""
NOTHING: Final = "-"


def to_markdown(result: BenchResult, curve: str | None = None) -> str:
    """Return all tables, each with an explanation, and the command line of the benchmark.

    ``curve``: path of the convergence plot, to be shown between the tables.
    """
    parts = [
        f"# Benchmark {result.name}",
        _header(result),
        *(f"Note: {note}" for note in result.notes),
        "## Gains and what they cost",
        _gains(result),
        GAINED,
        *([f"![best dev score by calls]({curve})"] if curve else []),
        "## Test score of the prompt that was best on dev",
        _scores(result),
        SCORED,
    ]
    if len(_tasks(result)) > MAX_TASK_COLUMNS:
        parts += ["### By task", _by_task(result)]
    parts += ["## Calls, tokens and length", _costs(result), COSTED]
    if result.against:
        title = f"## {result.reference} against the others"
        parts += [title, _differences(("minus", "items"), result.against, _against), COMPARED]
    if result.comparisons:
        columns = ("method", "arms", "task", "items")
        parts += ["## Differences between arms", _differences(columns, result.comparisons, _between), COMPARED]
    if any(row.cell.locality != NONE for row in result.rows):
        parts += ["## What was edited", _edits(result), EDITED]
    unfinished = [row for row in result.rows if row.status != "completed"]
    if unfinished:
        lines = [(row.cell.name, row.status, row.reason) for row in unfinished]
        parts += ["## Cells that were not completed", _table(("cell", "status", "why"), lines)]
    parts += ["## The prompts", FOUND, *_prompts(result)]
    if result.command:
        parts += ["## Command", f"```console\n$ {result.command}\n```"]
    return "\n\n".join(parts) + "\n"


SCORED: Final = (
    "Mean over seeds (± standard deviation if there are several). Step: in which the best prompt was made, median and "
    "quartiles over cells, without the cells in which the seed prompt stayed best."
)
GAINED: Final = (
    "Test score and gain in points of 100, over all tasks and seeds. The gain is paired by test item, with a 95 % "
    "interval; p is adjusted for the number of lines in this table (Holm). Calls: mean number of calls of the search "
    "including the choice on dev, cached replies included. To 50, 90 and 100 %: calls until the search had reached "
    "that share of the gain on its own items, medians over the cells that had a gain."
)
COMPARED: Final = (
    "Paired by test item, averaged over seeds, in points of 100; p by McNemar's exact test (0/1 differences) or a "
    "sign-flip permutation test; Holm's adjustment over all lines of this table."
)
COSTED: Final = (
    "Means over cells. Calls of the search without the test, the optimizer model's share of them, and the words of the "
    "best prompt with all examples in it. Tokens are counted at the counting endpoint, which other optimizers use."
)
FOUND: Final = "The prompt that was best on dev in each cell, as the task model got it; equal ones are shown once."
EDITED: Final = (
    "Leakage: share of untagged words that a tagged proposal changed, mean (highest). Malformed: share of tagged "
    "prompts and filled slots that could not be used. Global: share of proposals that were made without tags although "
    "they should have been local; they are not counted as local. Lost: proposals without usable text. Length and "
    "changed words are relative to the parent; repetition is the share of word triples that occur earlier in the text."
)


def _header(result: BenchResult) -> str:
    models = f"Task model `{result.model}`, optimizer model `{result.optimizer_model}`"
    cap = "" if result.search_calls is None else f" Each search may make {result.search_calls} calls."
    return f"{models}; run {result.run_id}, {result.status}: {result.stop_reason}.{cap} {_spent(result)}"


def _spent(result: BenchResult) -> str:
    usage = result.usage
    usd = "price unknown" if usage.usd is None else f"${usage.usd:.2f}"
    tokens = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
    return (
        f"{usage.calls:,} calls ({usage.cached_calls:,} more from the journal), {tokens}, {usd}, {usage.wall_s:.0f} s."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are also aligned as plain text."""
    lines = [[_cell(cell) for cell in line] for line in (columns, *rows)]
    widths = [max(3, *(len(line[n]) for line in lines)) for n in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _tasks(result: BenchResult) -> list[str]:
    return list(dict.fromkeys(row.cell.task for row in result.rows))


def _arms(result: BenchResult) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.cell.method, arm_of(row.cell)) for row in result.rows))


def _rows_of(result: BenchResult, method: str, arm: str, task: str | None = None) -> list[CellRow]:
    return [
        row
        for row in result.rows
        if row.cell.method == method and arm_of(row.cell) == arm and task in {None, row.cell.task}
    ]


def _seed_scores(result: BenchResult) -> dict[str, float | None]:
    """Return the seed prompt's test score for each task, from the first cell that has it."""
    return {
        task: next((r.seed_test for r in result.rows if r.cell.task == task and r.seed_test is not None), None)
        for task in _tasks(result)
    }


GAIN_COLUMNS: Final = (
    *("method", "locality", "test", "gain", "95 % interval", "p (Holm)", "calls"),
    *("to 50 %", "to 90 %", "to 100 %", "cells with a gain"),
)


def _gains(result: BenchResult) -> str:
    """Return a table with one line per arm: its score, its gain over the seed prompt, and its calls."""
    gains = {(each.method, each.arm): each for each in result.gains}
    lines = [[SEED_PROMPT, "", _score(mean_of(list(_seed_scores(result).values()))), *[""] * 8]]
    for method, arm in _arms(result):
        rows, gain = _rows_of(result, method, arm), gains.get((method, arm))
        shown = [NOTHING] * 3 if gain is None else [*_delta(gain.delta), _p(gain.p_holm)]
        gained = [row for row in rows if row.calls_to_100 is not None]
        until = [_median([getattr(row, f"calls_to_{level}") for row in gained]) for level in (50, 90, 100)]
        calls = _number(mean_of([row.calls for row in rows]), "{:,.0f}")
        share = f"{len(gained)} of {len(rows)}"
        lines.append([method, arm, _score(_overall(result, method, arm)), *shown, calls, *until, share])
    return _table(GAIN_COLUMNS, lines)


def _median(values: Sequence[int]) -> str:
    return f"{statistics.median(values):,.0f}" if values else NOTHING


def _overall(result: BenchResult, method: str, arm: str) -> float | None:
    """Return the mean over tasks of the means over seeds, None if a task has no score."""
    means = [mean_of([row.test for row in _rows_of(result, method, arm, task)]) for task in _tasks(result)]
    return None if None in means else mean_of(means)


def _scores(result: BenchResult) -> str:
    tasks = _tasks(result)
    shown = tasks if len(tasks) <= MAX_TASK_COLUMNS else []
    seed = _seed_scores(result)
    over_all = ["mean"] if len(tasks) > 1 else []
    columns = ["method", "locality", *shown, *over_all, "step", "seed stayed best"]
    lines = [["seed prompt", "", *(_score(seed[t]) for t in shown)]]
    lines[0] += [_score(mean_of(list(seed.values())))] * len(over_all) + ["", ""]
    for method, arm in _arms(result):
        by_task = {task: [row.test for row in _rows_of(result, method, arm, task)] for task in tasks}
        cells = [_spread(by_task[task]) for task in shown]
        overall = _score(_overall(result, method, arm))
        rows = _rows_of(result, method, arm)
        lines.append([method, arm, *cells, *[overall] * len(over_all), _steps(rows), _share(rows)])
    return _table(columns, lines)


def _by_task(result: BenchResult) -> str:
    seed = _seed_scores(result)
    arms = _arms(result)
    columns = ["task", "seed prompt", *(f"{method} {arm}" for method, arm in arms)]
    lines = [
        [task, _score(seed[task]), *(_spread([r.test for r in _rows_of(result, m, a, task)]) for m, a in arms)]
        for task in _tasks(result)
    ]
    return _table(columns, lines)


def _differences(
    columns: Sequence[str], found: Sequence[Comparison], begin: Callable[[Comparison], Sequence[str]]
) -> str:
    lines = [(*begin(each), *_delta(each.delta), _p(each.delta.p_value), _p(each.p_holm)) for each in found]
    return _table((*columns, "difference", "95 % interval", "p", "p (Holm)"), lines)


def _between(each: Comparison) -> Sequence[str]:
    return each.method, f"{each.arm} - {each.base}", each.task, str(each.delta.n)


def _against(each: Comparison) -> Sequence[str]:
    return each.base, str(each.delta.n)


def _delta(found: TestDelta) -> tuple[str, str]:
    """Return a difference and its interval, in points of 100."""
    low, high = found.ci95
    return f"{100 * found.mean:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"


EDIT_COLUMNS: Final = (
    *("method", "locality", "proposals", "tags", "words/tag", "tagged", "leakage", "changed"),
    *("length", "repetition", "malformed", "global", "lost"),
)


def _edits(result: BenchResult) -> str:
    lines = []
    for method, arm in _arms(result):
        if arm == NONE:
            continue
        rows = _rows_of(result, method, arm)
        leaks = [row.leakage_max for row in rows if row.leakage_max is not None]
        highest = f" ({max(leaks):.2f})" if leaks else ""
        lines.append(
            [
                method,
                arm,
                str(sum(row.proposals or 0 for row in rows)),
                _number(mean_of([row.tags for row in rows]), "{:.1f}"),
                _number(mean_of([row.tag_words for row in rows]), "{:.1f}"),
                _number(mean_of([row.tagged_fraction for row in rows]), "{:.2f}"),
                _number(mean_of([row.leakage for row in rows]), "{:.2f}") + highest,
                _number(mean_of([row.changed for row in rows]), "{:.2f}"),
                _number(mean_of([row.length_ratio for row in rows]), "{:.2f}"),
                _number(mean_of([row.repetition for row in rows]), "{:.2f}"),
                _number(_ratio(rows, lambda r: r.malformed, lambda r: r.tag_replies), "{:.0%}"),
                _number(mean_of([row.global_share for row in rows]), "{:.0%}"),
                str(sum(row.lost or 0 for row in rows)),
            ]
        )
    return _table(EDIT_COLUMNS, lines)


COST_COLUMNS: Final = (
    *("method", "locality", "calls", "optimizer calls", "words"),
    *("task tokens in", "task tokens out", "optimizer tokens in", "optimizer tokens out"),
)


def _costs(result: BenchResult) -> str:
    """Return a table with one line per arm: what its searches cost, and how long their prompts are."""
    lines = []
    for method, arm in _arms(result):
        rows = _rows_of(result, method, arm)
        means = [mean_of([getattr(row, name) for row in rows]) for name in ("calls", "optimizer_calls", "words")]
        tokens = [
            mean_of([_tokens(row, role, kind) for row in rows])
            for role in ("task", "optimizer")
            for kind in ("input_tokens", "output_tokens")
        ]
        lines.append([method, arm, *(_number(value, "{:,.0f}") for value in (*means, *tokens))])
    return _table(COST_COLUMNS, lines)


def _tokens(row: CellRow, role: str, kind: str) -> int | None:
    if row.roles is None or role not in row.roles:
        return None
    return int(getattr(row.roles[role], kind))


def _prompts(result: BenchResult) -> list[str]:
    """Return each different prompt, under the names and scores of the cells that found it."""
    found: dict[tuple[str, str], list[CellRow]] = {}
    for row in result.rows:
        if row.prompt is not None:
            found.setdefault((row.cell.task, row.prompt), []).append(row)
    shown = []
    for (_, prompt), rows in found.items():
        names = ", ".join(f"`{row.cell.name}` ({_score(row.test)})" for row in rows)
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", prompt)), default=0))
        shown.append(f"{names}:\n\n{fence}text\n{prompt}\n{fence}")
    return shown


def _ratio(
    rows: Sequence[CellRow], part: Callable[[CellRow], int | None], whole: Callable[[CellRow], int | None]
) -> float | None:
    total = sum(whole(row) or 0 for row in rows)
    return sum(part(row) or 0 for row in rows) / total if total else None


def _steps(rows: Sequence[CellRow]) -> str:
    steps = sorted(row.best_step for row in rows if row.best_step is not None)
    if not steps:
        return NOTHING
    if len(steps) == 1:
        return str(steps[0])
    low, middle, high = statistics.quantiles(steps, n=4, method="inclusive")
    return f"{middle:g} [{low:g}, {high:g}]"


def _share(rows: Sequence[CellRow]) -> str:
    known = [row.seed_was_best for row in rows if row.seed_was_best is not None]
    return f"{sum(known)} of {len(known)}" if known else NOTHING


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    spread = f" ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{_score(sum(known) / len(known))}{spread}"


def _score(value: float | None) -> str:
    return _number(None if value is None else 100 * value, "{:.1f}")


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def to_csv(result: BenchResult) -> str:
    """Return one line per cell, with all its values except the curve and the tokens by role."""
    out = io.StringIO()
    lines = [_flat(row) for row in result.rows]
    writer = csv.DictWriter(out, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat(row: CellRow) -> dict[str, Any]:
    content = row.model_dump(mode="json", exclude={"cell", "curve", "usage", "roles"})
    spent = ("calls", "cached_calls", "failed_calls", "input_tokens", "output_tokens", "usd", "wall_s")
    usage = {f"usage_{name}": None if row.usage is None else getattr(row.usage, name) for name in spent}
    return row.cell.model_dump() | content | usage
