"""The limiter: requests and tokens per minute and concurrency, first come, first served.

One for each account and model, shared by everybody who calls it. Two token buckets in one queue,
so a large request is not starved by small ones. A bucket holds one second's worth at most, so
that a minute's limit is not overrun by a burst.
"""

from __future__ import annotations

import contextlib
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

HEADERS = {
    "requests": ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"),
    "tokens": ("x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit"),
}


@dataclass(slots=True)
class Bucket:
    """Fills at ``per_minute`` / 60 a second up to a second's worth (at least one unit)."""

    per_minute: float | None
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.cap

    @property
    def cap(self) -> float:
        """The most that the bucket holds."""
        return 0.0 if self.per_minute is None else max(1.0, self.per_minute / 60)

    def fill(self, seconds: float) -> None:
        """Let time pass."""
        if self.per_minute is not None:
            self.level = min(self.cap, self.level + seconds * self.per_minute / 60)

    def wait(self, amount: float) -> float:
        """Return the seconds until ``amount`` may be taken; more than a full bucket waits for a full one."""
        if self.per_minute is None:
            return 0.0
        return max(0.0, (min(amount, self.cap) - self.level) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take; the level may become negative, which later callers wait out."""
        if self.per_minute is not None:
            self.level -= amount


@dataclass(slots=True)
class Slot:
    """The right to make one call, with the tokens that were set aside for it."""

    limiter: Limiter
    reserved: float

    def settle(self, tokens: float) -> None:
        """Correct the books with what the service counted."""
        self.limiter.tokens.level += self.reserved - tokens
        self.reserved = tokens


class Limiter:
    """See the module; ``rpm``/``tpm`` None: unknown, learned from the service's headers if it sends any."""

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int = 16,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.requests, self.tokens = Bucket(rpm), Bucket(tpm)
        self._given = {"requests": rpm is not None, "tokens": tpm is not None}
        self._calls = anyio.CapacityLimiter(concurrency)
        self._clock, self._sleep = clock or anyio.current_time, sleep
        self._last: float | None = None
        self._not_before = 0.0
        self._queue: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncIterator[Slot]:
        """Wait for the turn of a call of about ``tokens`` tokens, and hold a place while it runs."""
        async with self._calls:
            async with self._turn():
                while (wait := self._wait(tokens)) > 1e-6:  # less is rounding
                    await self._sleep(wait)
                self.requests.take(1)
                self.tokens.take(tokens)
            yield Slot(self, tokens)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Hold the head of the queue; on the way out, even by cancellation, wake the next."""
        turn = anyio.Event()
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                await turn.wait()
            yield
        finally:
            with contextlib.suppress(ValueError):
                self._queue.remove(turn)
            if self._queue:
                self._queue[0].set()

    def _wait(self, tokens: float) -> float:
        now = self._clock()
        for bucket in (self.requests, self.tokens):
            bucket.fill(0.0 if self._last is None else now - self._last)
        self._last = now
        return max(self._not_before - now, self.requests.wait(1), self.tokens.wait(tokens))

    def pause(self, seconds: float) -> None:
        """Let nobody start a call for so long (``Retry-After``)."""
        self._not_before = max(self._not_before, self._clock() + seconds)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn limits that were not given from a reply's headers."""
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if self._given[name]:
                continue
            for header in HEADERS[name]:
                value = headers.get(header, "")
                if value.isdecimal() and int(value) > 0 and bucket.per_minute != int(value):
                    bucket.per_minute = float(value)
                    bucket.level = min(bucket.level, bucket.cap)
