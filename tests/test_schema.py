"""Tests of the JSON schema of results: it is generated from the code, and results match it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lpo_agent.core.result import BestResult, LocalityResult, RunResult, SeedResult, TestDelta, UsageResult
from lpo_agent.core.scores import Scored, summarize
from lpo_agent.schema import DIALECT, committed_text, result_schema, to_text

SCORE = summarize([Scored(value=1.0, output="yes"), Scored(value=0.0, output="no")])
BEST = BestResult(prompt="b", dev=SCORE, test=None, marked_parent="<edit>a</edit>", step=2)
RESULT = RunResult(
    run_id="r",
    status="completed",
    stop_reason="all steps done",
    verdict="improved",
    seed=SeedResult(prompt="a", dev=SCORE, test=None),
    best=BEST,
    challenger=BEST,
    test_delta=TestDelta(mean=0.5, ci95=(0.1, 0.9), p_value=0.01, n=2),
    locality=LocalityResult(checked=1, violations=0, tagged_fraction=0.5, length_ratio=1.0),
    usage=UsageResult(calls=1, cached_calls=0, failed_calls=0, input_tokens=1, output_tokens=1, usd=None, wall_s=0.5),
    method="lpo",
)


def test_the_committed_schema_is_that_of_the_code() -> None:
    assert committed_text() == to_text(result_schema()), "run: python -m lpo_agent.schema"


def test_the_contracts_names_are_all_required() -> None:
    schema = result_schema()
    names = {"schema", "run_id", "status", "stop_reason", "verdict", "seed", "best", "test_delta", "locality", "usage"}
    assert schema["$schema"] == DIALECT
    assert names <= set(schema["required"])
    assert schema["properties"]["schema"]["const"] == 1
    assert {"completed", "stopped", "failed", "interrupted"} == set(schema["properties"]["status"]["enum"])
    assert {"mean", "n", "unscored", "ci95"} == set(schema["$defs"]["Score"]["required"])


@pytest.mark.parametrize("result", [RESULT, RESULT.model_copy(update={"challenger": None, "test_delta": None})])
def test_a_result_has_exactly_the_names_of_the_schema(result: RunResult) -> None:
    schema = result_schema()
    assert_named(json.loads(result.model_dump_json(by_alias=True)), schema, schema["$defs"])


def assert_named(value: Any, schema: dict[str, Any], parts: dict[str, Any]) -> None:
    """Compare the names in an object, and in the objects in it, with those that the schema requires and allows."""
    options = [option for option in schema.get("anyOf", [schema]) if "$ref" in option]
    if options and value is not None:
        schema = parts[options[0]["$ref"].rpartition("/")[2]]
    if isinstance(value, dict):
        assert set(value) == set(schema["properties"]) == set(schema["required"])
        for name, part in schema["properties"].items():
            assert_named(value[name], part, parts)
