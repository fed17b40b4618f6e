"""The bus within one process, on asyncio or trio.

A handler runs in the task of its caller. So cancelling the caller also cancels the handler, no
message is ever queued, and a request costs little more than a function call. What waits is the
caller, first come, first served, until one of the topic's servers has a free slot.
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
    """One call of ``serve``: its handler, its free slots, and the callers in its other slots.

    ``idle`` is set when a stopping server has no callers left.
    """

    handler: Callable[[Any], Awaitable[Any]]
    free_slots: int
    callers: set[_Caller] = field(default_factory=set)
    stopped: bool = False
    idle: anyio.Event | None = None


@dataclass(eq=False, slots=True)
class _Caller:
    """One request: waiting for a slot while ``server`` is None, then running in a slot of that server.

    ``slot_given`` is set when a waiting caller gets a slot. ``cancelled_by_bus``: the bus or the
    server stopped, in contrast to a deadline that passed.
    """

    scope: anyio.CancelScope
    server: _Server | None = None
    slot_given: anyio.Event | None = None
    cancelled_by_bus: bool = False


@dataclass(eq=False, slots=True)
class _TopicQueue:
    """The servers of one topic and the callers that wait for a slot."""

    servers: list[_Server] = field(default_factory=list)
    waiting: deque[_Caller] = field(default_factory=deque)

    def try_assign(self, caller: _Caller) -> bool:
        """Give the caller a free slot and return True, unless there is none or others wait for one."""
        if self.waiting:
            return False
        for server in self.servers:
            if server.free_slots:
                self._assign(caller, server)
                return True
        return False

    def _assign(self, caller: _Caller, server: _Server) -> None:
        server.free_slots -= 1
        server.callers.add(caller)
        caller.server = server
        if caller.slot_given is not None:
            caller.slot_given.set()

    def assign_waiting(self, server: _Server) -> None:
        """Give the server's free slots to waiting callers, the first in the queue first."""
        while self.waiting and server.free_slots and not server.stopped:
            self._assign(self.waiting.popleft(), server)

    def remove(self, caller: _Caller) -> None:
        """Remove a caller from the queue, or free its slot."""
        server = caller.server
        if server is None:
            if caller in self.waiting:
                self.waiting.remove(caller)
            return
        server.callers.discard(caller)
        server.free_slots += 1
        self.assign_waiting(server)
        if server.idle is not None and not server.callers:
            server.idle.set()


class MemoryBus:
    """Implements :class:`lpo_agent.bus.base.Bus`. Use as ``async with``.

    Messages are copied, so that no code depends on sender and receiver sharing an object. The copy
    is shallow, which is enough because the fields are frozen too. With ``serialize``, messages go
    through JSON as they would over a network, which takes ten times as long.
    """

    def __init__(self, *, serialize: bool = False) -> None:
        self._serialize = serialize
        self._queues: dict[str, _TopicQueue] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for queue in self._queues.values():
            for caller in queue.waiting:
                caller.cancelled_by_bus = True
                caller.scope.cancel()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Send a request and wait for the reply; see :meth:`lpo_agent.bus.base.Bus.request`."""
        queue = self._queue(topic)
        copy = self._copy(message)
        outcome: R | RequestFailed | None = None
        deadline = math.inf if math.isinf(timeout) else anyio.current_time() + timeout
        with anyio.CancelScope(deadline=deadline) as scope:
            caller = _Caller(scope)
            try:
                outcome = await _call_handler(queue, caller, copy)
            finally:
                queue.remove(caller)
        if outcome is None:
            raise self._no_reply_error(topic, caller, timeout)
        if isinstance(outcome, RequestFailed):
            raise outcome
        return self._copy(outcome)

    def _copy(self, message: M) -> M:
        if self._serialize:
            return type(message).model_validate_json(message.model_dump_json())
        return message.model_copy()

    def _no_reply_error(self, topic: Topic[Any, Any], caller: _Caller, timeout: float) -> Exception:
        if not caller.cancelled_by_bus:
            return DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s")
        if caller.server is None:
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
        """Answer requests until cancelled; see :meth:`lpo_agent.bus.base.Bus.serve`."""
        queue, server = self._queue(topic), _Server(handler, concurrency)
        queue.servers.append(server)
        queue.assign_waiting(server)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            queue.servers.remove(server)
            await _stop(server)

    def _queue(self, topic: Topic[Any, Any]) -> _TopicQueue:
        if self._closed:
            raise BusClosed(f"the bus is closed; no request can be sent on {topic.name!r}")
        return self._queues.setdefault(topic.name, _TopicQueue())


async def _call_handler(queue: _TopicQueue, caller: _Caller, message: Any) -> Any:
    """Wait for a free slot, run the handler in it, and return its reply, or RequestFailed if it raised."""
    if not queue.try_assign(caller):
        caller.slot_given = anyio.Event()
        queue.waiting.append(caller)
        await caller.slot_given.wait()
    assert caller.server is not None  # noqa: S101 - set before the event
    try:
        return await caller.server.handler(message)
    except Exception as exc:  # noqa: BLE001 - the bus is a boundary: the caller gets a typed failure
        failed = RequestFailed(failure_from(exc))
        failed.__cause__ = exc
        return failed


async def _stop(server: _Server) -> None:
    """Cancel the handlers of a server that stops, and wait until they have ended."""
    server.stopped = True
    for caller in server.callers:
        caller.cancelled_by_bus = True
        caller.scope.cancel()
    if server.callers:
        server.idle = anyio.Event()
        with anyio.CancelScope(shield=True):
            await server.idle.wait()
