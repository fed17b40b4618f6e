"""The bus over NATS JetStream, for workers on other machines; nothing is lost if a worker or the server dies.

1. A caller publishes its request to a work-queue stream, where it stays until it is acknowledged.
2. A worker takes it through the durable consumer of the topic. While it works on the request, it
   regularly tells the server so ("in progress"); otherwise the server gives it to another worker.
3. The worker publishes the reply on a subject of the caller's run (plain NATS, not stored).
4. The caller acknowledges the request once it has the reply, and only then the server deletes it.

So if a worker, the server or a reply is lost, the request is delivered again. A handler may thus run
more than once for a request, but the caller gets one reply.

Subjects, all under one prefix: ``ask.TOPIC.RUN`` for requests (in the stream), ``reply.RUN.ID``,
``stop.RUN.ID`` (the caller gave up), ``alive.RUN`` (is the caller still there?) and ``dead.TOPIC.RUN``
(dead letters: requests that no worker could answer). The library nats-py needs asyncio.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import anyio
import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from lpo_agent.bus.base import TOO_LARGE, UNAVAILABLE
from lpo_agent.bus.nats_codec import ACK, FAILED, ID, RUN, TIME_LEFT, call_handler, decode_reply
from lpo_agent.bus.nats_connection import CLOSE_TIMEOUT, PREFIX, RETRY_INTERVAL, KeyValueStore, connect, token
from lpo_agent.bus.nats_stream import MAX_DELIVERIES, consumer_name, ensure_consumer, ensure_stream, stream_name
from lpo_agent.errors import BusClosed, ConfigError, DeadlineExceeded, RequestFailed
from lpo_agent.failure import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from anyio.abc import TaskStatus
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from pydantic import BaseModel

    from lpo_agent.bus.nats_connection import NatsAddress
    from lpo_agent.core.messages import Q, R, Topic

ACK_WAIT: Final = 6.0
"""Seconds without a sign of a worker after which the server gives its request to another worker."""
HEARTBEATS: Final = 3
"""How often in this time a worker tells the server that it is still working on a request."""
SETTINGS_MAX_AGE: Final = 30 * 24 * 3600.0
"""Seconds after which the server deletes the settings of a run that did not delete them itself."""
LOST_CHECK_FACTOR: Final = 3
"""A waiting caller checks each ``LOST_CHECK_FACTOR * ack_wait`` seconds whether the server still has its request."""
ALIVE_FOR: Final = 2.0
"""Seconds for which a worker assumes that a caller is still there after it has answered."""
ALIVE_TIMEOUT: Final = 2.0
"""Seconds that a worker waits for a caller to say that it is still there."""
FETCH_TIMEOUT: Final = 5.0
"""Seconds that a worker's idle slot waits for a request before it asks the server again."""


@dataclass(eq=False, slots=True)
class _PendingRequest:
    """A request of this process without a reply so far; ``sequence`` is its number in the stream."""

    scope: anyio.CancelScope
    sequence: int | None = None
    reply: Msg | None = None


@dataclass(eq=False, slots=True)
class _ActiveRequest:
    """A request that a worker in this process is working on; ``abandoned``: its caller no longer waits."""

    message: Msg
    scope: anyio.CancelScope
    abandoned: bool = False


@asynccontextmanager
async def open_nats(
    address: NatsAddress,
    *,
    run: str = "shared",
    prefix: str = PREFIX,
    max_in_flight: int | None = None,
    ack_wait: float = ACK_WAIT,
    max_deliveries: int = MAX_DELIVERIES,
) -> AsyncIterator[NatsBus]:
    """Connect to a NATS server, yield the bus, and disconnect.

    ``run`` is part of the subjects of this caller's requests and replies. Two settings matter only for
    ``serve``: ``max_in_flight`` limits how many requests of a topic all workers together work on;
    ``ack_wait`` is the time in seconds after which a silent worker is considered dead. ``max_deliveries``: how many
    workers may work on a request, one after another, before it fails with WorkersLost.

    Raises ConfigError if the server cannot be reached or has no JetStream, or on trio.
    """
    client = await connect(address)
    bus = NatsBus(client, token(run), prefix, max_in_flight, ack_wait, max_deliveries)
    try:
        await bus.open()
        yield bus
    finally:
        bus.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
            await client.close()


