"""Tests of runs with workers over a real NATS server: same results, each call paid for once, limits of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
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
from tests.mcp.models import answer_text
from tests.models.fake_server import Asked, FakeServer, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


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
    with hiring(tmp_path) as start:
        yield start


@contextmanager
def hiring(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(name: str = model(), *words: str, bus: str = "", **given: Mapping[str, str]) -> subprocess.Popen[str]:
        home = folder / f"worker{len(started)}"
        command = [sys.executable, "-m", "lpo_agent", "worker", "--bus", bus or shared_server().url, "--model", name]
        env = {"LPO_HOME": str(home), "PYTHONPATH": str(HERE.parent), "PATH": "", **given.get("keys", {})}
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


async def finish(
    home: Path,
    kind: Any = "optimize",
    say: Callable[[str], None] = print,
    *,
    other_prompt: str | None = None,
    env: Environment | None = None,
    whole: bool = False,
    **changes: Any,
) -> Any:
    """Return a run's result; ``whole``: the options are given, none is added."""
    given: dict[str, Any] = {"examples": ROWS, "model": model(), "metric": "numeric", "cache": False}
    given["bus"] = shared_server().url
    if kind == "optimize" and not whole:
        given |= {"prompt": SEED, "branches": 2, "steps": 2, "proposals": 4, "race_items": 16}
    env = env or Environment(home)
    async with open_run(make_spec(given | changes), kind=kind, other_prompt=other_prompt, env=env, say=say) as run:
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


@pytest.fixture(scope="module")
def staff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start workers whose roles are split, and one with another model, which must not be asked."""
    roles = [(model(), "score"), (model(), "score"), (model(), "mark,critique"), (model(), "propose")]
    with hiring(tmp_path_factory.mktemp("staff")) as start:
        for name, serve in [(model("weak"), "score,mark,critique,propose"), *roles]:
            start(name, "--serve", serve)
        yield


def without_ids_and_times(result: Any) -> str:
    content = result.model_dump(mode="json", exclude={"run_id", "calls_per_s"})
    content["usage"].pop("wall_s")
    return json.dumps(content, sort_keys=True)


KINDS: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in ("auto", "lpo", "local-search", "ape", "apo", "pe2")},
    "examples and a second call": {"method": "lpo", "demos": 2, "extract": "So the answer is"},
    "evaluate": {"kind": "evaluate", "prompt": GOOD},
    "compare": {"kind": "compare", "prompt": SEED, "other_prompt": GOOD},
    "mark": {"kind": "mark", "prompt": SEED, "method": "lpo"},
}


@pytest.mark.usefixtures("staff")
@pytest.mark.parametrize("given", KINDS.values(), ids=KINDS.keys())
async def test_workers_with_split_roles_give_the_same_result(tmp_path: Path, given: dict[str, Any]) -> None:
    kind = given.get("kind", "optimize")
    beam = given.get("method") in {"ape", "apo", "pe2"}
    plan = {"prompt": SEED, "steps": 2} | ({} if beam or kind != "optimize" else {"branches": 2, "proposals": 4})
    options: dict[str, Any] = plan | {name: value for name, value in given.items() if name != "kind"}
    here = await finish(tmp_path / "here", kind, bus="memory", whole=True, **options)
    there = await finish(tmp_path / "there", kind, whole=True, **options)
    assert without_ids_and_times(there) == without_ids_and_times(here)
    assert there.usage.calls > 0


async def test_a_search_goes_on_when_a_worker_is_killed_in_the_middle(
    tmp_path: Path, provider: FakeServer, hire: Callable[..., subprocess.Popen[str]]
) -> None:
    """The calls that it was making are made again by the other one, and count."""

    def answer(asked: Asked) -> Reply:
        return Reply(answer_text(asked.text), held=asked.number >= 40)

    provider.reply_with(answer)
    words = ("openai:any", "--base-url", f"{provider.url}/v1", "--concurrency", "8")
    doomed = hire(*words, keys={"OPENAI_API_KEY": "k"})
    given: dict[str, Any] = {"model": "openai:any", "method": "local-search", "base_url": f"{provider.url}/v1"}
    found: list[RunResult] = []

    async def search() -> None:
        found.append(await finish(tmp_path / "there", **given))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search)
        await anyio.to_thread.run_sync(provider.wait_for_calls, 45)
        hire(*words, keys={"OPENAI_API_KEY": "k"})
        doomed.kill()
        provider.release()
    env = Environment(tmp_path / "here", keys={"openai": "k"})
    here = await finish(tmp_path / "here", env=env, bus="memory", **given)
    (there,) = found
    made = len(provider.calls) - here.usage.calls
    assert there.verdict == "improved"
    assert (there.best, there.search, there.test_delta) == (here.best, here.search, here.test_delta)
    assert there.usage.calls - there.usage.failed_calls == here.usage.calls
    assert here.usage.calls < made <= there.usage.calls


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
