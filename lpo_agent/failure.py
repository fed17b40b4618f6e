"""Values that describe a failure: whether and when to retry, and the message that a bus sends for an error."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Retry:
    """The call may be repeated.

    ``after``: the seconds that the service asked to wait (``Retry-After``), None if it did not say.
    ``rate_limited``: whether a rate limit was exceeded, so that all calls of the account must wait; otherwise
    the failure is temporary and only this call waits.
    """

    rate_limited: bool = False
    after: float | None = None


class Failure(BaseModel):
    """The reason why a handler sent no reply.

    ``kind``: the name of the error's class. ``retryable``: whether the same request may succeed at another
    worker or at another time. ``unsure``: whether a service may have charged for the request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    detail: str
    retryable: bool = False
    unsure: bool = False
