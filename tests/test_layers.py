"""Record, retry, limit, budget: each layer alone and all together."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.retry import Retry
from lpo_agent.errors import AuthError, BudgetExceeded, RateLimited, TransientError, UnreachableError
from lpo_agent.journal import open_journal
from lpo_agent.models.base import Call, Completion, Turn, Usage
from lpo_agent.models.layers import Budgeted, Recorded, Retrying
from lpo_agent.models.limits import Limiter
from lpo_agent.models.prices import Prices, load_prices
from lpo_agent.models.scripted import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lpo_agent.errors import ProviderError

pytestmark = pytest.mark.anyio


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.now += seconds


def call(text: str = "hi", replicate: int = 0) -> Call:
    return Call((Turn("user", text),), max_tokens=5, replicate=replicate)


def flaky(*failures: ProviderError) -> ScriptedModel:
    left: Iterator[ProviderError] = iter(failures)

    def answer(_: Call) -> str:
        for failure in left:
            raise failure
        return "yes"

    return ScriptedModel(answer)


def retrying(model: ScriptedModel, time: FakeTime) -> Retrying:
    limiter = Limiter(clock=time.clock, sleep=time.sleep)
    return Retrying(model, limiter, sleep=time.sleep, rng=random.Random(0))


async def test_passing_faults_are_asked_again_with_growing_pauses() -> None:
    time, model = FakeTime(), flaky(*[TransientError("x", retry=Retry())] * 4)
    assert (await retrying(model, time).complete(call())).text == "yes"
    assert len(model.calls) == 5
    assert all(pause <= limit for pause, limit in zip(time.slept, [1, 2, 4, 8], strict=True))


async def test_the_services_own_wish_comes_first_and_holds_for_everybody() -> None:
    time, model = FakeTime(), flaky(RateLimited("slow", retry=Retry(rate_limited=True, after=7)))
    layer = retrying(model, time)
    await layer.complete(call())
    assert time.slept == [7]
    assert layer.limiter._not_before == 7


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (AuthError("bad key"), 1),
        (UnreachableError("nobody", retry=Retry()), 3),
        (TransientError("x", retry=Retry()), 6),
    ],
)
async def test_what_will_not_pass_is_given_up(failure: ProviderError, tries: int) -> None:
    model = flaky(*[failure] * 99)
    with pytest.raises(type(failure)):
        await retrying(model, FakeTime()).complete(call())
    assert len(model.calls) == tries


async def test_a_service_that_answered_before_and_vanishes_is_waited_for() -> None:
    model = flaky(*[UnreachableError("nobody", retry=Retry())] * 9)
    layer = retrying(model, FakeTime())
    layer.answered = True
    assert (await layer.complete(call())).text == "yes"


async def test_attempts_are_paid_for_and_refused_before_they_are_made() -> None:
    booked: list[tuple[Completion | None, float | None]] = []
    ledger = Ledger(Budget(calls=2))
    model = flaky(TransientError("x", retry=Retry()))
    layer = Budgeted(model, ledger, Prices({model.name: (1.0, 2.0)}), lambda *row: booked.append(row))
    with pytest.raises(TransientError):
        await layer.complete(call())
    await layer.complete(call())
    with pytest.raises(BudgetExceeded):
        await layer.complete(call())
    assert (ledger.totals.calls, ledger.totals.failed_calls, len(model.calls)) == (2, 1, 2)
    assert [usd for _, usd in booked] == [None, 0.0]


async def test_a_known_answer_costs_nothing_and_a_failure_is_not_one(tmp_path: Path) -> None:
    ledger, model = Ledger(), flaky(AuthError("bad key"))
    async with open_journal(tmp_path / "j") as journal:
        layer = Recorded(model, journal, ledger, "run")
        with pytest.raises(AuthError):
            await layer.complete(call())
        first, second = await layer.complete(call()), await layer.complete(call())
        other = await layer.complete(call(replicate=1))
    assert (first.cached, second.cached, other.cached) == (False, True, False)
    assert len(model.calls) == 3
    assert ledger.totals.cached_calls == 1


async def test_identical_calls_in_flight_are_made_once_even_if_the_first_is_cancelled(tmp_path: Path) -> None:
    go, asked, texts = anyio.Event(), list[str](), list[str]()

    class Slow(ScriptedModel):
        async def complete(self, call: Call) -> Completion:
            asked.append("one")
            await go.wait()
            return Completion("yes", Usage())

    async with open_journal(tmp_path / "j") as journal:
        layer = Recorded(Slow(lambda _: ""), journal, Ledger(), "run")

        async def ask() -> None:
            texts.append((await layer.complete(call())).text)

        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def ask_and_give_up() -> None:
                with first:
                    await ask()

            tasks.start_soon(ask_and_give_up)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert asked == ["one"]
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            go.set()
    assert asked == ["one", "one"]
    assert texts == ["yes", "yes"]


@settings(max_examples=30, deadline=None)
@given(st.floats(60, 6000), st.lists(st.floats(1, 500), min_size=1, max_size=40), st.floats(600, 60_000))
def test_no_window_holds_more_than_its_share_and_order_is_kept(rpm: float, sizes: list[float], tpm: float) -> None:
    time, started = FakeTime(), list[tuple[float, int, float]]()

    async def run() -> None:
        limiter = Limiter(rpm=rpm, tpm=tpm, concurrency=100, clock=time.clock, sleep=time.sleep)

        async def one(number: int, size: float) -> None:
            async with limiter.slot(size):
                started.append((time.now, number, size))

        async with anyio.create_task_group() as tasks:
            for number, size in enumerate(sizes):
                tasks.start_soon(one, number, size)

    anyio.run(run)
    assert [number for _, number, _ in started] == list(range(len(sizes)))
    for i, (begin, _, _) in enumerate(started):
        window = [entry for entry in started[i:] if entry[0] < begin + 10]
        assert len(window) <= rpm / 60 * 10 + max(1, rpm / 60) + 1e-6
        assert sum(size for _, _, size in window[:-1]) <= tpm / 60 * 10 + max(1, tpm / 60) + 1e-6


async def test_limits_are_learned_from_headers_unless_they_were_given() -> None:
    limiter = Limiter(tpm=600)
    limiter.observe({"x-ratelimit-limit-requests": "120", "x-ratelimit-limit-tokens": "99", "other": "1"})
    assert (limiter.requests.per_minute, limiter.tokens.per_minute) == (120, 600)
    limiter.observe({"anthropic-ratelimit-requests-limit": "240"})
    assert limiter.requests.per_minute == 240


async def test_a_cancelled_waiter_holds_up_nobody() -> None:
    time, limiter = FakeTime(), Limiter(rpm=60, concurrency=9)
    limiter._clock = time.clock
    done = []

    async def one(name: str) -> None:
        async with limiter.slot(1):
            done.append(name)

    async with anyio.create_task_group() as tasks:
        await one("first")
        scope = anyio.CancelScope()

        async def gives_up() -> None:
            with scope:
                await one("never")

        tasks.start_soon(gives_up)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "second")
        await anyio.wait_all_tasks_blocked()
        time.now += 5
        scope.cancel()
    assert done == ["first", "second"]


def test_prices_are_unknown_unless_given(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('[models]\n"openai:x" = [1.0, 2.0]\n', encoding="utf-8")
    assert load_prices().cost("openai:x", Usage(1, 1)) is None
    assert load_prices(file).cost("openai:x", Usage(10**6, 10**6)) == 3.0
    assert load_prices().cost("local:smollm2", Usage(1, 1)) == 0.0
