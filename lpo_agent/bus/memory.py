"""The bus inside one process: no queue of messages, only of callers who wait for a free place.

A handler runs in its caller's task, so that a caller who gives up takes the handler along, and a
request costs little more than a function call.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
from pydantic import BaseModel

from lpo_agent.bus.base import UNAVAILABLE, failure_from
from lpo_agent.errors import BusClosed, DeadlineExceeded, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from anyio.abc import TaskStatus

    from lpo_agent.core.messages import Q, R, Topic


M = TypeVar("M", bound=BaseModel)


@dataclass(eq=False, slots=True)
class _Server:
    """One ``serve``: its handler, its free places, and the callers who hold the others."""

    handler: Callable[[Any], Awaitable[Any]]
    free: int
    guests: set[_Caller] = field(default_factory=set)
    stopped: bool = False
    idle: anyio.Event | None = None


@dataclass(eq=False, slots=True)
class _Caller:
    """A caller: waiting for a place at first, then at one."""

    scope: anyio.CancelScope
    server: _Server | None = None
    called: anyio.Event | None = None
    sent_away: bool = False


@dataclass(eq=False, slots=True)
class _TopicQueue:
    """What is known of one topic."""

    servers: list[_Server] = field(default_factory=list)
    waiting: deque[_Caller] = field(default_factory=deque)

    def seat(self, guest: _Caller) -> bool:
        """Give the caller a free place, if there is one and nobody waits for it."""
        if self.waiting:
            return False
        for server in self.servers:
            if server.free:
                self._place(guest, server)
                return True
        return False

    def _place(self, guest: _Caller, server: _Server) -> None:
        server.free -= 1
        server.guests.add(guest)
        guest.server = server
        if guest.called is not None:
            guest.called.set()

    def offer(self, server: _Server) -> None:
        """Give free places to those who wait, first come, first served."""
        while self.waiting and server.free and not server.stopped:
            self._place(self.waiting.popleft(), server)

    def leave(self, guest: _Caller) -> None:
        """Take a caller out, wherever it is."""
        server = guest.server
        if server is None:
            if guest in self.waiting:
                self.waiting.remove(guest)
            return
        server.guests.discard(guest)
        server.free += 1
        self.offer(server)
        if server.idle is not None and not server.guests:
            server.idle.set()


class MemoryBus:
    """Implements :class:`lpo_agent.bus.base.Bus`; works on asyncio and trio.

    Messages are copied, so that nobody comes to depend on sharing objects: through JSON as they would
    go over a network, or, without ``wire``, only themselves and not what they hold, which is
    frozen too and takes a tenth of the time.
    """

    def __init__(self, *, wire: bool = False) -> None:
        self._wire = wire
        self._desks: dict[str, _TopicQueue] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for desk in self._desks.values():
            for guest in desk.waiting:
                guest.sent_away = True
                guest.scope.cancel()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Send and wait; see the contract."""
        desk = self._desk(topic)
        copy = self._copy(message)
        outcome: R | RequestFailed | None = None
        deadline = math.inf if math.isinf(timeout) else anyio.current_time() + timeout
        with anyio.CancelScope(deadline=deadline) as scope:
            guest = _Caller(scope)
            try:
                outcome = await _visit(desk, guest, copy)
            finally:
                desk.leave(guest)
        if outcome is None:
            raise self._sent_away(topic, guest, timeout)
        if isinstance(outcome, RequestFailed):
            raise outcome
        return self._copy(outcome)

    def _copy(self, message: M) -> M:
        return type(message).model_validate_json(message.model_dump_json()) if self._wire else message.model_copy()

    def _sent_away(self, topic: Topic[Any, Any], guest: _Caller, timeout: float) -> Exception:
        if not guest.sent_away:
            return DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s")
        if guest.server is None:
            return BusClosed(f"the bus was closed while a request on {topic.name!r} was waiting")
        return RequestFailed(UNAVAILABLE)

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests until cancelled; see the contract."""
        desk, server = self._desk(topic), _Server(handler, concurrency)
        desk.servers.append(server)
        desk.offer(server)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            desk.servers.remove(server)
            await _send_away(server)

    def _desk(self, topic: Topic[Any, Any]) -> _TopicQueue:
        if self._closed:
            raise BusClosed(f"the bus is closed; nothing can be asked on {topic.name!r}")
        return self._desks.setdefault(topic.name, _TopicQueue())


async def _visit(desk: _TopicQueue, guest: _Caller, message: Any) -> Any:
    """Wait for a place, then let the handler work there."""
    if not desk.seat(guest):
        guest.called = anyio.Event()
        desk.waiting.append(guest)
        await guest.called.wait()
    assert guest.server is not None  # noqa: S101 - who was called has a place
    try:
        return await guest.server.handler(message)
    except Exception as exc:  # noqa: BLE001 - the bus is a boundary: the caller gets a typed failure
        failed = RequestFailed(failure_from(exc))
        failed.__cause__ = exc
        return failed


async def _send_away(server: _Server) -> None:
    """Stop the calls of a server that stops, and wait until they have let go."""
    server.stopped = True
    for guest in server.guests:
        guest.sent_away = True
        guest.scope.cancel()
    if server.guests:
        server.idle = anyio.Event()
        with anyio.CancelScope(shield=True):
            await server.idle.wait()
