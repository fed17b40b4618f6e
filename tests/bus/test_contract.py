"""The bus contract, run on every implementation.

An implementation joins by adding a leg: a name, the event loop it runs on, and a factory.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.messages import Message, Topic
from lpo_agent.errors import BusClosed, DataError, DeadlineExceeded, RequestFailed
from tests.bus.nats_server import open_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from lpo_agent.bus.base import Bus

    OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]


class Ask(Message):
    n: int


class Answer(Message):
    n: int


DOUBLE = Topic("double", Ask, Answer)
LEGS: dict[str, tuple[str, OpenBus]] = {
    "memory-asyncio": ("asyncio", MemoryBus),
    "memory-trio": ("trio", MemoryBus),
    "nats": ("asyncio", open_fresh),
}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=sorted(LEGS))
def leg(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(leg: str) -> str:
    return LEGS[leg][0]


@pytest.fixture
def open_bus(leg: str) -> OpenBus:
    return LEGS[leg][1]


async def double(ask: Ask) -> Answer:
    return Answer(n=2 * ask.n)


async def test_a_request_gets_the_handlers_reply(open_bus: OpenBus) -> None:
    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, double)
        with anyio.fail_after(60):
            assert await bus.request(DOUBLE, Ask(n=21), timeout=60) == Answer(n=42)
        tasks.cancel_scope.cancel()


async def test_messages_arrive_as_equal_but_distinct_objects(open_bus: OpenBus) -> None:
    sent, answered, seen = Ask(n=1), Answer(n=2), list[Ask]()

    async def keep(ask: Ask) -> Answer:
        seen.append(ask)
        return answered

    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, keep)
        with anyio.fail_after(60):
            reply = await bus.request(DOUBLE, sent, timeout=60)
        assert (seen[0], reply) == (sent, answered)
        assert seen[0] is not sent
        assert reply is not answered
        tasks.cancel_scope.cancel()


async def test_a_handlers_error_reaches_the_caller_and_the_worker_lives_on(open_bus: OpenBus) -> None:
    async def picky(ask: Ask) -> Answer:
        if ask.n < 0:
            raise DataError("row 3: negative")
        if ask.n == 0:
            raise ValueError("a prompt's secret words")
        return Answer(n=ask.n)

    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, picky)
        with anyio.fail_after(60):
            with pytest.raises(RequestFailed) as known:
                await bus.request(DOUBLE, Ask(n=-1), timeout=60)
            with pytest.raises(RequestFailed) as bug:
                await bus.request(DOUBLE, Ask(n=0), timeout=60)
            assert (await bus.request(DOUBLE, Ask(n=3), timeout=60)).n == 3
        tasks.cancel_scope.cancel()
    assert (known.value.failure.kind, known.value.failure.detail) == ("DataError", "row 3: negative")
    assert bug.value.failure.kind == "ValueError"
    assert "secret" not in bug.value.failure.detail


async def test_a_topic_that_nobody_serves_waits_until_its_deadline(open_bus: OpenBus) -> None:
    async with open_bus() as bus:
        with anyio.fail_after(60), pytest.raises(DeadlineExceeded, match="double"):
            await bus.request(DOUBLE, Ask(n=0), timeout=0.05)


async def test_a_deadline_stops_the_handler_and_frees_the_worker(open_bus: OpenBus) -> None:
    stopped = anyio.Event()

    async def slow(ask: Ask) -> Answer:
        try:
            await anyio.sleep(math.inf if ask.n == 0 else 0)
        finally:
            stopped.set()
        return Answer(n=ask.n)

    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, slow)
        with anyio.fail_after(60):
            with pytest.raises(DeadlineExceeded):
                await bus.request(DOUBLE, Ask(n=0), timeout=0.05)
            await stopped.wait()
            assert (await bus.request(DOUBLE, Ask(n=7), timeout=60)).n == 7
        tasks.cancel_scope.cancel()


async def test_a_cancelled_caller_stops_the_handler_and_frees_the_worker(open_bus: OpenBus) -> None:
    started, stopped = anyio.Event(), anyio.Event()

    async def slow(ask: Ask) -> Answer:
        if ask.n == 0:
            started.set()
            try:
                await anyio.sleep_forever()
            finally:
                stopped.set()
        return Answer(n=ask.n)

    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, slow)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                callers.start_soon(partial(bus.request, timeout=60), DOUBLE, Ask(n=0))
                await started.wait()
                callers.cancel_scope.cancel()
            await stopped.wait()
            assert (await bus.request(DOUBLE, Ask(n=7), timeout=60)).n == 7
        tasks.cancel_scope.cancel()


async def test_concurrency_is_reached_and_not_exceeded(open_bus: OpenBus) -> None:
    live, peak, full, answers = 0, 0, anyio.Event(), list[int]()

    async def slow(ask: Ask) -> Answer:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        if live == 3:
            full.set()
        await full.wait()
        live -= 1
        return Answer(n=ask.n)

    async with open_bus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(partial(bus.serve, concurrency=3), DOUBLE, slow)

        async def call(n: int) -> None:
            answers.append((await bus.request(DOUBLE, Ask(n=n), timeout=60)).n)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                for n in range(12):
                    callers.start_soon(call, n)
        tasks.cancel_scope.cancel()
    assert sorted(answers) == list(range(12))
    assert peak == 3


async def test_requests_of_a_stopped_worker_fail_as_unavailable(open_bus: OpenBus) -> None:
    started, failures = anyio.Event(), list[RequestFailed]()

    async def slow(ask: Ask) -> Answer:
        started.set()
        await anyio.sleep_forever()
        return Answer(n=ask.n)

    async with open_bus() as bus, anyio.create_task_group() as callers:

        async def call() -> None:
            with pytest.raises(RequestFailed) as failed:
                await bus.request(DOUBLE, Ask(n=1), timeout=60)
            failures.append(failed.value)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as workers:
                await workers.start(bus.serve, DOUBLE, slow)
                callers.start_soon(call)
                await started.wait()
                workers.cancel_scope.cancel()
    assert failures[0].failure.kind == "Unavailable"
    assert failures[0].failure.retryable


async def test_a_closed_bus_says_so(open_bus: OpenBus) -> None:
    async with open_bus() as bus:
        pass
    with anyio.fail_after(60), pytest.raises(BusClosed):
        await bus.request(DOUBLE, Ask(n=1), timeout=1)


async def test_a_bus_that_closes_settles_waiting_requests() -> None:
    outcomes = []
    async with anyio.create_task_group() as callers, MemoryBus() as bus:

        async def call() -> None:
            with pytest.raises(BusClosed):
                await bus.request(DOUBLE, Ask(n=1), timeout=60)
            outcomes.append("closed")

        callers.start_soon(call)
        await anyio.wait_all_tasks_blocked()
    assert outcomes == ["closed"]


async def _settle(bus: MemoryBus, pause: int, how: str) -> str:
    """Make one request and return how it ended; ``how`` "cancel" gives up after ``pause`` checkpoints."""

    async def give_up(scope: anyio.CancelScope) -> None:
        for _ in range(pause):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            if how == "cancel":
                tasks.start_soon(give_up, scope)
            try:
                await bus.request(DOUBLE, Ask(n=pause + 100 * (how == "fail")), timeout=60)
            except RequestFailed as failed:
                return failed.failure.kind
            finally:
                tasks.cancel_scope.cancel()
    return "cancelled" if scope.cancelled_caught else "answered"


async def _storm(plan: list[tuple[int, str]]) -> list[tuple[str, str]]:
    settled = []

    async def handler(ask: Ask) -> Answer:
        for _ in range(ask.n % 4):
            await anyio.lowlevel.checkpoint()
        if ask.n >= 100:
            raise DataError("asked to fail")
        return Answer(n=ask.n)

    async def call(bus: MemoryBus, pause: int, how: str) -> None:
        settled.append((how, await _settle(bus, pause, how)))

    async with MemoryBus() as bus, anyio.create_task_group() as workers:
        await workers.start(partial(bus.serve, concurrency=2), DOUBLE, handler)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                for pause, how in plan:
                    callers.start_soon(call, bus, pause, how)
            assert (await bus.request(DOUBLE, Ask(n=1), timeout=60)).n == 1
        workers.cancel_scope.cancel()
    return settled


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["wait", "cancel", "fail"])), max_size=25))
def test_a_storm_of_cancellations_settles_every_request(plan: list[tuple[int, str]]) -> None:
    settled = anyio.run(_storm, plan)
    allowed = {"wait": {"answered"}, "fail": {"DataError"}, "cancel": {"answered", "cancelled"}}
    assert len(settled) == len(plan)
    assert all(outcome in allowed[how] for how, outcome in settled)
