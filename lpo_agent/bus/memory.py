"""The bus inside one process: a queue without a buffer for each topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from lpo_agent.bus.base import UNAVAILABLE, failure_from
from lpo_agent.core.messages import Q, R
from lpo_agent.errors import BusClosed, DeadlineExceeded, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from anyio.abc import TaskStatus

    from lpo_agent.core.messages import Topic

_Queue = tuple[MemoryObjectSendStream[Any], MemoryObjectReceiveStream[Any]]


@dataclass(eq=False, slots=True)
class _Call(Generic[Q, R]):
    """A request on its way, and where its one settlement goes."""

    message: Q
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    settled: anyio.Event = field(default_factory=anyio.Event)
    outcome: R | RequestFailed | None = None

    def settle(self, outcome: R | RequestFailed) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.settled.set()


class MemoryBus:
    """Implements :class:`lpo_agent.bus.base.Bus`; works on asyncio and trio.

    Messages go through JSON, as they would over a network, so that nobody comes to depend on
    sharing objects.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for send, receive in self._queues.values():
            send.close()
            receive.close()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Send and wait; see the contract."""
        call: _Call[Q, R] = _Call(topic.request.model_validate_json(message.model_dump_json()))
        try:
            with anyio.fail_after(timeout):
                await self._queue(topic)[0].send(call)
                await call.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s") from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise BusClosed(f"the bus was closed while a request on {topic.name!r} was waiting") from None
        finally:
            call.scope.cancel()
        if isinstance(call.outcome, RequestFailed):
            raise call.outcome
        assert call.outcome is not None  # noqa: S101 - settled implies an outcome
        return topic.reply.model_validate_json(call.outcome.model_dump_json())

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests until cancelled; see the contract."""
        receive = self._queue(topic)[1]
        async with anyio.create_task_group() as workers:
            for number in range(concurrency):
                workers.start_soon(_work, receive.clone(), handler, name=f"{topic.name}#{number}")
            task_status.started()

    def _queue(self, topic: Topic[Any, Any]) -> _Queue:
        if self._closed:
            raise BusClosed(f"the bus is closed; nothing can be asked on {topic.name!r}")
        if topic.name not in self._queues:
            self._queues[topic.name] = anyio.create_memory_object_stream[Any](0)
        return self._queues[topic.name]


async def _work(receive: MemoryObjectReceiveStream[_Call[Q, R]], handler: Callable[[Q], Awaitable[R]]) -> None:
    async with receive:
        async for call in receive:
            try:
                with call.scope:
                    call.settle(await _answer(handler, call.message))
            finally:
                call.settle(RequestFailed(UNAVAILABLE))


async def _answer(handler: Callable[[Q], Awaitable[R]], message: Q) -> R | RequestFailed:
    try:
        return await handler(message)
    except Exception as exc:  # noqa: BLE001 - the bus is a boundary: the caller gets a typed failure
        failed = RequestFailed(failure_from(exc))
        failed.__cause__ = exc
        return failed
