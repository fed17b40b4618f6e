"""Tests of runs with workers over a real NATS server: same results, each call paid for once, limits of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import lpo_agent
from lpo_agent import open_resumed, open_run
from lpo_agent.core.budget import Budget
from lpo_agent.core.result import EvaluateResult, RunResult
from lpo_agent.environment import Environment
from lpo_agent.spec import make_spec
from tests.bus.nats_server import shared_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lpo_agent.runs.request import Kind

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent.parent
MODELS = HERE / "scripted_models.py"
ROWS = tuple({"input": f"Note {letter}: we sold {n} pears.", "target": str(n)} for n, letter in enumerate("ab" * 60))
SEED = "Say something about the note.\n\nNote: {input}"
GOOD = "Reply with only the number in the note.\n\nNote: {input}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def model(name: str = "capable", file: Path = MODELS) -> str:
    return f"scripted:{file}:{name}"


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start workers at the shared server; they are dismissed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str = model(), *words: str, bus: str = "") -> subprocess.Popen[str]:
        home = tmp_path / f"worker{len(started)}"
        command = [sys.executable, "-m", "lpo_agent", "worker", "--bus", bus or shared_server().url, "--model", name]
        env = {"LPO_HOME": str(home), "PYTHONPATH": str(HERE.parent), "PATH": ""}
        process = subprocess.Popen([*command, *words], env=env, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("worker: ")
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=20)
        assert process.stderr is not None
        process.stderr.close()


async def finish(home: Path, kind: Kind = "optimize", say: Callable[[str], None] = print, **changes: Any) -> Any:
    given = {"examples": ROWS, "model": model(), "metric": "numeric", "cache": False, "bus": shared_server().url}
    if kind == "optimize":
        given |= {"prompt": SEED, "branches": 2, "steps": 2, "proposals": 4, "race_items": 16}
    async with open_run(make_spec(given | changes), kind=kind, env=Environment(home), say=say) as run:
        return await run.wait()


async def test_a_search_over_nats_gives_the_same_result(tmp_path: Path, hire: Callable[..., object]) -> None:
    hire()
    hire()
    here = await finish(tmp_path / "one", bus="memory")
    there = await finish(tmp_path / "two")
    assert isinstance(there, RunResult)
    assert there.verdict == "improved"
    assert there.model_dump(exclude={"run_id", "usage"}) == here.model_dump(exclude={"run_id", "usage"})
    timed = {"wall_s"}
    assert there.usage.model_dump(exclude=timed) == here.usage.model_dump(exclude=timed)


async def test_answers_of_workers_are_in_the_journal_and_not_requested_again(
    tmp_path: Path, hire: Callable[..., object]
) -> None:
    hire()
    options: dict[str, Any] = {"prompt": GOOD, "extract": "So the answer is", "cache": True}
    first = await finish(tmp_path, "evaluate", **options)
    again = await finish(tmp_path, "evaluate", **options)
    here = await finish(tmp_path, "evaluate", **options, bus="memory")
    assert isinstance(first, EvaluateResult)
    assert first.score.n == len(ROWS)
    assert first.usage.calls == 2 * len(ROWS)
    assert (again.usage.calls, again.usage.cached_calls) == (0, 2 * len(ROWS))
    assert (here.usage.calls, here.usage.cached_calls) == (0, 2 * len(ROWS))
    assert first.score == again.score == here.score


async def test_a_budget_limits_the_calls_of_workers(tmp_path: Path, hire: Callable[..., object]) -> None:
    hire()
    result = await finish(tmp_path, "evaluate", prompt=GOOD, budget={"calls": 50})
    assert (result.status, result.usage.calls) == ("stopped", 50)
    async with open_resumed("last", env=Environment(tmp_path)) as run:
        again = await run.wait()
    assert again.usage.calls == 50


async def test_searches_of_a_session_share_workers_and_one_budget(tmp_path: Path, hire: Callable[..., object]) -> None:
    hire()
    results: list[RunResult] = []
    shared: dict[str, Any] = {"bus": shared_server().url, "budget": Budget(calls=400), "env": Environment(tmp_path)}
    async with (
        lpo_agent.open_session(model=model(), cache=True, **shared) as session,
        anyio.create_task_group() as tasks,
    ):

        async def search(seed: int) -> None:
            results.append(await session.optimize(SEED, ROWS, metric="numeric", seed=seed, steps=2))

        for seed in range(3):
            tasks.start_soon(search, seed)
    assert session.usage().calls <= 400
    assert sum(result.usage.calls for result in results) == session.usage().calls
    assert all(result.seed.dev is not None and result.seed.dev.n > 0 for result in results)


async def test_a_run_without_a_worker_tells_the_user(tmp_path: Path, hire: Callable[..., object]) -> None:
    heard: list[str] = []
    told = anyio.Event()

    def say(text: str) -> None:
        heard.append(text)
        told.set()

    other = tmp_path / "models.py"
    other.write_text("def answer(call):\n    return '1'\n", encoding="utf-8")
    name, url = model("answer", other), shared_server().url
    hire()  # has another model
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(finish, tmp_path, "evaluate", say, prompt=GOOD, model=name))
            await told.wait()
            hire(name)
    assert heard[0] == f"waiting for a worker: start one with lpo worker --bus {url} --serve score --model {name}"


LOGGING = """
import os, pathlib, sys
sys.path.insert(0, {folder!r})
from scripted_models import capable

