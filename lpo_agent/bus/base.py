"""The interface of a bus: send a request to a topic and wait for the reply, or serve a topic.

Every implementation guarantees the following; ``tests/bus/test_contract.py`` tests each of them.

* A request ends exactly once: with a reply, a typed failure, or DeadlineExceeded.
* A request to a topic that nobody serves waits until its deadline.
* If a handler raises, its caller gets RequestFailed and the worker goes on with other requests.
* One ``serve`` runs up to ``concurrency`` handlers at a time, and no more.
* If the caller is cancelled or its deadline passes, its handler is cancelled.
* If a worker stops, the requests it was working on fail with :data:`UNAVAILABLE`, which is retryable.
* Sender and receiver have equal messages, but not the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

from lpo_agent.errors import LpoError, ProviderError, RequestFailed
from lpo_agent.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

    from lpo_agent.core.messages import Q, R, Topic

UNAVAILABLE = Failure(kind="Unavailable", detail="the worker was stopped", retryable=True)
TOO_LARGE = Failure(kind="TooLarge", detail="a message is larger than the bus takes (NATS: max_payload)")
"""The request or the reply is too large to send. ``unsure`` is set for a reply: the handler has run, and may have
paid for model calls."""


class Bus(Protocol):
    """Sends requests to topics and serves topics; see the module's docstring for the guarantees."""

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - the deadline is sent with the message
        """Send ``message`` and wait at most ``timeout`` seconds for the reply (infinity: no limit).

        Raises:
            DeadlineExceeded: there was no reply in time.
            RequestFailed: the handler raised, or its worker was stopped.
            BusClosed: the bus was closed before the reply came.
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
        """Answer requests with ``handler`` until cancelled, up to ``concurrency`` of them at a time."""
        ...


def failure_from(exc: Exception) -> Failure:
    """Return a handler's exception as a message for the caller.

    Only errors of this package keep their text; the text of others may contain prompts or data rows.
    """
    if isinstance(exc, RequestFailed):
        return exc.failure
    retryable = isinstance(exc, ProviderError) and exc.retry is not None
    detail = str(exc) if isinstance(exc, LpoError) else "unexpected error in the handler"
    return Failure(kind=type(exc).__name__, detail=detail, retryable=retryable)
