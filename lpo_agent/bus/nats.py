"""The bus over NATS JetStream: requests outlive workers and the server; replies come back to the one who asked.

A request is a message of a work-queue stream. One worker takes it through its topic's durable consumer,
tells the server that it is at work, and sends the reply on the run's own subject; the caller
acknowledges the message once it holds the reply, and only then is it gone. So a request whose worker, whose
reply or whose server was lost is delivered again. Handlers may therefore run twice; a caller settles once.

Subjects, all under one prefix: ``ask.TOPIC.RUN`` (stream), ``reply.RUN.ID`` and ``stop.RUN.ID`` (core
NATS), ``dead.TOPIC.RUN`` (requests that killed every worker that took them). nats-py is for asyncio only.
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
import sniffio
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from lpo_agent.bus.base import TOO_LARGE, UNAVAILABLE
from lpo_agent.bus.nats_codec import ACK, FAILED, ID, LEFT, RUN, handled, read
from lpo_agent.bus.nats_connection import PARTING, PAUSE, PREFIX, Store, connect, token
from lpo_agent.core.messages import Failure
from lpo_agent.errors import BusClosed, ConfigError, DeadlineExceeded, RequestFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from anyio.abc import TaskStatus
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from pydantic import BaseModel

    from lpo_agent.bus.nats_connection import Wire
    from lpo_agent.core.messages import Q, R, Topic

STREAM: Final = "LPO"
ACK_WAIT: Final = 6.0
"""Seconds of silence after which a worker is taken to be dead, and its request goes to another one."""
BEATS: Final = 3
"""Signs of life in that time."""
DELIVERIES: Final = 6
"""How often a request is handed out before it is taken to be what kills its workers."""
KEPT: Final = 24 * 3600.0
"""Seconds after which a request that nobody took is dropped."""
POSTED: Final = 30 * 24 * 3600.0
"""Seconds after which a run's rules are forgotten, should it not take them back."""
CHECKS: Final = 3
"""Patiences after which one who waits looks whether the server still has the request."""
UNCAPPED: Final = 100_000
FRESH: Final = 2.0
"""Seconds for which one who asked is taken to be there still."""
PULL: Final = 5.0
"""Seconds that a worker's free place waits for a request before it asks again."""


@dataclass(eq=False, slots=True)
class _Wanted:
    """A request that waits for its reply."""

    scope: anyio.CancelScope
    sequence: int | None = None
    reply: Msg | None = None


@dataclass(eq=False, slots=True)
class _Job:
    """A request that a worker is at. ``withdrawn``: its caller no longer waits."""

    message: Msg
    scope: anyio.CancelScope
    withdrawn: bool = False


@asynccontextmanager
async def open_nats(
    wire: Wire,
    *,
    run: str = "shared",
    prefix: str = PREFIX,
    most_at_once: int | None = None,
    patience: float = ACK_WAIT,
) -> AsyncIterator[NatsBus]:
    """Connect, and close again; ``run`` names the subjects that this caller's requests and replies go by.

    Of those who serve: ``most_at_once``: how many requests of a topic all workers together are at;
    ``patience``: seconds of silence after which a worker is taken to be dead.

    Raises ConfigError where the server cannot be reached or has no JetStream.
    """
    if sniffio.current_async_library() != "asyncio":
        raise ConfigError("the bus over NATS needs asyncio; on trio, use the memory bus")
    client = await connect(wire)
    bus = NatsBus(client, run=token(run), prefix=prefix, most_at_once=most_at_once, patience=patience)
    try:
        await bus.open()
        yield bus
    finally:
        bus.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(PARTING):
            await client.close()


async def _respond(question: Msg) -> None:
    await question.respond(b"")


