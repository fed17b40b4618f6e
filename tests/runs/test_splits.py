"""Tests of the rows of a run: which of them are test rows, and what is read from which split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lpo_agent
from lpo_agent.environment import Environment
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.runs.task import load_task
from lpo_agent.spec import make_spec

MODELS = Path(__file__).parent.parent / "scripted_models.py"
ROWS = [{"input": f"Note {n}: we sold {n} pears.", "target": str(n)} for n in range(60)]
GIVEN: dict[str, Any] = {
    "prompt": "Say something about the note.\n\nNote: {input}",
    "model": f"scripted:{MODELS}:task",
    "metric": "numeric",
    "method": "local-search",
}


def sizes(**changes: Any) -> tuple[int, int, int]:
    splits = load_task(make_spec(GIVEN | {"examples": ROWS} | changes)).splits
    return len(splits.train), len(splits.dev), len(splits.test)


def test_the_option_test_is_a_file_a_number_or_none(tmp_path: Path) -> None:
    file = tmp_path / "5"
    file.write_text("\n".join(json.dumps(row | {"target": "x"}) for row in ROWS[:7]), encoding="utf-8")
    assert sizes() == (24, 12, 24)
    assert sizes(test="none") == sizes(test=0) == (40, 20, 0)
    assert sizes(test="10") == sizes(test=10) == (38, 12, 10)
    assert sizes(test=str(file)) == sizes(test=file) == (40, 20, 7)


@pytest.mark.parametrize("wrong", [-1, True])
def test_a_wrong_number_of_test_items_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="--test: write none, a file, or a number of items"):
        make_spec(GIVEN | {"test": wrong})


def test_a_number_of_test_items_needs_data_to_take_them_from(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    with pytest.raises(DataError, match="--test 9 takes test rows from --data"):
        sizes(examples=(), train=file, test=9)
    assert sizes(examples=(), train=file, test="none") == (40, 20, 0)


def test_labels_that_are_only_in_test_are_not_known_to_the_search(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    rows = [{"input": f"text {n}", "target": ("yes", "no")[n % 2]} for n in range(20)]
    file.write_text("\n".join(json.dumps({"input": f"new {n}", "target": "perhaps"}) for n in range(8)))
    task = load_task(make_spec(GIVEN | {"examples": rows, "test": file, "metric": None}))
    assert task.metric_name == "choice"
    assert task.labels == ("no", "yes")


def test_what_was_removed_or_contradicts_itself_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    dev = [*ROWS[:3], {"input": "new", "target": "1"}, {"input": "new", "target": "2"}]
    file.write_text("\n".join(map(json.dumps, dev)), encoding="utf-8")
    notes = load_task(make_spec(GIVEN | {"examples": ROWS, "dev": file, "test": "none"})).notes
    assert notes == (
        "3 train rows whose input is also in dev were removed from train",
        "1 inputs have rows with different targets, of which no prompt can get all right",
    )


@pytest.mark.anyio
async def test_without_a_test_split_nothing_is_claimed(tmp_path: Path) -> None:
    spec = make_spec(GIVEN | {"examples": ROWS, "test": "none", "budget": {"calls": 200}})
    async with lpo_agent.open_run(spec, env=Environment(tmp_path)) as run:
        result: Any = await run.wait()
    assert result.verdict == "not_tested"
    assert (result.best.test, result.test_delta, result.power) == (None, None, None)
    assert result.best.prompt != result.seed.prompt
    assert result.usage.calls <= 200
