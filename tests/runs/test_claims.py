"""Tests of the claims of a search in simulations with a known truth: complete runs with scripted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lpo_agent import open_run, plan_run
from lpo_agent.core.events import CandidateRaced, StepStarted
from lpo_agent.core.power import items_needed
from lpo_agent.core.result import RunResult
from lpo_agent.environment import Environment
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.spec import make_spec
from scripts import simulate_attribution, simulate_noise

if TYPE_CHECKING:
    from lpo_agent.core.events import Event

MODELS = Path(__file__).parent.parent / "scripted_models.py"
EXAMPLES = tuple({"input": f"Note {n % 7}: we sold {n} pears.", "target": str(n)} for n in range(120))
SEED = "Say something about the note.\n\nNote: {input}"


async def finish(home: Path, **changes: Any) -> tuple[RunResult, list[Event]]:
    events: list[Event] = []
    given: dict[str, Any] = {"prompt": SEED, "examples": EXAMPLES, "model": f"scripted:{MODELS}:task"}
    given |= {"metric": "numeric", "method": "local-search", "branches": 2, "steps": 3, "race_items": 16}
    async with open_run(make_spec(given | changes), env=Environment(home)) as run:
        events.extend([event async for event in run])
        result = await run.wait()
    assert isinstance(result, RunResult)
    return result, events


@pytest.mark.parametrize(
    ("runs", "most"),  # at a rate of 2.5 %, more than that comes in fewer than 1 of 75 and 1 of 400 tries
    [(20, 2), pytest.param(60, 5, marks=pytest.mark.slow)],
)
def test_runs_without_possible_gain_rarely_report_improved(tmp_path: Path, runs: int, most: int) -> None:
    verdicts = anyio.run(simulate_noise.verdicts, runs, "local-search", tmp_path)
    assert len(verdicts) == runs
    assert verdicts.count("improved") <= most


def test_attribution_names_the_one_edit_that_was_rewarded(tmp_path: Path) -> None:
    found, right, others = anyio.run(simulate_attribution.named, 12, tmp_path)
    assert (found, right) == (12, 12)
    assert others > 0


@pytest.mark.anyio
async def test_the_result_has_the_found_prompt_and_its_evidence(tmp_path: Path) -> None:
    result, events = await finish(tmp_path)
    assert result.verdict == "improved"
    assert result.best.edits
    assert all(edit.worth is not None and edit.n == 16 for edit in result.best.edits)
    assert result.test_delta is not None
    assert result.test_delta.ci95[0] > 0.3
    for split in (result.seed, result.best):
        assert split.dev is not None
        assert split.test is not None
        assert (split.dev.n, split.test.n) == (
            24,
            48,
        )  # all of dev chose it, and all of test proves it
    assert max(span.gain for span in result.search.spans) > 0.05  # two edits that do the same are worth 0 one by one
    on_dev = [point.dev.mean or 0.0 for point in result.front if point.dev is not None]
    assert result.best.dev is not None
    assert max(on_dev) >= (result.best.dev.mean or 0.0)  # training items count for the choice too, not for the front
    search = result.search
    assert search.curve_on == "train"
    assert [mean for _, mean in search.curve] == sorted(mean for _, mean in search.curve)
    assert search.calls is not None
    assert search.curve[-1][0] <= search.calls
    raced = [event for event in events if isinstance(event, CandidateRaced)]
    assert sum(span.tried for span in search.spans) > 0
    ids = {event.parent for event in events if isinstance(event, StepStarted)} | {event.candidate for event in raced}
    assert {event.parent for event in raced} <= ids
    assert max(event.items for event in raced) <= 16
    chances = [event.chance for event in raced if event.chance is not None]
    assert all(0 <= chance <= 1 for chance in chances)
    assert max(chances) > 0.95
    assert {event.log_e for event in raced} == {0.0}  # an adaptive search has no e-values to tell
    assert result.plan is not None
    assert result.plan.test == 96


@pytest.mark.anyio
async def test_too_few_test_items_give_a_note_with_the_needed_number(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path)
    assert result.power is not None
    assert (result.power.test_n, result.power.needed) == (48, items_needed(0.1))
    assert f"needs about {items_needed(0.1)} test items" in result.notes[0]
    modest, _ = await finish(tmp_path, gain=0.6)
    assert modest.notes == ()


@pytest.mark.anyio
async def test_must_pass_examples_are_scored_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "must.jsonl"
    rows = [{"input": f"There is no number: {n}", "target": "lovely"} for n in range(3)]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    result, _ = await finish(tmp_path, must_pass=file, metric="contains")
    assert result.best.prompt == SEED
    assert any("must-pass" in note for note in result.notes)
    file.write_text('{"input": {"other": "x"}, "target": "y"}', encoding="utf-8")
    with pytest.raises(DataError, match="variables"):
        await finish(tmp_path, must_pass=file)


@pytest.mark.anyio
async def test_demonstrations_are_tried_and_never_come_from_the_items_that_judge_them(tmp_path: Path) -> None:
    result, events = await finish(tmp_path, demos=2)
    shown = [event for event in events if isinstance(event, CandidateRaced) and "Example" in event.text]
    assert shown
    assert result.locality.violations == 0


@pytest.mark.parametrize(
    "option",
    [{"demos": 2}, {"class_gate": 0.0}, {"proposer": "operators"}, {"branches": 9}, {"must_pass": "rows.jsonl"}],
)
def test_beam_methods_refuse_options_of_the_local_search(option: dict[str, Any]) -> None:
    spec = make_spec({"prompt": SEED, "examples": EXAMPLES, "model": "local:smollm2", "method": "apo", **option})
    with pytest.raises(ConfigError, match=f"--{next(iter(option)).replace('_', '-')} is for --method"):
        plan_run(spec)


@pytest.mark.anyio
async def test_lpo_with_operators_is_local_search(tmp_path: Path) -> None:
    one, _ = await finish(tmp_path)
    other, _ = await finish(tmp_path, method="lpo", proposer="operators", steps=3)
    assert other.method == "lpo"
    assert (other.best, other.search) == (one.best, one.search)