@dataclass(slots=True)
class NatsBus:
    """Implements :class:`lpo_agent.bus.base.Bus`; made by :func:`open_nats`."""

    client: Client
    run: str
    prefix: str = PREFIX
    most_at_once: int | None = None
    patience: float = ACK_WAIT
    _stream: JetStreamContext = field(init=False)
    _session: str = field(init=False, default_factory=lambda: secrets.token_hex(4))
    _wanted: dict[str, _Wanted] = field(init=False, default_factory=dict)
    _asked: dict[bytes, int] = field(init=False, default_factory=dict)
    _jobs: dict[str, _Job] = field(init=False, default_factory=dict)
    _seen: dict[str, float] = field(init=False, default_factory=dict)
    _closed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._stream = self.client.jetstream(timeout=PARTING)

    async def open(self) -> None:
        """Make sure that the stream is there, and listen for replies and for callers who give up."""
        await self._make_stream()
        with suppress(APIError):  # what an earlier session of this run asked and nobody waits for
            await self._stream.purge_stream(self._name, subject=f"{self.prefix}.ask.*.{self.run}")
        await self.client.subscribe(f"{self.prefix}.reply.{self.run}.*", cb=self._replied)
        await self.client.subscribe(f"{self.prefix}.alive.{self.run}", cb=_respond)
        await self.client.subscribe(f"{self.prefix}.stop.*.*", cb=self._stopped)

    async def _make_stream(self) -> None:
        config = api.StreamConfig(
            name=self._name,
            subjects=[f"{self.prefix}.ask.*.*"],
            retention=api.RetentionPolicy.WORK_QUEUE,
            storage=api.StorageType.FILE,
            max_age=KEPT,
            duplicate_window=120,
        )
        try:
            await self._stream.add_stream(config)
        except APIError as exc:
            raise ConfigError(f"the NATS server refused the stream {self._name}: {exc.description}") from None
        except nats.errors.Error as exc:
            raise ConfigError(f"the NATS server has no JetStream ({type(exc).__name__}); start it with -js") from None

    @property
    def _name(self) -> str:
        return self.prefix.upper()

    def close(self) -> None:
        """Let those who wait know that nothing will come any more."""
        self._closed = True
        for wanted in self._wanted.values():
            wanted.scope.cancel()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Send and wait; see the contract."""
        if self._closed:
            raise BusClosed(f"the bus is closed; nothing can be asked on {topic.name!r}")
        data = message.model_dump_json().encode()
        number, deadline = self._number(topic.name, data), anyio.current_time() + timeout
        wanted = self._wanted[number] = _Wanted(anyio.CancelScope(deadline=deadline))
        try:
            with wanted.scope:
                for turn in count():
                    wanted.sequence = await self._publish(topic.name, f"{number}.{turn}", data, deadline)
                    await self._lost(wanted.sequence)
        finally:
            del self._wanted[number]
            if wanted.reply is None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(PARTING):
                    await self._withdraw(number, wanted)
        if wanted.reply is not None:
            return read(topic, wanted.reply)
        if self._closed:
            raise BusClosed(f"the bus was closed while a request on {topic.name!r} was waiting")
        raise DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s")

    def _number(self, topic: str, data: bytes) -> str:
        """Return an id that follows from the session, the content, and how often that was asked before."""
        digest = hashlib.blake2b(f"{self.run} {self._session} {topic} ".encode() + data, digest_size=12).digest()
        again = self._asked[digest] = self._asked.get(digest, -1) + 1
        return f"{digest.hex()}-{again}"

    async def _publish(self, topic: str, number: str, data: bytes, deadline: float) -> int:
        """Put a request into the stream, however long the server is away; the id keeps it from being there twice."""
        subject = f"{self.prefix}.ask.{topic}.{self.run}"
        while True:
            left = deadline - anyio.current_time()
            headers = {ID: number.partition(".")[0], RUN: self.run, api.Header.MSG_ID: f"{self.run}.{number}"}
            headers |= {} if math.isinf(left) else {LEFT: f"{left:.3f}"}
            try:
                return (await self._stream.publish(subject, data, headers=headers)).seq
            except nats.errors.MaxPayloadError:
                raise RequestFailed(TOO_LARGE) from None
            except (nats.errors.Error, TimeoutError, APIError):
                await anyio.sleep(PAUSE)
                with suppress(nats.errors.Error, TimeoutError, ConfigError):
                    await self._make_stream()  # it may be another server now, or an emptied one

    async def _lost(self, sequence: int) -> None:
        """Return when the stream no longer has a request, and no reply to it has come for a while."""
        found = True
        while found:
            await anyio.sleep(CHECKS * self.patience)
            with suppress(nats.errors.Error, TimeoutError, APIError):
                try:
                    await self._stream.get_msg(self._name, sequence)
                except NotFoundError:
                    found = False
        await anyio.sleep(self.patience)

    async def _withdraw(self, number: str, wanted: _Wanted) -> None:
        """Take a request out of the stream, and stop whoever is at it."""
        with suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.publish(f"{self.prefix}.stop.{self.run}.{number}")
            if wanted.sequence is not None:
                with suppress(APIError):
                    await self._stream.delete_msg(self._name, wanted.sequence)
            await self.client.flush(timeout=1)

    async def _replied(self, reply: Msg) -> None:
        """Take a reply in, and acknowledge its request; one that comes again, or too late, is acknowledged too."""
        headers: Mapping[str, str] = reply.headers or {}
        if ack := headers.get(ACK):
            await self.client.publish(ack, b"+ACK")
        wanted = self._wanted.get(reply.subject.rpartition(".")[2])
        if wanted is not None and wanted.reply is None:
            wanted.reply = reply
            wanted.scope.cancel()

    async def _stopped(self, notice: Msg) -> None:
        if job := self._jobs.get(notice.subject.rpartition(".")[2]):
            job.withdrawn = True
            job.scope.cancel()

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests until cancelled; see the contract."""
        consumer = await self._consumer(topic.name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat)
            for _ in range(concurrency):
                await tasks.start(self._place, topic, handler, consumer)
            task_status.started()

    async def _consumer(self, topic: str) -> str:
        """Return the name of the topic's consumer, made if it is not there."""
        await self._make_stream()
        name = f"{self.prefix}-{topic}"
        config = api.ConsumerConfig(
            durable_name=name,
            filter_subject=f"{self.prefix}.ask.{topic}.*",
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=self.patience,
            max_deliver=DELIVERIES + 1,
            max_ack_pending=self.most_at_once or UNCAPPED,
            max_waiting=UNCAPPED,
        )
        try:
            await self._stream.consumer_info(self._name, name)
            known = True
        except NotFoundError:
            known = False
        if not known or self.most_at_once is not None:
            await self._stream.add_consumer(self._name, config)  # of one that is there, it changes the cap
        return name

    async def staffed(self, topic: str) -> bool | None:
        """Tell whether anybody serves the topic, None if the server does not say."""
        try:
            info = await self._stream.consumer_info(self._name, f"{self.prefix}-{topic}")
        except NotFoundError:
            return False
        except (nats.errors.Error, TimeoutError, APIError):
            return None
        return bool(info.num_waiting or info.num_ack_pending)

    @property
    def board(self) -> Store:
        """Texts that are kept at the server for others to read, such as a run's rules for its workers."""
        return Store(self._stream, f"{self.prefix}-posts", kept=POSTED)

    async def _place(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        consumer: str,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take one request after another; each place has an inbox of its own, so that no two mix up their answers."""
        source = await self._stream.pull_subscribe_bind(consumer=consumer, stream=self._name)
        task_status.started()
        try:
            while True:
                try:
                    (message,) = await source.fetch(1, timeout=PULL)
                except TimeoutError:
                    continue
                except (nats.errors.Error, APIError):
                    await anyio.sleep(PAUSE)
                    with suppress(nats.errors.Error, TimeoutError, APIError, ConfigError):
                        await self._consumer(topic.name)
                else:
                    await self._work(topic, handler, message)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(PARTING), suppress(nats.errors.Error):
                await source.unsubscribe()

    async def _work(self, topic: Topic[Q, R], handler: Callable[[Q], Awaitable[R]], message: Msg) -> None:
        """Answer one request, unless it keeps killing workers, or nobody would read the answer."""
        headers = message.headers or {}
        number, run = headers[ID], headers[RUN]
        if message.metadata.num_delivered > DELIVERIES:
            await self._bury(topic.name, run, number, message)
            return
        if not await self._waits(run):
            await message.nak(delay=ACK_WAIT)
            return
        left = float(headers.get(LEFT, math.inf))
        job = self._jobs[number] = _Job(message, anyio.CancelScope(deadline=anyio.current_time() + left))
        outcome: R | Failure = UNAVAILABLE
        try:
            with job.scope:
                outcome = await handled(topic, handler, message.data)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(PARTING):
                await self._settle(job, number, run, outcome)
            del self._jobs[number]

    async def _waits(self, run: str) -> bool:
        """Tell whether the one who asked is there, so that nothing is paid for that nobody will read."""
        now = anyio.current_time()
        if now - self._seen.get(run, -math.inf) < FRESH:
            return True
        try:
            await self.client.request(f"{self.prefix}.alive.{run}", timeout=2)
        except nats.errors.NoRespondersError:
            return False
        except (nats.errors.Error, TimeoutError):
            return True  # the server is away, or the one who asked is busy
        self._seen[run] = now
        return True

    async def _settle(self, job: _Job, number: str, run: str, outcome: R | Failure) -> None:
        """Send the reply, which its caller acknowledges; or end a request that nobody waits for."""
        with suppress(nats.errors.Error, TimeoutError, OSError):
            if job.withdrawn or (job.scope.cancelled_caught and outcome is UNAVAILABLE):
                await job.message.term()
                return
            try:
                await self._reply(run, number, outcome, job.message.reply)
            except nats.errors.MaxPayloadError:
                await self._reply(run, number, TOO_LARGE.model_copy(update={"unsure": True}), job.message.reply)
            if outcome is UNAVAILABLE:
                await self.client.flush(timeout=1)

    async def _reply(self, run: str, number: str, outcome: BaseModel, ack: str) -> None:
        headers = {ACK: ack} | ({FAILED: "1"} if isinstance(outcome, Failure) else {})
        subject = f"{self.prefix}.reply.{run}.{number}"
        await self.client.publish(subject, outcome.model_dump_json().encode(), headers=headers)

    async def _bury(self, topic: str, run: str, number: str, message: Msg) -> None:
        """Put aside a request that was handed out so often and never answered."""
        lost = Failure(kind="WorkersLost", detail=f"{DELIVERIES} workers took this request and none answered")
        with suppress(nats.errors.Error, TimeoutError, OSError):
            await self.client.publish(f"{self.prefix}.dead.{topic}.{run}", message.data, headers=message.headers)
            await self._reply(run, number, lost, "")
            await message.term()

    async def _beat(self) -> None:
        """Tell the server again and again what is being worked at."""
        while True:
            await anyio.sleep(self.patience / BEATS)
            for job in list(self._jobs.values()):
                with suppress(nats.errors.Error, OSError):
                    await job.message.in_progress()
