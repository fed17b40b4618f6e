"""Scoring by workers on the other side of a NATS server: the same results, paid for once, by the rules of the run."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest
from lpo_agent.workers.gateway import Gateway, knowing

import lpo_agent
from lpo_agent import open_resumed, open_run
from lpo_agent.agents.scorer import Scorer
from lpo_agent.bus.base import TOO_LARGE
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.messages import SCORE, Failure, Heard, Row, ScoreAsk, ScoreReply
from lpo_agent.core.result import EvaluateResult, RunResult
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.environment import Environment
from lpo_agent.errors import BudgetExceeded, ConfigError, LpoError, RequestFailed
from lpo_agent.journal import open_journal
from lpo_agent.metrics import as_metric
from lpo_agent.models.billing import Purse
from lpo_agent.models.middleware import Budgeted, Recorded
from lpo_agent.models.prices import load_prices
from lpo_agent.spec import make_spec
from tests.bus.nats_server import shared_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from lpo_agent.models.base import Call, Completion
    from lpo_agent.runs.run import Kind

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


async def test_a_search_gives_the_same_over_nats(tmp_path: Path, hire: Callable[..., object]) -> None:
    hire()
    hire()
    here = await finish(tmp_path / "one", bus="memory")
    there = await finish(tmp_path / "two")
    assert isinstance(there, RunResult)
    assert there.verdict == "improved"
    assert there.model_dump(exclude={"run_id", "usage"}) == here.model_dump(exclude={"run_id", "usage"})
    timed = {"wall_s"}
    assert there.usage.model_dump(exclude=timed) == here.usage.model_dump(exclude=timed)


async def test_what_workers_answered_is_in_the_journal_and_is_not_asked_for_again(
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


async def test_a_budget_holds_for_what_workers_do(tmp_path: Path, hire: Callable[..., object]) -> None:
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


async def test_who_has_no_worker_is_told(tmp_path: Path, hire: Callable[..., object]) -> None:
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
    assert heard[0] == f"waiting for a worker: start one with lpo worker --bus {url} --model {name}"


async def test_workers_run_no_code_that_they_were_not_told_of(tmp_path: Path, hire: Callable[..., object]) -> None:
    own = tmp_path / "own.py"
    own.write_text("def half(output, target, row):\n    return 0.5\n", encoding="utf-8")
    worker = hire()
    with pytest.raises(LpoError, match=f"start it with --metric {own}:half"):
        await finish(tmp_path, "evaluate", prompt=GOOD, metric=f"{own}:half")
    worker.terminate()  # type: ignore[attr-defined]
    worker.wait()  # type: ignore[attr-defined]
    hire(model(), "--metric", f"{own}:half")
    result = await finish(tmp_path, "evaluate", prompt=GOOD, metric=f"{own}:half")
    assert (result.score.mean, result.score.n) == (0.5, len(ROWS))


async def test_a_metric_object_cannot_be_sent(tmp_path: Path) -> None:
    given = {"prompt": SEED, "examples": ROWS, "model": model(), "bus": shared_server().url}
    with pytest.raises(ConfigError, match=r"FILE\.py:FUNCTION"):
        async with open_run(make_spec(given), env=Environment(tmp_path), metric=lambda *_: 1.0) as run:
            await run.wait()


def ask(text: str = "q") -> ScoreAsk:
    return ScoreAsk(text=text, row=Row("r", {"input": "1"}, "1"))


class Line:
    """A wire on which each request gets the next of the replies that were laid down. ``asked`` keeps requests."""

    def __init__(self, *replies: ScoreReply | Failure) -> None:
        self.replies, self.asked = list(replies), list[ScoreAsk]()

    async def request(self, _: object, message: ScoreAsk, *, timeout: float) -> ScoreReply:  # noqa: ASYNC109
        assert timeout > 3600
        self.asked.append(message)
        reply = self.replies.pop(0)
        if isinstance(reply, Failure):
            raise RequestFailed(reply)
        return reply


def heard(text: str, tokens: int = 3) -> Heard:
    return Heard(model="m", text=text, truncated=False, input_tokens=tokens, output_tokens=1)


def scored(*texts: str) -> ScoreReply:
    return ScoreReply(outcome=Scored(value=1.0, output=texts[-1]), heard=tuple(map(heard, texts)))


def failed(kind: str, *texts: str, retryable: bool = True, unsure: bool = False) -> ScoreReply:
    failure = Failure(kind=kind, detail="broken", retryable=retryable, unsure=unsure)
    return ScoreReply(outcome=Unscored(reason="broken"), heard=tuple(map(heard, texts)), failed=failure)


@asynccontextmanager
async def gateway(home: Path, line: Line, extract: str | None = None, **caps: int) -> AsyncIterator[Gateway]:
    async with open_journal(home / "journal.sqlite3") as journal:
        ledger = Ledger(Budget(**caps))
        await journal.create_run("run", "evaluate", "{}")

        class Nobody:
            name = "m"
            identity: ClassVar[dict[str, object]] = {"name": "m"}

            async def complete(self, call: Call) -> Completion:
                raise AssertionError(call)

        budgeted = Budgeted(Nobody(), ledger, load_prices(None), partial(journal.book, "run"))
        recorded = Recorded(budgeted, journal, ledger)
        scorer = Scorer(knowing(recorded), as_metric("exact"), extract=extract)
        calls = 1 if extract is None else 2
        yield Gateway(line, SCORE, scorer, recorded, Purse.of(recorded), "run", calls)  # type: ignore[arg-type] # a stand-in


@pytest.mark.parametrize("kind", ["RateLimited", "TransientError", "Outage"])
async def test_what_failed_at_one_worker_is_asked_again_and_both_calls_are_booked(tmp_path: Path, kind: str) -> None:
    line = Line(failed(kind), scored("1"))
    async with gateway(tmp_path, line) as here:
        reply = await here.score(ask())
        totals = here.purse.ledgers[0].totals
        assert (totals.calls, totals.failed_calls, totals.input_tokens, totals.unsure_tokens) == (2, 1, 3, 0)
    assert reply == ScoreReply(outcome=Scored(value=1.0, output="1"))


@pytest.mark.parametrize("lost", ["WorkersLost", "Unavailable"])
async def test_what_a_lost_worker_may_have_cost_is_held_against_the_budget(tmp_path: Path, lost: str) -> None:
    line = Line(Failure(kind=lost, detail="gone"), scored("1"))
    async with gateway(tmp_path, line) as here:
        await here.score(ask())
        totals = here.purse.ledgers[0].totals
        assert (totals.calls, totals.failed_calls) == (2, 1)
        assert totals.unsure_tokens > 256


async def test_what_no_asking_again_can_mend_is_unscored_or_ends_the_run(tmp_path: Path) -> None:
    line = Line(failed("RequestRejected", retryable=False), Failure(kind="AuthError", detail="no key"))
    async with gateway(tmp_path, line) as here:
        assert (await here.score(ask())).outcome == Unscored(reason="broken")
        with pytest.raises(RequestFailed, match="no key"):
            await here.score(ask("other"))
        assert here.purse.ledgers[0].totals.failed_calls == 2


async def test_an_item_too_large_for_the_bus_is_unscored_alone(tmp_path: Path) -> None:
    line = Line(TOO_LARGE, TOO_LARGE.model_copy(update={"unsure": True}), scored("1"))
    async with gateway(tmp_path, line) as here:
        outcomes = [(await here.score(ask(text))).outcome for text in ("request", "reply", "fits")]
        totals = here.purse.ledgers[0].totals
        assert (totals.calls, totals.failed_calls) == (2, 1)  # for the request that was too large, none was made
        assert totals.unsure_tokens > 256
    assert [isinstance(each, Scored) for each in outcomes] == [False, False, True]


async def test_half_an_item_that_was_paid_for_is_not_paid_for_again(tmp_path: Path) -> None:
    line = Line(failed("TransientError", "long"), scored("1"))
    async with gateway(tmp_path, line, extract="The answer is") as here:
        await here.score(ask())
        assert [each.known for each in line.asked] == [(), ("long",)]
        totals = here.purse.ledgers[0].totals
        assert (totals.calls, totals.failed_calls, totals.input_tokens) == (3, 1, 6)
        known = await here.score(ask())
    assert known.outcome == Scored(value=1.0, output="long\nThe answer is 1")
    assert len(line.asked) == 2


async def test_workers_are_not_asked_beyond_the_budget(tmp_path: Path) -> None:
    line = Line(scored("1"))
    async with gateway(tmp_path, line, calls=1) as here:
        await here.score(ask())
        with pytest.raises(BudgetExceeded):
            await here.score(ask("other"))
    assert len(line.asked) == 1


async def test_the_same_item_is_asked_once_however_many_want_it(tmp_path: Path) -> None:
    line = Line(scored("1"))
    async with gateway(tmp_path, line) as here, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(here.score, ask())
    assert len(line.asked) == 1
