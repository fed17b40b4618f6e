"""Tests of the bus over NATS when workers, servers, callers or replies are lost."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from nats.errors import NoRespondersError

from lpo_agent.bus import nats as bus_over_nats
from lpo_agent.bus.nats import NatsBus, open_nats
from lpo_agent.bus.nats_connection import NatsAddress
from lpo_agent.bus.nats_stream import MAX_DELIVERIES
from lpo_agent.core.messages import Message, Topic
from lpo_agent.errors import ConfigError, DeadlineExceeded, RequestFailed
from tests.bus.nats_server import Server, free_port, open_fresh, shared_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio


class Ask(Message):
    n: int


class Answer(Message):
    n: int


class Blob(Message):
    text: str


DOUBLE = Topic("double", Ask, Answer)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[Server]:
    own = Server()
    own.start()
    yield own
    own.end()


@pytest.fixture
async def bus() -> AsyncIterator[NatsBus]:
    async with open_fresh() as opened:
        yield opened


async def double(ask: Ask) -> Answer:
    return Answer(n=2 * ask.n)


def _lose_replies(bus: NatsBus, count: int) -> None:
    """Let the network lose so many replies."""
    left, send = [None] * count, bus.client.publish

    async def publish(subject: str, *args: Any, **named: Any) -> None:
        if ".reply." in subject and left:
            left.pop()
        else:
            await send(subject, *args, **named)

    bus.client.publish = publish  # type: ignore[method-assign]


def _published(bus: NatsBus) -> anyio.Event:
    """Return what is set once the server has taken a request in."""
    taken, publish = anyio.Event(), bus._jetstream.publish

    async def noted(*args: Any, **named: Any) -> Any:
        ack = await publish(*args, **named)
        taken.set()
        return ack

    bus._jetstream.publish = noted  # type: ignore[method-assign]
    return taken


def _disconnected(bus: NatsBus) -> anyio.Event:
    """Return what is set once the client has noticed that its server is away."""
    noticed = anyio.Event()

    async def note() -> None:
        noticed.set()

    bus.client._disconnected_cb = note
    return noticed


async def _forgotten(bus: NatsBus, run: str) -> None:
    """Return once the server has noticed that nobody is there any more who asks for the run."""
    while True:
        try:
            await bus.client.request(f"lpo.alive.{run}", timeout=0.1)
        except NoRespondersError:
            return
        except TimeoutError:
            continue


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody ask again soon after a server went away with the question that they had asked it."""
    monkeypatch.setattr(bus_over_nats, "FETCH_TIMEOUT", 0.5)
    monkeypatch.setattr(bus_over_nats, "CLOSE_TIMEOUT", 1.0)


@pytest.mark.usefixtures("quick")
async def test_requests_and_workers_outlive_a_server_that_is_killed_and_started_again(server: Server) -> None:
    started, finish, answers = anyio.Event(), anyio.Event(), list[int]()

    async def slow(ask: Ask) -> Answer:
        started.set()
        await finish.wait()
        return await double(ask)

    async with open_nats(NatsAddress(server.url), run="r") as bus, anyio.create_task_group() as tasks:
        await tasks.start(partial(bus.serve, concurrency=4), DOUBLE, slow)

        async def call(n: int) -> None:
            answers.append((await bus.request(DOUBLE, Ask(n=n), timeout=60)).n)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                for n in range(8):
                    callers.start_soon(call, n)
                await started.wait()
                away = _disconnected(bus)
                server.kill()
                callers.start_soon(call, 8)
                await away.wait()
                server.start()
                finish.set()
        tasks.cancel_scope.cancel()
    assert sorted(answers) == [2 * n for n in range(9)]


async def test_a_request_whose_reply_is_lost_is_delivered_again_and_settled_once(server: Server) -> None:
    asked = 0

    async def forgetful(ask: Ask) -> Answer:
        nonlocal asked
        asked += 1
        return await double(ask)

    async with open_nats(NatsAddress(server.url), run="r", ack_wait=1.0) as bus, anyio.create_task_group() as tasks:
        _lose_replies(bus, 1)
        await tasks.start(bus.serve, DOUBLE, forgetful)
        with anyio.fail_after(60):
            assert (await bus.request(DOUBLE, Ask(n=3), timeout=60)).n == 6
        tasks.cancel_scope.cancel()
    assert asked == 2


async def test_a_request_that_nobody_ever_answers_ends_among_the_dead_letters(server: Server) -> None:
    letters = []
    async with open_nats(NatsAddress(server.url), run="r", ack_wait=0.2) as bus, anyio.create_task_group() as tasks:

        async def note(letter: object) -> None:
            letters.append(letter)

        await bus.client.subscribe("lpo.dead.>", cb=note)

        _lose_replies(bus, MAX_DELIVERIES)
        await tasks.start(bus.serve, DOUBLE, double)
        with anyio.fail_after(60), pytest.raises(RequestFailed) as failed:
            await bus.request(DOUBLE, Ask(n=3), timeout=60)
        tasks.cancel_scope.cancel()
    assert failed.value.failure.kind == "WorkersLost"
    assert str(MAX_DELIVERIES) in failed.value.failure.detail
    assert len(letters) == 1


