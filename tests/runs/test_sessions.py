"""Runs beside each other in one session: what ends one harms no other, and who reads late still reads all."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

import lpo_agent
from lpo_agent import Budget, Completion, Environment, Usage
from lpo_agent.errors import AuthError, BudgetExceeded, LpoError, OutageError
from lpo_agent.events import RunStarted

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent import Run

pytestmark = pytest.mark.anyio

ROWS = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(60)]
SEARCH: dict[str, Any] = {"metric": "numeric", "method": "local-search", "steps": 1}


class Echo:
    """Repeats the number once it is asked for one; ``problem`` is raised in place of an answer."""

    def __init__(self, problem: BaseException | None = None) -> None:
        self.problem = problem
        self.name = f"own:{type(problem).__name__}"

    async def complete(self, call: Any) -> Completion:
        if self.problem is not None:
            raise self.problem
        text = call.turns[-1].content
        return Completion(text.split()[-2] if "number" in text else "hm", Usage(3, 1))


def spec(**changes: Any) -> lpo_agent.RunSpec:
    return lpo_agent.make_spec({"prompt": "Say it: {input}", "examples": ROWS, "model": "own:x"} | SEARCH | changes)


ENDS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "refused": ({"model": Echo(AuthError("bad key"))}, AuthError, "failed"),
    "an outage": ({"model": Echo(OutageError("silent"))}, OutageError, "failed"),
    "a bug in the model": ({"model": Echo(KeyError("x"))}, LpoError, "failed"),
    "a metric that raises": ({"metric": lambda output, target, row: 1 / 0}, LpoError, "failed"),
    "a spent budget": ({"budget": Budget(tokens=1)}, BudgetExceeded, "stopped"),
}


@pytest.mark.parametrize(("given", "error", "status"), ENDS.values(), ids=ENDS.keys())
async def test_a_run_that_fails_leaves_the_others_of_its_session_alone(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], status: str
) -> None:
    env = Environment(tmp_path)
    async with lpo_agent.open_session(model=Echo(), env=env) as session:
        good = await session.start(spec(), model=Echo())
        own = {"model": Echo()} | {name: part for name, part in given.items() if name != "budget"}
        bad = await session.start(spec(**{name: part for name, part in given.items() if name == "budget"}), **own)
        with pytest.raises(error):
            await bad.wait()
        assert (await good.wait()).verdict == "improved"
        again = await session.optimize("Say it now: {input}", ROWS, **SEARCH)
    assert again.verdict == "improved"
    statuses = {run.run_id: run.status for run in await lpo_agent.list_runs(env=env)}
    assert statuses == {good.run_id: "completed", bad.run_id: status, again.run_id: "completed"}


async def names(run: Run[Any]) -> list[str]:
    return [event.name async for event in run]


@pytest.mark.parametrize("opened", ["alone", "in a session"])
async def test_who_reads_a_runs_events_late_gets_all_and_nobody_has_to_read_them(tmp_path: Path, opened: str) -> None:
    env = Environment(tmp_path)
    if opened == "alone":
        async with lpo_agent.open_run(spec(), model=Echo(), env=env) as run:
            early = await names(run)
            late = await names(run)
    else:
        async with lpo_agent.open_session(model=Echo(), env=env) as session:
            run = await session.start(spec(), model=Echo())
            await run.wait()
            kept = [each for each in gc.get_objects() if isinstance(each, RunStarted) and each.run_id == run.run_id]
            assert not kept  # the journal has the events, not this process
            early, late = await names(run), await names(run)
    assert early == late
    assert (early[0], early[-1]) == ("run_started", "run_finished")
    assert len(early) > 10