def model(call):
    with open({log!r}, "a") as log:
        print(os.getpid(), call.turns[0].content[:20].replace(chr(10), " "), file=log)
    return capable(call)
"""


async def test_workers_make_all_model_calls(tmp_path: Path, hire: Callable[..., subprocess.Popen[str]]) -> None:
    """No model is called by the run's own process, and each worker does what it was started for."""
    log, file = tmp_path / "calls.log", tmp_path / "logging.py"
    file.write_text(LOGGING.format(folder=str(HERE), log=str(log)), encoding="utf-8")
    name = model("model", file)
    scoring, writing = hire(name, "--serve", "score"), hire(name, "--serve", "mark,critique,propose")
    result = await finish(tmp_path / "run", model=name, method="lpo")
    here = await finish(tmp_path / "here", method="lpo", bus="memory")
    assert result.verdict == "improved"
    assert (result.best, result.search) == (here.best, here.search)
    calls = [line.partition(" ") for line in log.read_text(encoding="utf-8").splitlines()]
    agents = ("You review a prompt", "You improve a prompt")
    by_process = {int(pid): {text.startswith(agents) for p, _, text in calls if p == pid} for pid, _, _ in calls}
    assert by_process == {scoring.pid: {False}, writing.pid: {True}}


async def test_the_run_itself_judges_answers(tmp_path: Path, hire: Callable[..., object]) -> None:
    """A metric of the caller's needs no worker to have it: objects and files both work, and run in this process."""
    processes = set[int]()

    def half(output: str, target: str, row: dict[str, str]) -> float:
        processes.add(os.getpid())
        return 0.5

    hire()
    given = {"prompt": GOOD, "examples": ROWS, "model": model(), "bus": shared_server().url}
    async with open_run(make_spec(given), kind="evaluate", env=Environment(tmp_path), metric=half) as run:
        result = await run.wait()
    assert (result.score.mean, result.score.n) == (0.5, len(ROWS))
    assert processes == {os.getpid()}


async def test_a_judge_answers_at_the_worker(tmp_path: Path, hire: Callable[..., object]) -> None:
    hire(model("judged"))
    there = await finish(tmp_path / "there", "evaluate", prompt=GOOD, model=model("judged"), metric="judge")
    here = await finish(tmp_path / "here", "evaluate", prompt=GOOD, model=model("judged"), metric="judge", bus="memory")
    assert there.score == here.score
    assert there.score.mean == pytest.approx(0.7)
    assert there.usage.calls == here.usage.calls == 2 * len(ROWS)


async def test_a_worker_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    words = ["worker", "--bus", shared_server().url, "--model", model(), "--serve", "score,dance"]
    env = {"LPO_HOME": str(tmp_path), "PYTHONPATH": str(HERE.parent), "PATH": ""}
    done = await anyio.run_process([sys.executable, "-m", "lpo_agent", *words], env=env, check=False)
    assert done.returncode == 2
    assert b"'dance' is none of score, mark, critique, propose" in done.stderr
