"""What goes over a wire around messages: headers, and replies that are failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lpo_agent.bus.base import failure_from
from lpo_agent.core.messages import Failure
from lpo_agent.errors import RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg

    from lpo_agent.core.messages import Q, R, Topic

ID: Final = "Lpo-Id"
RUN: Final = "Lpo-Run"
LEFT: Final = "Lpo-Left"
"""Seconds until the caller waits no more, when the request was sent."""
FAILED: Final = "Lpo-Failed"
ACK: Final = "Lpo-Ack"
"""Where the caller acknowledges the request, once it holds the reply."""


async def handled(topic: Topic[Q, R], handler: Callable[[Q], Awaitable[R]], data: bytes) -> R | Failure:
    """Return the handler's reply, or why there is none."""
    try:
        return await handler(topic.request.model_validate_json(data))
    except Exception as exc:  # noqa: BLE001 - the bus is a boundary: the caller gets a typed failure
        return failure_from(exc)


def read(topic: Topic[Any, R], reply: Msg) -> R:
    """Return a reply; raises RequestFailed if it is a failure."""
    if (reply.headers or {}).get(FAILED):
        raise RequestFailed(Failure.model_validate_json(reply.data))
    return topic.reply.model_validate_json(reply.data)
