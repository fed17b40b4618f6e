"""Says whether, and when, a failed call of a model service should be repeated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """The call may be repeated.

    ``after``: the seconds that the service asked to wait (``Retry-After``), None if it did not say.
    ``rate_limited``: whether a rate limit was exceeded, so that all calls of the account must wait; otherwise
    the failure is temporary and only this call waits.
    """

    rate_limited: bool = False
    after: float | None = None
