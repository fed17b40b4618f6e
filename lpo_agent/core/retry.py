"""Whether a failed call should be made again, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Advice to ask again.

    ``after`` is the service's own wish in seconds (``Retry-After``), None if it said nothing.
    ``rate_limited`` tells an overrun limit, which everybody on the account must wait for, from
    a passing fault, which only this call waits for.
    """

    rate_limited: bool = False
    after: float | None = None
