"""Tests of complete benchmarks: concurrent cells with one rate limit and one budget, interruption and resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import pytest

import lpo_agent
from lpo_agent import open_bench, open_resumed, open_session
from lpo_agent.bench.grid import cells, make_bench
from lpo_agent.bench.rows import BenchResult
from lpo_agent.cli import main
from lpo_agent.core.budget import Budget
from lpo_agent.environment import Environment
from lpo_agent.errors import BudgetExceeded, ConfigError
from lpo_agent.journal import open_journal

if TYPE_CHECKING:
    from lpo_agent.bench.grid import Bench
    from lpo_agent.core.events import Event
    from lpo_agent.core.result import RunResult

pytestmark = pytest.mark.anyio

CALLS = 150
MODELS = Path(__file__).parent / "optimizers.py"
ITEMS = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 160)]


def grid(folder: Path, *, model: str = "obliging", **changes: Any) -> Bench:
    data = folder / "pears.jsonl"
    data.write_text("\n".join(json.dumps(item) for item in ITEMS), encoding="utf-8")
    options = {"model": f"scripted:{MODELS}:{model}", "metric": "numeric", "steps": 1, "proposals": 2, "cache": False}
    content: dict[str, Any] = {
        "name": "pears",
        "methods": ["ape", "apo", "pe2"],
        "localities": ["off", "enforce"],
        "prompt": "Say it.",
        "rows": {"train": 15, "dev": 15, "test": 30},
        "options": options | changes.pop("options", {}),
        "settings": {"selection": "all", "minibatch": 0},
        "method_settings": {"ape": {"induce": 0}},
        "tasks": [{"name": "pears", "data": str(data)}],
    }
    return make_bench(content | changes)


async def finish(home: Path, bench: Bench, **settings: Any) -> tuple[BenchResult, list[Event]]:
    async with open_bench(bench, env=Environment(home), **settings) as run:
        events = [event async for event in run]
        result = await run.wait()
    assert isinstance(result, BenchResult)
    return result, events


async def test_every_cell_of_the_grid_has_one_row(tmp_path: Path) -> None:
    bench = grid(tmp_path, seeds=[0, 1])
    result, events = await finish(tmp_path, bench)
    assert [row.cell for row in result.rows] == list(cells(bench))
    assert {row.status for row in result.rows} == {"completed"}
    assert all(row.test is not None and row.seed_test == 0.0 for row in result.rows)
    assert next(event.name for event in events) == "bench_started"
    assert [event.name for event in events].count("cell_finished") == 12
    for row in result.rows:
        assert row.test is not None
        assert row.test > 0
        local = row.cell.locality == "enforce"
        assert (row.leakage, row.violations) == ((0.0, 0) if local else (None, 0))
        assert (row.malformed_share, row.global_share) == ((0.0, 0.0) if local else (None, None))


async def test_calls_that_cells_share_are_made_once(tmp_path: Path) -> None:
    """The seed prompt is scored by every cell; under one journal only the first pays for it."""
    result, _ = await finish(tmp_path, grid(tmp_path, options={"cache": True}))
    paid = sum(row.usage.calls for row in result.rows if row.usage)
    asked = sum(row.usage.calls + row.usage.cached_calls for row in result.rows if row.usage)
    assert result.usage.calls == paid
    assert asked == sum(row.calls or 0 for row in result.rows) + 6 * 2 * 30
    assert paid <= asked - 5 * (15 + 30)


async def test_the_same_benchmark_gives_the_same_rows(tmp_path: Path) -> None:
    one, _ = await finish(tmp_path / "a", grid(tmp_path, options={"concurrency": 1}), at_once=1)
    two, _ = await finish(tmp_path / "b", grid(tmp_path, options={"concurrency": 64}), at_once=64)

    def essence(result: BenchResult) -> list[object]:
        return [row.model_dump(exclude={"usage", "run_id"}) for row in result.rows] + list(result.comparisons)

    assert essence(one) == essence(two)


async def test_one_budget_holds_for_all_cells(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, grid(tmp_path, options={"budget": {"calls": 150}}))
    assert result.usage.calls <= 150
    assert result.status == "stopped"
    assert "150 calls" in result.stop_reason
    assert len(result.rows) == 6
    assert {row.status for row in result.rows} <= {"completed", "stopped", "not run"}


def equal(folder: Path, **changes: Any) -> Bench:
    """Return a grid whose searches all want more calls than they have."""
    lpo = {"proposer": "operators", "marker": "influence", "branches": 2}
    content: dict[str, Any] = {
        "methods": ["lpo", "pe2"],
        "localities": ["off"],
        "settings": {"selection": "all", "minibatch": 5},
        "search_calls": CALLS,
        "options": {"steps": 20, "lpo": lpo, **changes.pop("options", {})},
    }
    return grid(folder, **content | changes)


def one_by_one(folder: Path, **options: Any) -> Bench:
    """Return a grid whose searches do one thing after another, so that their last call is always the same."""
    lpo = {"proposer": "operators", "marker": "influence", "branches": 1}
    options |= {"concurrency": 1, "proposals": 1, "steps": 200, "lpo": lpo}
    settings = {"selection": "all", "minibatch": 5, "beam": 1, "stop_at_perfect": False}
    return equal(folder, options=options, settings=settings, seeds=[0, 1])


def rows_of(result: BenchResult) -> list[object]:
    return [row.model_dump(exclude={"usage", "run_id"}) for row in result.rows]


async def test_optimizer_calls_of_a_step_that_the_cap_cut_are_counted(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, equal(tmp_path, methods=["pe2"], seeds=[0, 1]))
    async with open_journal(Environment(tmp_path).journal) as journal:
        for row in result.rows:
            assert row.reason == f"its {CALLS} search calls are used up"
            scored = sum(1 for _ in journal.outcomes(row.run_id)) - 2 * 30
            assert row.optimizer_calls == CALLS - scored


async def test_answers_in_the_journal_do_not_change_the_budget_of_a_search(tmp_path: Path) -> None:
    """The second benchmark pays for next to nothing and finds the same, because known replies count too."""
    bench = one_by_one(tmp_path, cache=True).model_copy(update={"reference": "lpo/enforce/influence"})
    first, _ = await finish(tmp_path, bench, at_once=1)
    again, _ = await finish(tmp_path, bench, at_once=1)
    assert first.status == again.status == "completed"
    assert again.usage.calls <= 5  # a search scores two things at a time, so its very last call may be another one
    assert rows_of(again) == rows_of(first)
    for row in [*first.rows, *again.rows]:
        assert row.usage is not None
        choice = 2 * 15  # a planned search knows what its choice on dev costs, and ends by itself
        planned = f"the {CALLS - choice} calls of the search are spent"
        reason = planned if row.cell.method == "lpo" else f"its {CALLS} search calls are used up"
        assert (row.status, row.reason) == ("completed", reason)
        assert (row.test_n, row.seed_test) == (30, 0.0)
        asked = row.usage.calls + row.usage.cached_calls
        assert asked <= CALLS + 2 * 30
        assert row.calls == asked - (30 if row.seed_was_best else 60)
        assert CALLS / 2 < row.calls <= CALLS
    assert {row.cell.marker for row in first.rows} == {"influence", "-"}
    assert [each.base for each in first.against] == ["seed prompt", "pe2/off"]
    assert [(each.method, each.delta.n) for each in first.gains] == [("lpo", 30), ("pe2", 30)]
    for gain in first.gains:
        tests = [row.test for row in first.rows if row.cell.method == gain.method]
        assert gain.delta.mean == pytest.approx(sum(test or 0.0 for test in tests) / 2)


@pytest.mark.parametrize("method", ["lpo", "pe2"])
async def test_the_count_of_a_search_is_exact_with_many_calls_at_once(tmp_path: Path, method: str) -> None:
    """What all layers below saw is never more than the cap, whatever was under way when it was reached."""
    for calls in (60, 91, CALLS):
        bench = equal(tmp_path, methods=[method], search_calls=calls, options={"concurrency": 64})
        result, _ = await finish(tmp_path, bench)
        (row,) = result.rows
        assert (row.status, row.test_n) == ("completed", 30)
        tested = 30 if row.seed_was_best else 60
        assert result.usage.calls + result.usage.cached_calls <= calls + tested
        assert row.calls is not None
        assert row.calls <= calls


async def test_the_common_budget_ends_a_search_that_has_calls_left(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, equal(tmp_path, options={"budget": {"calls": 250}}, seeds=[0, 1, 2]), at_once=1)
    assert result.usage.calls <= 250
    assert result.status == "stopped"
    assert 1 <= sum(row.status == "completed" for row in result.rows) < 6
    assert all("budget of 250 calls" in row.reason for row in result.rows if row.status != "completed")


async def test_a_cell_whose_test_exceeds_the_budget_says_so(tmp_path: Path) -> None:
    """Its search ended with its own calls used up, but that is not why its row is missing."""
    bench = equal(tmp_path, methods=["pe2"], options={"budget": {"calls": CALLS + 10}, "concurrency": 1})
    result, _ = await finish(tmp_path, bench, at_once=1)
    (row,) = result.rows
    assert row.status == "stopped"
    assert f"budget of {CALLS + 10} calls" in row.reason


async def test_a_resumed_search_ends_as_one_that_was_never_interrupted(tmp_path: Path) -> None:
    env = Environment(tmp_path)
    bench = one_by_one(tmp_path)
    whole, _ = await finish(tmp_path / "other", bench, at_once=1)
    async with open_bench(bench, env=env, at_once=1) as run:
        async for event in run:
            if event.name == "cell_finished":
                break
        spent = run.usage().calls
        while run.usage().calls < spent + CALLS / 2:  # well within the second search
            await anyio.lowlevel.checkpoint()
    async with open_journal(env.journal) as journal:
        assert [part.status for part in journal.parts(run.run_id).values()].count("interrupted") == 1
    async with open_resumed(run.run_id, env=env) as again:
        result = await again.wait()
    assert isinstance(result, BenchResult)
    assert result.status == "completed"
    assert rows_of(result) == rows_of(whole)
    assert result.gains == whole.gains
    assert result.usage.calls <= whole.usage.calls + 2  # calls that were cut off


async def test_search_calls_that_suffice_only_for_the_choice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="search_calls 15 leaves nothing to search with"):
        await finish(tmp_path, equal(tmp_path, search_calls=15))


async def test_a_request_that_is_refused_costs_one_proposal_not_the_benchmark(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, grid(tmp_path, model="choosy"))
    assert {row.status for row in result.rows} == {"completed"}
    by_method = {row.cell.method: row for row in result.rows}
    assert (by_method["pe2"].lost, by_method["pe2"].candidates) == (2, 0)
    assert by_method["apo"].lost == 0


async def test_an_interrupted_benchmark_is_resumed_without_paying_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, env = tmp_path / "log", Environment(tmp_path)
    bench = grid(tmp_path, seeds=[0, 1])
    whole, _ = await finish(tmp_path / "other", bench)
    monkeypatch.setenv("LPO_TEST_LOG", str(log))
    async with open_bench(bench, env=env, at_once=2) as run:
        async for event in run:
            if event.name == "cell_finished":
                break
    async with open_journal(env.journal) as journal:
        record = journal.run("last")
        done = [part for part in journal.parts(record.run_id).values() if part.status == "completed"]
        assert (record.kind, record.status) == ("bench", "interrupted")
        assert 1 <= len(done) < 12
    async with open_resumed(record.run_id, env=env) as again:
        result = await again.wait()
    assert isinstance(result, BenchResult)
    assert [row.model_dump(exclude={"usage", "run_id"}) for row in result.rows] == [
        row.model_dump(exclude={"usage", "run_id"}) for row in whole.rows
    ]
    asked = log.read_text(encoding="utf-8").split()
    assert len(asked) - len(set(asked)) <= 128  # what was in flight when it was cut off
    with pytest.raises(ConfigError, match="nothing to resume"):
        async with open_resumed(record.run_id, env=env):
            pass


async def test_cells_are_runs_but_are_not_listed(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, grid(tmp_path, methods=["pe2"]))
    async with open_journal(Environment(tmp_path).journal) as journal:
        assert [record.run_id for record in journal.runs()] == [result.run_id]
        cell = journal.run(result.rows[0].run_id)
        assert (cell.kind, cell.status) == ("optimize", "completed")


async def test_missing_data_is_named(tmp_path: Path) -> None:
    tasks = [{"name": "here", "data": str(tmp_path / "pears.jsonl")}, {"name": "gone", "folder": "gone"}]
    bench = grid(tmp_path, methods=["pe2"], localities=["off"], tasks=tasks)
    result, _ = await finish(tmp_path, bench, folder=tmp_path)
    assert [row.cell.task for row in result.rows] == ["here"]
    assert result.notes == ("not in the data folder, so left out: gone",)
    with pytest.raises(ConfigError, match="none of the tasks gone"):
        await finish(tmp_path, grid(tmp_path, tasks=tasks[1:]), folder=tmp_path)


def test_the_command_prints_and_writes_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    monkeypatch.setenv("LPO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model = f"scripted:{MODELS}:obliging"
    words = ["bench", "smoke", "--tasks", "orders", "--methods", "pe2", "--model", model, "--out", "out"]
    assert main([*words, "--localities", "off,nudge", "--seeds", "0,1", "--no-cache"]) == 0
    printed = capsys.readouterr()
    assert "| seed prompt |" in printed.out
    assert "written to out" in printed.err
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"bench.md", "bench.csv", "bench.json", "bench.png", "bench.svg"}
    text = (tmp_path / "out" / "bench.md").read_text(encoding="utf-8")
    assert "bench.svg" in text
    made = f"$ lpo {' '.join(words)} --localities off,nudge --seeds 0,1 --no-cache"
    assert text.endswith(f"{made}\n```\n")
    result = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
    assert [row["cell"]["locality"] for row in result["rows"]] == ["off", "off", "nudge", "nudge"]
    assert main(["show", "last", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["paper"], "no such benchmark"),
        (["smoke", "--tasks", "gsm8k"], "has no task 'gsm8k'"),
        (["smoke", "--methods", "opro"], "methods"),
        (["smoke", "--seeds", "one"], "seeds"),
        (["smoke", "--cells", "0"], "--cells"),
        (["smoke", "--search-calls", "few"], "--search-calls"),
        (["smoke", "--search-calls", "16", "--model", "scripted:x"], "leaves nothing to search with"),
        (["smoke", "--set", "bem=1"], "'bem'"),
        (["smoke", "--data-dir", "nowhere"], "--data-dir nowhere"),
        (["paper-math", "--model", "local:smollm2"], "LPO_BENCH_DATA"),
        (["smoke", "--model", "gpt"], "unknown model"),
    ],
)
def test_wrong_arguments_get_one_line_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.setenv("LPO_HOME", str(tmp_path))
    monkeypatch.delenv("LPO_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *words]) == 2
    ended = capsys.readouterr()
    assert (ended.out, ended.err.count("\n")) == ("", 1)
    assert says in ended.err


def test_a_budget_that_ends_before_any_cell_has_code_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPO_HOME", str(tmp_path))
    words = ["bench", "smoke", "--model", f"scripted:{MODELS}:obliging", "--budget-calls", "5", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 4


def test_a_dry_run_counts_cells_and_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LPO_HOME", str(tmp_path))
    assert main(["bench", "smoke", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["cells"] == 24
    assert 0 < plan["calls_low"] < plan["calls_high"]
    assert plan["missing_tasks"] == []
    assert main(["bench", "smoke", "--dry-run", "--json", "--search-calls", "100"]) == 0
    capped = json.loads(capsys.readouterr().out)
    assert capped["calls_high"] < plan["calls_high"]
    assert capped["calls_high"] <= 24 * (100 + 2 * 24)


async def test_runs_of_a_session_share_one_budget(tmp_path: Path) -> None:
    model = f"scripted:{MODELS}:obliging"
    ends: list[RunResult | BudgetExceeded] = []
    async with open_session(env=Environment(tmp_path), model=model, cache=False, budget=Budget(calls=300)) as session:

        async def one(seed: int) -> None:
            try:
                options: dict[str, Any] = {"method": "pe2", "metric": "numeric", "steps": 1, "host": {"minibatch": 5}}
                ends.append(await session.optimize("Say it.", ITEMS, seed=seed, **options))
            except BudgetExceeded as spent:
                ends.append(spent)

        async with anyio.create_task_group() as tasks:
            for seed in range(6):
                tasks.start_soon(one, seed)
        usage = session.usage()
    assert len(ends) == 6
    assert 250 <= usage.calls <= 300
    assert any(isinstance(end, BudgetExceeded) or end.status == "stopped" for end in ends)


async def test_a_run_of_a_session_has_its_own_cap_and_count(tmp_path: Path) -> None:
    model = f"scripted:{MODELS}:obliging"
    events: list[Event] = []
    async with open_session(env=Environment(tmp_path), model=model, cache=False) as session:
        options: dict[str, Any] = {"method": "pe2", "metric": "numeric", "steps": 2}
        small = await session.optimize("Say it.", ITEMS, budget={"calls": 120}, emit=events.append, **options)
        large = await session.optimize("Say it!", ITEMS, **options)
        total = session.usage()
    assert small.usage.calls <= 120
    assert small.status == "stopped"
    assert large.status == "completed"
    assert total.calls == small.usage.calls + large.usage.calls
    assert events[0].name == "run_started"
    async with open_journal(Environment(tmp_path).journal) as journal:
        assert {record.run_id for record in journal.runs()} == {small.run_id, large.run_id}


async def test_a_session_refuses_options_that_belong_to_the_session(tmp_path: Path) -> None:
    model = f"scripted:{MODELS}:obliging"
    async with lpo_agent.open_session(env=Environment(tmp_path), model=model) as session:
        with pytest.raises(ConfigError, match="rpm belongs to the session"):
            await session.optimize("Say it.", ITEMS, rpm=5)
