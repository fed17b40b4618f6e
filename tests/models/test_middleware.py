"""Tests of the layers of a model: record, retry, rate limit and budget, alone and together."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent.core.budget import Budget, Ledger, Spent
from lpo_agent.errors import (
    AuthError,
    BrokenReply,
    BudgetExceeded,
    OutageError,
    QuotaError,
    RateLimited,
    RequestRejected,
    TransientError,
    UnknownModelError,
    UnreachableError,
)
from lpo_agent.failure import Retry
from lpo_agent.journal import open_journal
from lpo_agent.models.base import Call, Completion, Turn, Usage
from lpo_agent.models.billing import Billing
from lpo_agent.models.middleware import Allowance, Paced, RunModel, SharedModel, compose
from lpo_agent.models.prices import Prices, load_prices
from lpo_agent.models.providers.scripted import ScriptedModel
from lpo_agent.models.ratelimit.limiter import Limiter
from lpo_agent.models.ratelimit.outage import OUTAGE_FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lpo_agent.errors import ProviderError
    from lpo_agent.journal import Journal

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


def paced(model: ScriptedModel, time: FakeTime, said: list[str] | None = None, billing: Billing | None = None) -> Paced:
    limiter = Limiter(clock=time.clock, sleep=time.sleep, say=(said if said is not None else []).append)
    shared = SharedModel(model, limiter)
    return Paced(model, shared, billing or Billing((), Prices({})), sleep=time.sleep, rng=random.Random(0))


async def test_temporary_failures_are_retried_with_growing_pauses() -> None:
    time, model = FakeTime(), flaky(*[TransientError("x", retry=Retry())] * 5)
    assert (await paced(model, time).complete(call())).text == "yes"
    assert len(model.calls) == 6
    assert all(pause <= limit for pause, limit in zip(time.slept, [1, 2, 4, 8, 16], strict=True))
    assert len(set(time.slept)) == 5


async def test_retry_after_has_priority_and_applies_to_all_calls() -> None:
    time, model = FakeTime(), flaky(RateLimited("slow", retry=Retry(rate_limited=True, after=7)))
    layer = paced(model, time)
    await layer.complete(call())
    assert time.now == pytest.approx(7, abs=0.1)
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (AuthError("bad key"), 1),
        (QuotaError("no credit"), 1),
        (UnknownModelError("no such model"), 1),
        (RequestRejected("too long"), 1),
        (UnreachableError("nobody", retry=Retry()), 3),
        (TransientError("x", retry=Retry()), 6),
        (RateLimited("slow", retry=Retry(rate_limited=True, after=1)), 50),
    ],
)
async def test_permanent_failures_are_not_retried(failure: ProviderError, tries: int) -> None:
    model = flaky(*[failure] * 99)
    with pytest.raises(type(failure)):
        await paced(model, FakeTime()).complete(call())
    assert len(model.calls) == tries


async def test_a_retry_after_of_hours_ends_the_run() -> None:
    time, model = FakeTime(), flaky(RateLimited("daily limit", retry=Retry(rate_limited=True, after=7200)))
    layer = paced(model, time)
    with pytest.raises(OutageError, match="wait 120 minutes"):
        await layer.complete(call())
    await layer.complete(call())  # nobody else is kept waiting
    assert time.now < 1


async def test_one_call_is_delayed_for_at_most_ten_minutes() -> None:
    time, model = FakeTime(), flaky(*[TransientError("x", retry=Retry(after=250))] * 9)
    with pytest.raises(TransientError):
        await paced(model, time).complete(call())
    assert len(model.calls) == 3


async def test_calls_wait_for_the_end_of_an_outage_without_using_tries() -> None:
    time, said = FakeTime(), list[str]()
    model = flaky(*[UnreachableError("nobody", retry=Retry())] * (OUTAGE_FAILURES + 9))
    layer = paced(model, time, said)
    layer.shared.answered = True
    async with anyio.create_task_group() as tasks:
        for number in range(OUTAGE_FAILURES):
            tasks.start_soon(layer.complete, call(str(number)))
    assert len(model.calls) == 2 * OUTAGE_FAILURES + 9
    assert said == ["nobody; waiting until the service answers again", "the service answers again"]


async def test_an_address_that_never_answered_is_given_up_by_concurrent_calls() -> None:
    time, said = FakeTime(), list[str]()
    layer = paced(flaky(*[UnreachableError("nobody", retry=Retry())] * 999), time, said)
    failures = []

    async def ask(number: int) -> None:
        with pytest.raises(UnreachableError):
            await layer.complete(call(str(number)))
        failures.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3 * OUTAGE_FAILURES):
            tasks.start_soon(ask, number)
    assert len(failures) == 3 * OUTAGE_FAILURES
    assert said == []
    assert time.now < 60


async def test_invalid_replies_are_no_outage() -> None:
    time, said = FakeTime(), list[str]()
    layer = paced(flaky(*[BrokenReply("a web page", retry=Retry())] * 999), time, said)
    for number in range(OUTAGE_FAILURES):
        with pytest.raises(BrokenReply):
            await layer.complete(call(str(number)))
    assert said == []


async def test_an_outage_that_lasts_ends_the_run() -> None:
    time = FakeTime()
    layer = paced(flaky(*[TransientError("broken", retry=Retry())] * 999), time)
    layer.shared.answered = True

    async def ask_all() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(OUTAGE_FAILURES):
                tasks.start_soon(layer.complete, call(str(number)))

    with pytest.raises(BaseExceptionGroup) as raised:
        await ask_all()
    assert raised.group_contains(OutageError, match="10 minutes")


class Booked:
    """Costs in a list."""

    def __init__(self) -> None:
        self.announced: list[Spent] = []
        self.booked: list[Spent] = []
        self.open = set[int]()

    async def announce(self, most: Spent) -> int:
        self.announced.append(most)
        self.open.add(len(self.announced))
        return len(self.announced)

    def book(self, spent: Spent, number: int | None) -> None:
        self.booked.append(spent)
        self.open -= {number}

    def withdraw(self, number: int) -> None:
        self.open.remove(number)


@pytest.mark.parametrize("capped", [True, False])
async def test_where_there_is_a_cap_a_call_is_announced_before_it_is_made(*, capped: bool) -> None:
    costs, ledger = Booked(), Ledger(Budget(tokens=10_000) if capped else Budget(seconds=100))
    seen: list[int] = []

    def answer(_: Call) -> str:
        seen.append(len(costs.open))
        return "ok"

    layer = paced(ScriptedModel(answer), FakeTime(), billing=Billing((Ledger(), ledger), Prices({}), costs))
    await layer.complete(call("1"))
    await layer.complete(call("2"))
    assert seen == [int(capped)] * 2
    most = call("1").max_usage
    assert [spent.unsure_tokens for spent in costs.announced] == [most.input_tokens + most.output_tokens] * 2 * capped
    assert not costs.open
    assert len(costs.booked) == 2


async def test_a_call_that_is_cancelled_while_it_is_announced_is_recorded_once() -> None:
    costs, begun, finish = Booked(), anyio.Event(), anyio.Event()
    at_once = costs.announce

    async def announce(most: Spent) -> int:
        number = await at_once(most)  # queued for the journal
        begun.set()
        await finish.wait()
        return number

    costs.announce = announce  # type: ignore[method-assign]
    model = flaky()
    layer = paced(model, FakeTime(), billing=Billing((Ledger(Budget(calls=9)),), Prices({}), costs))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer.complete, call())
        await begun.wait()
        tasks.cancel_scope.cancel()
        finish.set()
    assert len(costs.announced) == 1
    assert not costs.open


async def test_attempts_are_counted_and_refused_before_the_call() -> None:
    costs = Booked()
    ledger = Ledger(Budget(calls=2))
    model = flaky(TransientError("x", retry=Retry()))
    layer = paced(model, FakeTime(), billing=Billing((ledger,), Prices({model.name: (1.0, 2.0)}), costs))
    assert isinstance(await layer.once(call()), TransientError)
    assert isinstance(await layer.once(call()), Completion)
    with pytest.raises(BudgetExceeded):
        await layer.once(call())
    assert (ledger.totals.calls, ledger.totals.failed_calls, len(model.calls)) == (2, 1, 2)
    assert [spent.failed for spent in costs.booked] == [True, False]


async def test_a_call_counts_for_all_ledgers_and_the_first_cap_holds() -> None:
    costs = Booked()
    run, session = Ledger(Budget(calls=5)), Ledger(Budget(calls=3))
    layer = paced(flaky(), FakeTime(), billing=Billing((run, session), Prices({}), costs))
    for number in range(3):
        await layer.complete(call(str(number)))
    with pytest.raises(BudgetExceeded, match="budget of 3 calls"):
        await layer.complete(call("4"))
    assert (run.totals.calls, session.totals.calls, len(costs.booked)) == (3, 3, 3)
    assert run.reserve(calls=2).calls == 2  # nothing is left reserved for the call that was refused


async def test_a_call_that_may_have_been_charged_counts_for_the_cap() -> None:
    most = call().max_usage
    room = most.input_tokens + most.output_tokens
    costs = Booked()
    ledger = Ledger(Budget(tokens=2 * room - 1))
    model = flaky(TransientError("cut off", retry=Retry(), unsure=True))
    layer = paced(model, FakeTime(), billing=Billing((ledger,), Prices({}), costs))
    assert isinstance(await layer.once(call()), TransientError)
    assert ledger.totals.unsure_tokens == costs.booked[0].unsure_tokens == room
    assert ledger.totals.input_tokens == 0
    with pytest.raises(BudgetExceeded):
        await layer.once(call())


async def test_a_call_that_waits_for_budget_occupies_no_slot() -> None:
    """Two calls fit into the budget, and one place is there: the call that waits for budget must not hold it."""
    most = call().max_usage
    ledger = Ledger(Budget(tokens=2 * (most.input_tokens + most.output_tokens)))
    held = ledger.reserve(tokens=most.input_tokens + most.output_tokens + 1)
    shared = SharedModel(flaky(), Limiter(concurrency=1))
    rich, poor = (Paced(shared.adapter, shared, Billing(ledgers, Prices({}))) for ledgers in ((), (ledger,)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poor.complete, call("waits for budget"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await rich.complete(call("goes on"))
        ledger.release(held)
    assert ledger.totals.calls == 1


def stack(
    model: ScriptedModel, journal: Journal, ledger: Ledger, *, allowance: Allowance | None = None, **run: str
) -> RunModel:
    billing = Billing((ledger,), Prices({}))
    shared = SharedModel(model, Limiter())
    return compose(shared, journal, billing, run_id=run.get("run", "run"), cache=True, allowance=allowance)


async def test_recorded_answers_cost_nothing_and_failures_are_not_recorded(tmp_path: Path) -> None:
    ledger, model = Ledger(), flaky(AuthError("bad key"))
    async with open_journal(tmp_path / "j") as journal:
        layer = stack(model, journal, ledger)
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
        layer = stack(Slow(lambda _: ""), journal, Ledger())

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


def test_prices_are_unknown_unless_given(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('[models]\n"openai:x" = [1.0, 2.0]\n', encoding="utf-8")
    assert load_prices().cost("openai:x", Usage(1, 1)) is None
    assert load_prices(file).cost("openai:x", Usage(10**6, 10**6)) == 3.0
    assert load_prices().cost("local:smollm2", Usage(1, 1)) == 0.0


@pytest.mark.parametrize("width", [1, 16, 128])
async def test_calls_wait_for_the_budget_that_calls_in_progress_may_leave(width: int) -> None:
    ledger, left = Ledger(Budget(tokens=2000)), iter(range(200))

    class Brief(ScriptedModel):
        async def complete(self, call: Call) -> Completion:
            await anyio.lowlevel.checkpoint()
            return Completion("yes", Usage(8, 1))

    layer = paced(Brief(lambda _: ""), FakeTime(), billing=Billing((ledger,), Prices({})))

    async def work() -> None:
        for number in left:
            await layer.complete(call(str(number)))

    async with anyio.create_task_group() as tasks:
        for _ in range(width):
            tasks.start_soon(work)
    assert ledger.totals.input_tokens + ledger.totals.output_tokens == 1800


async def test_an_allowance_is_used_exactly_with_concurrent_known_and_failed_calls(tmp_path: Path) -> None:
    """A part that is put aside stays for later; a reply from the journal takes as much as one that is paid for."""
    allowance, asked = Ledger(Budget(calls=12)), []

    def answer(call: Call) -> str:
        asked.append(call)
        if len(asked) == 3:
            raise RequestRejected("too long")
        return "yes"

    outcomes: list[str] = []
    async with open_journal(tmp_path / "j.sqlite3") as journal:
        ledger = Ledger()
        model = stack(ScriptedModel(answer), journal, ledger, allowance=Allowance(allowance, "its calls are used up"))
        hold = allowance.reserve(calls=5, aside=True)

        async def ask(number: int) -> None:
            try:
                outcomes.append((await model.complete(call(replicate=number % 4))).text)
            except RequestRejected:
                outcomes.append("failed")
            except BudgetExceeded as spent:
                outcomes.append(str(spent))

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number)
        assert len(outcomes) == 30
        assert outcomes.count("its calls are used up") == 30 - 7
        assert ledger.totals.calls + ledger.totals.cached_calls == 7
        assert len(asked) == ledger.totals.calls < 7
        allowance.release(hold)
        for number in range(5):
            await ask(number)
        with pytest.raises(BudgetExceeded, match="its calls are used up"):
            await model.complete(call())
    assert ledger.totals.calls + ledger.totals.cached_calls == 12 == allowance.totals.calls
