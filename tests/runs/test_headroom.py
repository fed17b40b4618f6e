"""Tests of `lpo headroom`: what goes wrong with a prompt, and whether a search is worth it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lpo_agent
from lpo_agent import Completion, Environment, plan_run
from lpo_agent.cli import main
from lpo_agent.core.events import FaultsCounted
from lpo_agent.errors import BudgetExceeded
from lpo_agent.results import HeadroomResult
from lpo_agent.spec import make_spec

if TYPE_CHECKING:
    from lpo_agent import Call

MODELS = Path(__file__).parent.parent / "scripted_models.py"
ROWS = [{"input": f"Note {n % 7}: we sold {n} pears.", "target": str(n)} for n in range(120)]
SEED = "Say something about the note.\n\nNote: {input}"
MODEL = f"scripted:{MODELS}:task"


class Flaky:
    """Answers every second ask of a question wrongly, and a question about a number with that number."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    async def complete(self, call: Call) -> Completion:
        text = call.turns[-1].content
        self.asked[text] = self.asked.get(text, 0) + 1
        return Completion(text.split()[-2] if self.asked[text] % 2 else "0")


@pytest.mark.anyio
async def test_it_tells_that_the_form_is_wrong_and_that_an_instruction_mends_it(tmp_path: Path) -> None:
    result = await lpo_agent.headroom(SEED, ROWS, model=MODEL, metric="numeric", env=Environment(tmp_path))
    assert result.usage.calls == 60
    assert (result.faults.rows, result.faults.form, result.faults.kinds) == (24, 24, {"no answer": 24})
    assert result.agreement is not None
    assert (result.agreement.n, result.agreement.same) == (12, 12)
    form, examples = result.variants
    assert (form.name, examples.name) == ("says the form of the answer", "shows examples")
    assert form.prompt != SEED
    assert form.delta is not None
    assert form.delta.mean > 0.5
    assert result.gain is not None
    assert 0 < result.gain.low < result.gain.likely < result.gain.high
    assert result.worth == "yes"


@pytest.mark.anyio
async def test_a_search_after_it_uses_its_answers(tmp_path: Path) -> None:
    env = Environment(tmp_path)
    given: dict[str, Any] = {"model": MODEL, "metric": "numeric", "seed": 3}
    looked = await lpo_agent.headroom(SEED, ROWS, env=env, **given)
    spec = make_spec({"prompt": SEED, "examples": ROWS, "method": "local-search", "budget": {"calls": 300}} | given)
    async with lpo_agent.open_run(spec, env=env) as run:
        events = [event async for event in run]
        result = await run.wait()
    assert result.usage.cached_calls >= 12 + 2 * 3  # the first items of the prompt, and of both quick changes
    (told,) = [event for event in events if isinstance(event, FaultsCounted)]
    assert told.faults == result.faults
    assert told.faults.form == told.faults.rows == 12 + 24
    assert looked.faults.form == looked.faults.rows


@pytest.mark.anyio
async def test_a_model_that_answers_otherwise_when_asked_again_is_noticed(tmp_path: Path) -> None:
    prompt = "Say the number.\n\n{input}"
    result = await lpo_agent.headroom(prompt, ROWS, model=Flaky(), metric="numeric", env=Environment(tmp_path))
    assert result.score.mean == 1.0
    assert result.agreement is not None
    assert (result.agreement.n, result.agreement.same) == (12, 0)


@pytest.mark.anyio
async def test_a_perfect_prompt_needs_no_search(tmp_path: Path) -> None:
    rows = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(60)]

    class Right:
        async def complete(self, call: Call) -> Completion:
            return Completion(call.turns[-1].content.split()[-2])

    result = await lpo_agent.headroom(
        "Count.\n\n{input}", rows, model=Right(), metric="numeric", env=Environment(tmp_path)
    )
    assert result.worth == "no"
    assert "right already" in result.reasons[0]


@pytest.mark.anyio
async def test_a_spent_budget_gives_what_is_known_or_says_that_nothing_is(tmp_path: Path) -> None:
    env = Environment(tmp_path)
    result = await lpo_agent.headroom(SEED, ROWS, model=MODEL, metric="numeric", env=env, budget={"calls": 10})
    assert (result.status, result.usage.calls, result.faults.rows) == ("stopped", 10, 10)
    assert "10 calls" in result.stop_reason
    with pytest.raises(BudgetExceeded):
        await lpo_agent.headroom(SEED, ROWS, model=MODEL, metric="numeric", env=env, cache=False, budget={"tokens": 1})


@pytest.mark.parametrize(("changes", "calls"), [({}, 60), ({"extract": "So the answer is"}, 120), ({"demos": 0}, 48)])
def test_its_calls_are_known_before(changes: dict[str, Any], calls: int) -> None:
    plan = plan_run(make_spec({"prompt": SEED, "examples": ROWS, "model": MODEL} | changes), "headroom")
    assert (plan.kind, plan.calls_low, plan.calls_high) == ("headroom", calls, calls)


def test_the_command_prints_it_as_text_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LPO_HOME", str(tmp_path))
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    words = ["headroom", "--text", SEED, "--data", str(file), "--model", MODEL, "--metric", "numeric", "--quiet"]
    assert main([*words, "--dry-run"]) == 0
    assert "60 calls" in capsys.readouterr().out
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "of 24 answers, 0 right, 24 with a wrong form, 0 with a wrong content" in printed
    assert "24 name no possible answer" in printed
    assert "Is a search worth it? Yes" in printed
    assert main([*words, "--json"]) == 0
    shown = HeadroomResult.model_validate_json(capsys.readouterr().out)
    assert (shown.worth, shown.usage.calls) == ("yes", 0)
    assert main(["runs"]) == 0
    assert "worth a search: yes" in capsys.readouterr().out
    assert main(["headroom", "--text", SEED, "--data", "none.jsonl", "--model", MODEL]) == 2