async def _on_alive_query(query: Msg) -> None:
    await query.respond(b"")


@dataclass(slots=True)
class NatsBus:
    """Implements :class:`lpo_agent.bus.base.Bus`; made by :func:`open_nats`, which explains the settings."""

    client: Client
    run: str
    prefix: str = PREFIX
    max_in_flight: int | None = None
    ack_wait: float = ACK_WAIT
    max_deliveries: int = MAX_DELIVERIES
    _jetstream: JetStreamContext = field(init=False)
    _session: str = field(init=False, default_factory=lambda: secrets.token_hex(4))
    _pending: dict[str, _PendingRequest] = field(init=False, default_factory=dict)
    _repeats: dict[bytes, int] = field(init=False, default_factory=dict)
    _active: dict[str, _ActiveRequest] = field(init=False, default_factory=dict)
    _alive_at: dict[str, float] = field(init=False, default_factory=dict)
    _closed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._jetstream = self.client.jetstream(timeout=CLOSE_TIMEOUT)

    async def open(self) -> None:
        """Create the stream if needed, and subscribe to replies, cancellations and alive queries."""
        await ensure_stream(self._jetstream, self.prefix)
        with suppress(APIError):  # remove requests of an earlier session of this run, which nobody waits for
            await self._jetstream.purge_stream(self._stream, subject=f"{self.prefix}.ask.*.{self.run}")
        await self.client.subscribe(f"{self.prefix}.reply.{self.run}.*", cb=self._on_reply)
        await self.client.subscribe(f"{self.prefix}.alive.{self.run}", cb=_on_alive_query)
        await self.client.subscribe(f"{self.prefix}.stop.*.*", cb=self._on_stop)

    @property
    def _stream(self) -> str:
        return stream_name(self.prefix)

    def close(self) -> None:
        """Make all waiting requests fail with BusClosed."""
        self._closed = True
        for pending in self._pending.values():
            pending.scope.cancel()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Send a request and wait for the reply; see :meth:`lpo_agent.bus.base.Bus.request`."""
        if self._closed:
            raise BusClosed(f"the bus is closed; no request can be sent on {topic.name!r}")
        data = message.model_dump_json().encode()
        request_id, deadline = self._request_id(topic.name, data), anyio.current_time() + timeout
        pending = self._pending[request_id] = _PendingRequest(anyio.CancelScope(deadline=deadline))
        try:
            with pending.scope:
                for attempt in count():
                    pending.sequence = await self._publish(topic.name, f"{request_id}.{attempt}", data, deadline)
                    await self._wait_until_lost(pending.sequence)
        finally:
            del self._pending[request_id]
            if pending.reply is None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
                    await self._cancel_request(request_id, pending)
        if pending.reply is not None:
            return decode_reply(topic, pending.reply)
        if self._closed:
            raise BusClosed(f"the bus was closed while a request on {topic.name!r} was waiting")
        raise DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s")

    def _request_id(self, topic: str, data: bytes) -> str:
        """Return an id made of a hash of session, topic and content, and a count of equal requests before."""
        digest = hashlib.blake2b(f"{self.run} {self._session} {topic} ".encode() + data, digest_size=12).digest()
        repeat = self._repeats[digest] = self._repeats.get(digest, -1) + 1
        return f"{digest.hex()}-{repeat}"

    async def _publish(self, topic: str, message_id: str, data: bytes, deadline: float) -> int:
        """Add a request to the stream and return its sequence number; tries again while the server is unreachable.

        The message id makes JetStream drop a duplicate that an attempt without a confirmation left.
        """
        subject = f"{self.prefix}.ask.{topic}.{self.run}"
        while True:
            left = deadline - anyio.current_time()
            headers = {ID: message_id.partition(".")[0], RUN: self.run, api.Header.MSG_ID: f"{self.run}.{message_id}"}
            headers |= {} if math.isinf(left) else {TIME_LEFT: f"{left:.3f}"}
            try:
                return (await self._jetstream.publish(subject, data, headers=headers)).seq
            except nats.errors.MaxPayloadError:
                raise RequestFailed(TOO_LARGE) from None
            except (nats.errors.Error, TimeoutError, APIError):
                await anyio.sleep(RETRY_INTERVAL)
                # The server may have been replaced, or its storage emptied.
                with suppress(nats.errors.Error, TimeoutError, ConfigError):
                    await ensure_stream(self._jetstream, self.prefix)

    async def _wait_until_lost(self, sequence: int) -> None:
        """Return once the stream no longer has a request and its reply has not come for ``ack_wait`` seconds either."""
        found = True
        while found:
            await anyio.sleep(LOST_CHECK_FACTOR * self.ack_wait)
            with suppress(nats.errors.Error, TimeoutError, APIError):
                try:
                    await self._jetstream.get_msg(self._stream, sequence)
                except NotFoundError:
                    found = False
        await anyio.sleep(self.ack_wait)

    async def _cancel_request(self, request_id: str, pending: _PendingRequest) -> None:
        """Delete a request from the stream, and tell the worker that works on it to stop."""
        with suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.publish(f"{self.prefix}.stop.{self.run}.{request_id}")
            if pending.sequence is not None:
                with suppress(APIError):
                    await self._jetstream.delete_msg(self._stream, pending.sequence)
            await self.client.flush(timeout=1)

    async def _on_reply(self, reply: Msg) -> None:
        """Hand a reply to its request, and acknowledge the request; also for a reply that is repeated or too late."""
        headers: Mapping[str, str] = reply.headers or {}
        if ack := headers.get(ACK):
            await self.client.publish(ack, b"+ACK")
        pending = self._pending.get(reply.subject.rpartition(".")[2])
        if pending is not None and pending.reply is None:
            pending.reply = reply
            pending.scope.cancel()

    async def _on_stop(self, notice: Msg) -> None:
        """Cancel the handler of a request whose caller gave up."""
        if active := self._active.get(notice.subject.rpartition(".")[2]):
            active.abandoned = True
            active.scope.cancel()

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests until cancelled; see :meth:`lpo_agent.bus.base.Bus.serve`."""
        consumer = await self._ensure_consumer(topic.name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_heartbeats)
            for _ in range(concurrency):
                await tasks.start(self._serve_slot, topic, handler, consumer)
            task_status.started()

    async def _ensure_consumer(self, topic: str) -> str:
        return await ensure_consumer(
            self._jetstream, self.prefix, topic, ack_wait=self.ack_wait, max_in_flight=self.max_in_flight
        )

    async def has_workers(self, topic: str) -> bool | None:
        """Return whether any worker serves the topic, None if the server does not answer."""
        try:
            info = await self._jetstream.consumer_info(self._stream, consumer_name(self.prefix, topic))
        except NotFoundError:
            return False
        except (nats.errors.Error, TimeoutError, APIError):
            return None
        return bool(info.num_waiting or info.num_ack_pending)

    @property
    def run_settings(self) -> KeyValueStore:
        """The key-value store in which a run keeps its settings for its workers."""
        return KeyValueStore(self._jetstream, f"{self.prefix}-posts", max_age=SETTINGS_MAX_AGE)

    async def _serve_slot(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        consumer: str,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer one request after another; each slot has its own subscription, so messages cannot be mixed up."""
        source = await self._jetstream.pull_subscribe_bind(consumer=consumer, stream=self._stream)
        task_status.started()
        try:
            while True:
                try:
                    (message,) = await source.fetch(1, timeout=FETCH_TIMEOUT)
                except TimeoutError:
                    continue
                except (nats.errors.Error, APIError):
                    await anyio.sleep(RETRY_INTERVAL)
                    with suppress(nats.errors.Error, TimeoutError, APIError, ConfigError):
                        await self._ensure_consumer(topic.name)
                else:
                    await self._handle(topic, handler, message)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT), suppress(nats.errors.Error):
                await source.unsubscribe()

    async def _handle(self, topic: Topic[Q, R], handler: Callable[[Q], Awaitable[R]], message: Msg) -> None:
        """Answer one request, unless it was delivered too often or its caller is gone."""
        headers = message.headers or {}
        request_id, run = headers[ID], headers[RUN]
        if message.metadata.num_delivered > self.max_deliveries:
            await self._send_to_dead_letters(topic.name, run, request_id, message)
            return
        if not await self._caller_is_alive(run):
            await message.nak(delay=ACK_WAIT)
            return
        left = float(headers.get(TIME_LEFT, math.inf))
        scope = anyio.CancelScope(deadline=anyio.current_time() + left)
        active = self._active[request_id] = _ActiveRequest(message, scope)
        outcome: R | Failure = UNAVAILABLE
        try:
            with scope:
                outcome = await call_handler(topic, handler, message.data)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
                await self._finish(active, request_id, run, outcome)
            del self._active[request_id]

    async def _caller_is_alive(self, run: str) -> bool:
        """Ask whether the caller is still there, so that no model is paid for a reply that nobody will read."""
        now = anyio.current_time()
        if now - self._alive_at.get(run, -math.inf) < ALIVE_FOR:
            return True
        try:
            await self.client.request(f"{self.prefix}.alive.{run}", timeout=ALIVE_TIMEOUT)
        except nats.errors.NoRespondersError:
            return False
        except (nats.errors.Error, TimeoutError):
            return True  # not known: the server is unreachable, or the caller is busy
        self._alive_at[run] = now
        return True

    async def _finish(self, active: _ActiveRequest, request_id: str, run: str, outcome: R | Failure) -> None:
        """Send the reply, which the caller acknowledges; if nobody waits for it, delete the request from the stream."""
        with suppress(nats.errors.Error, TimeoutError, OSError):
            if active.abandoned or (active.scope.cancelled_caught and outcome is UNAVAILABLE):
                await active.message.term()
                return
            try:
                await self._reply(run, request_id, outcome, active.message.reply)
            except nats.errors.MaxPayloadError:
                too_large = TOO_LARGE.model_copy(update={"unsure": True})
                await self._reply(run, request_id, too_large, active.message.reply)
            if outcome is UNAVAILABLE:
                await self.client.flush(timeout=1)

    async def _reply(self, run: str, request_id: str, outcome: BaseModel, ack: str) -> None:
        headers = {ACK: ack} | ({FAILED: "1"} if isinstance(outcome, Failure) else {})
        subject = f"{self.prefix}.reply.{run}.{request_id}"
        await self.client.publish(subject, outcome.model_dump_json().encode(), headers=headers)

    async def _send_to_dead_letters(self, topic: str, run: str, request_id: str, message: Msg) -> None:
        """Make a request that was delivered too often a dead letter, and fail it."""
        workers = "a worker" if self.max_deliveries == 1 else f"{self.max_deliveries} workers"
        lost = Failure(kind="WorkersLost", detail=f"{workers} took this request without an answer")
        with suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.publish(f"{self.prefix}.dead.{topic}.{run}", message.data, headers=message.headers)
            await self._reply(run, request_id, lost, "")
            await message.term()

    async def _send_heartbeats(self) -> None:
        """Regularly tell the server which requests are still being worked on."""
        while True:
            await anyio.sleep(self.ack_wait / HEARTBEATS)
            for active in list(self._active.values()):
                with suppress(nats.errors.Error, OSError):
                    await active.message.in_progress()