async def test_no_work_is_done_for_a_caller_that_died(server: Server) -> None:
    done = []

    async def note(ask: Ask) -> Answer:
        done.append(ask.n)
        return await double(ask)

    async with open_nats(NatsAddress(server.url), run="dead") as gone, anyio.create_task_group() as callers:
        asked = _published(gone)
        callers.start_soon(partial(gone.request, timeout=math.inf), DOUBLE, Ask(n=1))
        await asked.wait()
        gone.client.options["allow_reconnect"] = False
        gone.client._transport.close()  # type: ignore[union-attr] # it is connected
        async with open_nats(NatsAddress(server.url), run="alive") as bus, anyio.create_task_group() as tasks:
            with anyio.fail_after(60):
                await _forgotten(bus, "dead")
                await tasks.start(bus.serve, DOUBLE, note)
                assert (await bus.request(DOUBLE, Ask(n=2), timeout=60)).n == 4
            tasks.cancel_scope.cancel()
        callers.cancel_scope.cancel()
    assert done == [2]


async def test_a_withdrawn_request_is_never_done(bus: NatsBus) -> None:
    done = []

    async def note(ask: Ask) -> Answer:
        done.append(ask.n)
        return await double(ask)

    with pytest.raises(DeadlineExceeded):
        await bus.request(DOUBLE, Ask(n=1), timeout=0.2)
    async with anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, note)
        assert (await bus.request(DOUBLE, Ask(n=2), timeout=60)).n == 4
        tasks.cancel_scope.cancel()
    assert done == [2]


async def test_all_workers_together_have_no_more_requests_than_the_cap(server: Server) -> None:
    live, peak, full = 0, 0, anyio.Event()

    async def slow(ask: Ask) -> Answer:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        if live == 3:
            full.set()
        await full.wait()
        await one.client.flush()  # there and back: whatever the server had sent is here by then
        live -= 1
        return await double(ask)

    address = NatsAddress(server.url)
    async with (
        open_nats(address, run="a", max_in_flight=3) as one,
        open_nats(address, run="b") as other,
        anyio.create_task_group() as tasks,
    ):
        for each in (one, other):
            await tasks.start(partial(each.serve, concurrency=8), DOUBLE, slow)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                for n in range(24):
                    callers.start_soon(partial(other.request, timeout=60), DOUBLE, Ask(n=n))
        tasks.cancel_scope.cancel()
    assert peak == 3


async def test_a_missing_server_is_reported_at_once() -> None:
    with anyio.fail_after(60), pytest.raises(ConfigError, match="cannot connect to a NATS server"):
        async with open_nats(NatsAddress(f"nats://127.0.0.1:{free_port()}"), run="r"):
            pass


async def test_other_processes_can_read_the_settings_of_a_run(bus: NatsBus) -> None:
    await bus.run_settings.put("run-1", "rules")
    async with open_nats(NatsAddress(shared_server().url), run="other", prefix=bus.prefix) as other:
        assert await other.run_settings.get("run-1") == "rules"
        assert await other.run_settings.get("run-2") is None
        await other.run_settings.remove("run-1")
        assert await bus.run_settings.get("run-1") is None


async def test_a_run_may_have_any_name(server: Server) -> None:
    address, name = NatsAddress(server.url), "bench-1.two words.lpo>*"
    async with open_nats(address, run=name) as bus, anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, DOUBLE, double)
        await bus.run_settings.put(name, "rules")
        with anyio.fail_after(60):
            assert (await bus.request(DOUBLE, Ask(n=4), timeout=60)).n == 8
            assert await bus.run_settings.get(name) == "rules"
            assert await bus.run_settings.get("bench-1_two words.lpo>*") is None
        tasks.cancel_scope.cancel()


async def test_a_resumed_run_can_repeat_earlier_requests(server: Server) -> None:
    """The server drops a message whose id it saw in the last two minutes; ids must differ from session to session."""
    for _ in range(2):
        async with open_nats(NatsAddress(server.url), run="r" * 80) as bus, anyio.create_task_group() as tasks:
            await tasks.start(bus.serve, DOUBLE, double)
            with anyio.fail_after(60):
                assert (await bus.request(DOUBLE, Ask(n=4), timeout=60)).n == 8
            tasks.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
async def test_a_request_outlives_a_server_that_forgot_it(server: Server) -> None:
    """Another server in its place, or one whose store was emptied: stream and consumers are made anew."""
    async with open_nats(NatsAddress(server.url), run="r", ack_wait=0.3) as bus, anyio.create_task_group() as tasks:
        answers = list[int]()

        async def call() -> None:
            answers.append((await bus.request(DOUBLE, Ask(n=4), timeout=60)).n)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                asked = _published(bus)
                callers.start_soon(call)
                await asked.wait()
                assert await bus.client.jetstream().delete_stream("LPO")
                await tasks.start(bus.serve, DOUBLE, double)
        with anyio.fail_after(60):
            assert await bus.client.jetstream().delete_stream("LPO")
            await call()
        tasks.cancel_scope.cancel()
    assert answers == [8, 8]


async def test_a_message_too_large_for_the_server_fails_alone(bus: NatsBus) -> None:
    async def long(ask: Blob) -> Blob:
        return Blob(text="x" * 2_000_000) if ask.text == "short" else ask

    topic = Topic("blob", Blob, Blob)
    async with anyio.create_task_group() as tasks:
        await tasks.start(bus.serve, topic, long)
        with anyio.fail_after(60):
            for text, unsure in (("x" * 2_000_000, False), ("short", True)):
                with pytest.raises(RequestFailed) as failed:
                    await bus.request(topic, Blob(text=text), timeout=60)
                assert (failed.value.failure.kind, failed.value.failure.unsure) == ("TooLarge", unsure)
            assert (await bus.request(topic, Blob(text="fits"), timeout=60)).text == "fits"
        tasks.cancel_scope.cancel()
