"""Tests of complete runs with scripted models, with the public API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import lpo_agent
from lpo_agent import Completion, open_resumed, open_run
from lpo_agent.core.events import CandidateRaced, Marked
from lpo_agent.core.result import RunResult
from lpo_agent.core.text import parse_tags
from lpo_agent.environment import Environment
from lpo_agent.errors import BudgetExceeded, ConfigError, MarkupError
from lpo_agent.journal import open_journal
from lpo_agent.spec import make_spec
from tests.scripted_models import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent import Call
    from lpo_agent.core.events import Event

pytestmark = pytest.mark.anyio

MODELS = Path(__file__).parent.parent / "scripted_models.py"
EXAMPLES = tuple(
    {"input": f"Note {letter}: we sold {n} pears.", "target": str(n)} for n, letter in enumerate("ab" * 60)
)
SEED = "Say something about the note.\n\nNote: {input}"


def model(name: str) -> str:
    return f"scripted:{MODELS}:{name}"


def options(**changes: Any) -> dict[str, Any]:
    given = {"prompt": SEED, "examples": EXAMPLES, "model": model("task"), "metric": "numeric", "cache": False}
    return given | {"branches": 2, "steps": 2, "proposals": 4, "race_items": 16} | changes


async def finish(home: Path, **changes: Any) -> tuple[RunResult, list[Event]]:
    events: list[Event] = []
    async with open_run(make_spec(options(**changes)), env=Environment(home)) as run:
        events.extend([event async for event in run])
        result = await run.wait()
    assert isinstance(result, RunResult)
    return result, events


async def test_local_search_needs_no_model_that_follows_instructions(tmp_path: Path) -> None:
    result, events = await finish(tmp_path, method="auto", model=model("weak"))
    assert result.method == "local-search"
    assert result.verdict == "improved"
    assert "number" in result.best.prompt
    assert result.seed.test is not None
    assert result.best.test is not None
    assert result.best.test.mean == pytest.approx(0.8, abs=0.1)
    assert result.test_delta is not None
    assert result.test_delta.n == result.best.test.n
    assert result.best.marked_parent is not None
    assert parse_tags(result.best.marked_parent)[1]["edit"]
    assert result.locality.checked > 0
    assert result.locality.violations == 0
    assert "probe" in next(e.why for e in events if e.name == "run_started")  # type: ignore[attr-defined]


async def test_a_capable_optimizer_critiques_marks_and_fills(tmp_path: Path) -> None:
    result, events = await finish(tmp_path, model=model("capable"))
    assert result.method == "lpo"
    assert result.verdict == "improved"
    assert "<edit>Say something about</edit> the note.\n\nNote: {input}" in [
        event.rendered for event in events if isinstance(event, Marked)
    ]
    written = "Reply with only the number in the note.\n\nNote: {input}"
    (raced,) = [event for event in events if isinstance(event, CandidateRaced) and event.text == written][-1:]
    assert raced.mean >= 0.5
    assert result.search.optimizer_calls is not None
    assert 2 <= result.search.optimizer_calls <= (result.search.calls or 0) / 20
    assert next(e.name for e in events) == "run_started"
    assert [e.name for e in events][-1] == "run_finished"


@pytest.mark.parametrize("method", ["lpo", "local-search"])
async def test_the_same_seed_gives_the_same_run_whatever_the_timing(tmp_path: Path, method: str) -> None:
    one, first = await finish(tmp_path / "a", model=model("capable"), method=method, concurrency=1, branches=3)
    two, second = await finish(tmp_path / "b", model=model("capable"), method=method, concurrency=16, branches=3)
    assert (one.best, one.seed, one.test_delta) == (two.best, two.seed, two.test_delta)

    def steps(events: Sequence[Event]) -> list[str]:
        return sorted(str(e) for e in events if e.name in {"candidate_raced", "marked", "step_finished"})

    assert steps(first) == steps(second)


async def test_protected_text_never_changes(tmp_path: Path) -> None:
    prompt = "<keep>Say something about the note.</keep>\n\n<edit>Note:</edit> {input}"
    result, _ = await finish(tmp_path, prompt=prompt, model=model("weak"), method="local-search", steps=3)
    assert result.best.prompt.startswith("Say something about the note.\n\n")
    assert result.best.prompt.endswith(" {input}")


async def test_a_random_difference_is_not_reported_as_improvement(tmp_path: Path) -> None:
    verdicts = [(await finish(tmp_path, model=model("coin"), method="local-search", seed=s))[0] for s in range(3)]
    for result in verdicts:
        assert result.verdict == "no_significant_improvement"
        assert result.best.prompt == result.seed.prompt == SEED
        assert result.best.step == 0


async def test_a_budget_of_calls_is_never_exceeded_and_the_end_is_reserved_first(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, budget={"calls": 200}, steps=50, model=model("capable"))
    assert 190 <= result.usage.calls <= 200
    assert result.plan is not None
    assert result.plan.probe + result.plan.search + result.plan.choose + result.plan.test == 200
    assert result.plan.test == 96
    assert result.status == "completed"  # it was planned: the search ended with its calls, and the rest was paid for
    assert "calls of the search are spent" in result.stop_reason
    assert result.verdict == "improved"
    for measured in (result.seed.test, result.best.test, result.test_delta):
        assert measured is not None
        assert measured.n == 48  # the whole test split


async def test_a_budget_of_tokens_stops_the_search_and_the_reason_is_told(tmp_path: Path) -> None:
    result, _ = await finish(tmp_path, method="local-search", steps=50, budget={"tokens": 9_000})
    assert result.usage.input_tokens + result.usage.output_tokens <= 9_000
    assert result.status == "stopped"
    assert "budget of 9000 tokens is used up" in result.stop_reason


async def test_a_budget_too_small_for_any_result_says_so(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded, match="before the seed prompt was scored"):
        await finish(tmp_path, method="lpo", model=model("capable"), budget={"tokens": 1})


async def test_a_stopped_run_is_still_confirmed_and_tested(tmp_path: Path) -> None:
    async with open_run(make_spec(options(steps=200, method="local-search")), env=Environment(tmp_path)) as run:
        async for event in run:
            if event.name == "step_finished":
                run.stop()
        result = await run.wait()
    assert isinstance(result, RunResult)
    assert (result.status, result.stop_reason) == ("stopped", "asked to stop")
    assert result.seed.test is not None


class HeldModel:
    """The scripted model of the other tests; it answers ``left`` calls, and all others only when it is released."""

    def __init__(self, left: int) -> None:
        self.left, self.released = left, anyio.Event()

    async def complete(self, call: Call) -> Completion:
        self.left -= 1
        if self.left < 0:
            await self.released.wait()
        return Completion(task(call))


async def test_a_cancelled_run_is_resumed_by_replay(tmp_path: Path) -> None:
    env = Environment(tmp_path)
    given = options(method="local-search", concurrency=8)
    whole, _ = await finish(tmp_path / "whole", **given)
    held = HeldModel(whole.usage.calls - 1)  # it cannot end before its first events are read
    async with open_run(make_spec(given), env=env, model=held) as run:
        async for event in run:
            if event.name == "step_finished":
                break
    async with open_journal(env.journal) as journal:
        assert journal.run(run.run_id).status == "interrupted"
    paid = run.usage().calls
    held.released.set()
    async with open_resumed(run.run_id[:-2], env=env, model=held) as again:
        result = await again.wait()
    assert isinstance(result, RunResult)
    assert (result.best, result.test_delta) == (whole.best, whole.test_delta)
    assert paid < result.usage.calls <= whole.usage.calls + 8  # those in flight when it was cut off
    async with open_journal(env.journal) as journal:
        assert journal.run("last").status == "completed"
        stored = json.loads(journal.run(run.run_id).result_json or "")
    assert stored["schema"] == 1
    with pytest.raises(ConfigError, match="nothing to resume"):
        async with open_resumed(run.run_id, env=env):
            pass


async def test_a_second_run_takes_its_answers_from_the_journal(tmp_path: Path) -> None:
    first, _ = await finish(tmp_path, cache=True, method="local-search")
    second, _ = await finish(tmp_path, cache=True, method="local-search")
    assert first.usage.calls > 0
    assert second.usage.calls == 0
    assert (first.best, first.test_delta) == (second.best, second.test_delta)


async def test_optimize_takes_the_callers_own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPO_HOME", str(tmp_path))

    async def judge(output: str, target: str, row: dict[str, str]) -> tuple[float, str]:
        await anyio.lowlevel.checkpoint()
        return float(output == target), f"wanted {row['target']}"

    given = options(metric=judge, method="local-search")
    result = await lpo_agent.optimize(given.pop("prompt"), given.pop("examples"), **given)
    assert result.verdict == "improved"


async def test_a_metric_that_raises_leaves_the_item_unscored(tmp_path: Path) -> None:
    def fussy(output: str, target: str, row: dict[str, str]) -> float:
        if target == "3":
            raise KeyError(target)
        return float(output == target)

    spec = make_spec(options(metric=None))
    async with open_run(spec, kind="evaluate", env=Environment(tmp_path), metric=fussy) as run:
        result = await run.wait()
    assert result.score.unscored == 1
    assert result.score.n == len(EXAMPLES) - 1
    ((_, reason),) = result.unscored
    assert "KeyError" in reason


async def test_a_prompt_in_which_nothing_may_change_can_be_evaluated(tmp_path: Path) -> None:
    spec = make_spec(options(prompt="{input}", model=model("weak")))
    async with open_run(spec, kind="evaluate", env=Environment(tmp_path)) as run:
        result = await run.wait()
    assert result.score.n == len(EXAMPLES)
    with pytest.raises(MarkupError, match="nothing in the prompt may change"):
        async with open_run(spec, env=Environment(tmp_path)):
            pass
