"""How requests and replies are encoded as NATS messages: names of headers, and failures as replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lpo_agent.bus.base import failure_from
from lpo_agent.errors import RequestFailed
from lpo_agent.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg

    from lpo_agent.core.messages import Q, R, Topic

ID: Final = "Lpo-Id"
"""Header: the request's id."""
RUN: Final = "Lpo-Run"
"""Header: the run that the request belongs to."""
TIME_LEFT: Final = "Lpo-Left"
"""Header: seconds until the caller's deadline, counted from when the request was sent; absent without a deadline."""
FAILED: Final = "Lpo-Failed"
"""Header: present if the reply is a Failure."""
ACK: Final = "Lpo-Ack"
"""Header of a reply: the subject on which the caller acknowledges the request once it has the reply."""


async def call_handler(topic: Topic[Q, R], handler: Callable[[Q], Awaitable[R]], data: bytes) -> R | Failure:
    """Decode a request and return the handler's reply, or a Failure if it raised."""
    try:
        return await handler(topic.request.model_validate_json(data))
    except Exception as exc:  # noqa: BLE001 - the bus is a boundary: the caller gets a typed failure
        return failure_from(exc)


def decode_reply(topic: Topic[Any, R], reply: Msg) -> R:
    """Return the reply in a NATS message; raises RequestFailed if it is a Failure."""
    if (reply.headers or {}).get(FAILED):
        raise RequestFailed(Failure.model_validate_json(reply.data))
    return topic.reply.model_validate_json(reply.data)
