"""Tests of the grid of a benchmark: its cells, their options, and the source of their rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lpo_agent.bench.grid import PRESETS, BenchTask, arm_key, cell_spec, cells, make_bench, read_bench
from lpo_agent.bench.peers.catalog import PEERS
from lpo_agent.bench.splits import load_splits
from lpo_agent.core.beam_options import DEFAULTS, beam_options_for
from lpo_agent.core.budget import Budget
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.choosing import full

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent.bench.grid import Bench

GRID: dict[str, Any] = {
    "name": "small",
    "methods": ["pe2"],
    "prompt": "Think.",
    "options": {"model": "local:smollm2"},
    "tasks": [{"name": "one", "data": "x.jsonl"}],
}


def grid(**changes: Any) -> Bench:
    return make_bench(GRID | changes)


def names(bench: Bench) -> list[str]:
    return [cell.name for cell in cells(bench)]


def test_there_is_a_cell_for_each_meaningful_combination() -> None:
    found = grid(methods=["pe2", "lpo"], localities=["off", "nudge"], markers=["llm", "random"], seeds=[0, 1])
    assert names(found) == [
        "one.pe2.off.-.0",
        "one.pe2.off.-.1",
        "one.pe2.nudge.llm.0",
        "one.pe2.nudge.llm.1",
        "one.pe2.nudge.random.0",
        "one.pe2.nudge.random.1",
        "one.lpo.enforce.llm.0",
        "one.lpo.enforce.llm.1",
        "one.lpo.enforce.random.0",
        "one.lpo.enforce.random.1",
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_cell_of_a_preset_can_be_run(preset: str) -> None:
    bench = read_bench(preset)
    bench = bench.model_copy(update={"options": {"model": "openai:x"} | bench.options})
    found = {(c.method, c.locality) for c in cells(bench) if c.method in DEFAULTS}
    beams = [method for method in bench.methods if method in DEFAULTS]
    assert found == {(method, locality) for method in beams for locality in bench.localities}
    for cell in cells(bench):
        assert cell_spec(bench, cell).method == ("lpo" if cell.method in PEERS else cell.method)


def test_peers_have_the_options_of_the_task_and_no_others() -> None:
    bench = read_bench("peers-small")
    bench = bench.model_copy(update={"options": {"model": "openai:x"} | bench.options})
    specs = {(cell.task, cell.method): cell_spec(bench, cell) for cell in cells(bench)}
    assert len(bench.tasks) >= 8
    for task in bench.tasks:
        ours = specs[task.name, "lpo"].model_copy(update={"marker": None})
        assert all(specs[task.name, name] == ours for name in PEERS if name in bench.methods)


@pytest.mark.parametrize("preset", ["paper-math", "paper-bbh"])
def test_the_papers_settings(preset: str) -> None:
    """Jain and Chowdhary 2025, section 3.2; PE2, appendix D."""
    bench = read_bench(preset)
    assert bench.rows["train"] == bench.rows["dev"] == 100
    bench = bench.model_copy(update={"options": bench.options | {"model": "openai:x"}})
    for cell in cells(bench):
        spec = cell_spec(bench, cell)
        numbers, plan = beam_options_for(cell.method, spec.method_options), full(METHODS.load(cell.method)).plan(spec)
        assert (plan.steps, numbers.beam, plan.proposals) == (3, 4, 4)
        assert (numbers.selection, numbers.pool, numbers.induce, numbers.max_words) == ("all", "all", 0, 50)
        assert spec.prompt == "Let's think step by step."
        assert (spec.placement, spec.max_tokens) == ("after", 400)
        assert (spec.extract or "").startswith("Therefore, the answer")
        assert spec.extract_tokens == (100 if cell.task == "word_sorting" else 10)
    assert len(bench.tasks) == (27 if preset == "paper-bbh" else 2)


def test_settings_of_one_method_win_over_those_of_all_beam_methods() -> None:
    bench = grid(methods=["pe2", "apo"], settings={"beam": 2, "errors": 1}, method_settings={"apo": {"beam": 3}})
    found = {cell.method: cell_spec(bench, cell).method_options for cell in cells(bench)}
    assert found == {"pe2": {"beam": 2, "errors": 1}, "apo": {"beam": 3, "errors": 1}}


def test_options_may_be_written_as_in_a_config_file() -> None:
    options = GRID["options"] | {"no-cache": True, "budget-calls": 5, "method-options": {"tag-words": 3}}
    bench = grid(methods=["pe2", "lpo"], options=options | {"lpo": {"race-items": 9, "host": {"tags": 2}}})
    found = {cell.method: cell_spec(bench, cell) for cell in cells(bench)}
    assert {(spec.cache, spec.budget.calls) for spec in found.values()} == {(False, 5)}
    assert (found["pe2"].method_options, found["lpo"].method_options) == ({"tag_words": 3}, {"tags": 2})
    assert found["lpo"].race_items == 9


def test_equal_budgets_for_a_small_model() -> None:
    bench = read_bench("local-small")
    assert len(bench.tasks) >= 8
    assert bench.search_calls is not None
    assert all(task.prompt is not None and "{input}" in task.prompt for task in bench.tasks)
    for cell in cells(bench):
        spec = cell_spec(bench, cell)
        assert spec.budget == Budget()  # dev and test would be cut to it, and differently for each method
        assert (cell.method == "lpo") == (spec.proposer == "operators")
    assert bench.reference in {arm_key(cell) for cell in cells(bench)}


def test_options_of_one_method_win_over_those_of_all_and_name_its_arm() -> None:
    options = {"model": "local:smollm2", "steps": 5, "lpo": {"steps": 2, "race-items": 9, "marker": "influence"}}
    bench = grid(methods=["pe2", "lpo"], localities=["nudge"], options=options, reference="lpo/enforce/influence")
    assert names(bench) == ["one.pe2.nudge.llm.0", "one.lpo.enforce.influence.0"]
    found = {cell.method: cell_spec(bench, cell) for cell in cells(bench)}
    assert (found["lpo"].steps, found["lpo"].race_items, found["lpo"].marker) == (2, 9, "influence")
    assert (found["pe2"].steps, found["pe2"].race_items, found["pe2"].marker) == (5, None, "llm")
    assert make_bench(bench.model_dump()) == bench


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"opro": {"steps": 2}}, "method_options: there is no method 'opro'; known are lpo"),
        ({"pe2": {"stepz": 2}}, "method_options: pe2: unknown option 'stepz'"),
        ({"pe2": {"seed": 2}}, "pe2: seed is the same for all methods"),
        ({"pe2": {"base-url": "http://x"}}, "pe2: base-url is the same for all methods"),
    ],
)
def test_a_bad_option_of_one_method_is_named(own: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        grid(options={"model": "local:smollm2", **own})


def test_a_bad_value_of_one_method_is_named() -> None:
    bench = grid(options={"model": "local:smollm2", "pe2": {"steps": 0}})
    with pytest.raises(ConfigError, match=r"--steps: .*greater than or equal to 1"):
        cell_spec(bench, next(cells(bench)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": []}, "methods: at least one"),
        ({"methods": ["opro"]}, "methods.0"),
        ({"seeds": [1, 1]}, "twice"),
        ({"tasks": [{"name": "a/b", "data": "x"}]}, "tasks.0.name"),
        ({"colour": 1}, "colour"),
        ({"search_calls": 0}, "search_calls"),
        ({"reference": "pe2/think"}, "no arm 'pe2/think'; the grid has pe2/enforce"),
    ],
)
def test_a_bad_grid_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        grid(**changes)


def test_a_missing_option_of_a_cell_is_named() -> None:
    bench = grid(options={})
    with pytest.raises(ConfigError, match="--model is required"):
        cell_spec(bench, next(cells(bench)))
    bench = grid(prompt=None)
    with pytest.raises(ConfigError, match="task one has no prompt"):
        cell_spec(bench, next(cells(bench)))
    bench = grid(settings={"bem": 1})
    with pytest.raises(ConfigError, match="'bem' is no option of method"):
        cell_spec(bench, next(cells(bench)))


@pytest.mark.parametrize("source", ["paper", "nothing.toml"])
def test_an_unknown_benchmark_is_refused(source: str) -> None:
    with pytest.raises(ConfigError, match=source):
        read_bench(source)


def write(path: Path, rows: int, offset: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"input": f"{i}?", "target": str(i)}) for i in range(offset, offset + rows)]
    path.write_text("\n".join(lines), encoding="utf-8")


def test_published_splits_are_cut_to_size(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test")):
        write(tmp_path / "t" / f"{name}.jsonl", 20, 100 * number)
    splits = load_splits(grid(rows={"train": 5, "dev": 6}), BenchTask(name="t", folder="t"), tmp_path)
    assert splits is not None
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [5, 6, 20]
    assert splits.train[0].target == "0"


def test_an_official_file_is_shuffled_and_cut(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", 30)
    splits = load_splits(grid(rows={"train": 10, "dev": 8, "test": 7}), BenchTask(name="t", folder="t"), tmp_path)
    assert splits is not None
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [10, 8, 7]
    targets = [row.target for row in (*splits.train, *splits.dev, *splits.test)]
    assert len(set(targets)) == 25
    assert targets != sorted(targets, key=int)


def test_dev_is_cut_from_an_official_train_file(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.jsonl", 30)
    write(tmp_path / "t" / "test.jsonl", 9, 100)
    splits = load_splits(grid(rows={"train": 10, "dev": 10}), BenchTask(name="t", folder="t"), tmp_path)
    assert splits is not None
    assert [len(part) for part in (splits.train, splits.dev, splits.test)] == [10, 10, 9]
    assert not {row.target for row in splits.train} & {row.target for row in splits.dev}


def test_duplicate_items_are_removed_unless_the_benchmark_keeps_them(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.jsonl", 10)
    write(tmp_path / "t" / "dev.jsonl", 10, 20)
    write(tmp_path / "t" / "test.jsonl", 10, 9)
    task = BenchTask(name="t", folder="t")
    honest, faithful = load_splits(grid(), task, tmp_path), load_splits(grid(keep_leaks=True), task, tmp_path)
    assert honest is not None
    assert faithful is not None
    assert (len(honest.train), honest.leaked) == (9, 1)
    assert (len(faithful.train), faithful.leaked) == (10, 0)


def test_missing_data_is_reported(tmp_path: Path) -> None:
    task = BenchTask(name="t", folder="t")
    assert load_splits(grid(), task, tmp_path) is None
    with pytest.raises(ConfigError, match="--data-dir"):
        load_splits(grid(), task, None)
    with pytest.raises(ConfigError, match="give it data or a folder"):
        load_splits(grid(), BenchTask(name="t"), tmp_path)
    write(tmp_path / "t" / "dev.jsonl", 10)
    with pytest.raises(DataError, match="only dev"):
        load_splits(grid(), task, tmp_path)


def test_the_packages_own_tasks_can_be_read() -> None:
    bench = read_bench("smoke")
    for task in bench.tasks:
        splits = load_splits(bench, task, None)
        assert splits is not None
        assert [len(part) for part in (splits.train, splits.dev, splits.test)] == list(bench.rows.values())


def test_settings_may_be_written_as_tables_or_with_their_names_of_version_0_1() -> None:
    new = grid(methods=["pe2", "apo"], settings={"beam": 2, "apo": {"beam": 3}})
    old = grid(methods=["pe2", "apo"], host={"beam": 2}, hosts={"apo": {"beam": 3}})
    assert new == old
    assert (new.settings, new.method_settings) == ({"beam": 2}, {"apo": {"beam": 3}})
    assert type(new).model_validate_json(new.model_dump_json()) == new
