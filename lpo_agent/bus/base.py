"""The bus contract: ask a topic, serve a topic, nothing else.

What every implementation guarantees (``tests/bus`` checks it on each):

* one settlement per request: a reply, a typed failure, or a deadline;
* a topic that nobody serves waits until its deadline;
* a handler's exception reaches the caller as RequestFailed and the worker lives on;
* at most ``concurrency`` requests of one ``serve`` run at a time, and that many do;
* a cancelled or late caller stops its handler and frees the worker;
* a stopping worker answers "unavailable, retryable" to what it leaves;
* messages arrive as equal but distinct objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

from lpo_agent.core.messages import Failure
from lpo_agent.errors import LpoError, ProviderError, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

    from lpo_agent.core.messages import Q, R, Topic

UNAVAILABLE = Failure(kind="Unavailable", detail="the worker was stopped", retryable=True)

TOO_LARGE = Failure(kind="TooLarge", detail="a message is larger than the bus takes (NATS: max_payload)")
"""A request that could not be sent; ``unsure`` where it is the reply, because the work was done."""


class Bus(Protocol):
    """Requests with replies, by topic."""

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - part of the message, not a scope
        """Send ``message`` and wait at most ``timeout`` seconds (infinity: for ever) for the reply.

        Raises:
            DeadlineExceeded: no reply came in time.
            RequestFailed: the handler failed, or its worker was stopped.
            BusClosed: the bus was closed meanwhile.
        """
        ...

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer requests until cancelled, up to ``concurrency`` at a time."""
        ...


def failure_from(exc: Exception) -> Failure:
    """Describe a handler's exception so that it can cross a wire.

    Only errors of this package carry their text over: others may quote prompts or data rows.
    """
    if isinstance(exc, RequestFailed):
        return exc.failure
    retryable = isinstance(exc, ProviderError) and exc.retry is not None
    detail = str(exc) if isinstance(exc, LpoError) else "unexpected error in the handler"
    return Failure(kind=type(exc).__name__, detail=detail, retryable=retryable)
