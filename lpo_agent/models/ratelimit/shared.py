"""One rate limit for many processes: each reserves time slots on a clock that all of them share.

The shared clock is a single number: the time up to which slots have been reserved. A process with
waiting calls moves it ahead by the time that these calls take up of the limit, and starts them within
that time. This is the generic cell rate algorithm (ITU-T I.371), for several calls at once. So the
limit holds over all processes at every moment, a process reserves no slots that it does not need, and
a process that dies leaves only the slots of its waiting calls unused.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.models.ratelimit.adaptive import SAFETY_FACTOR, Size
from lpo_agent.models.ratelimit.limiter import Limiter, Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.models.ratelimit.adaptive import Permit

MAX_LEASE: Final = 0.25
"""Seconds of the whole limit that one lease covers at most."""
REQUESTS_PER_CLOCK: Final = 75.0
"""Requests per second that one shared clock can serve; with more, processes would often conflict when moving it."""
TOKENS_PER_REQUEST: Final = 1000.0
"""Tokens that a request is assumed to use, if only tokens are limited."""
MAX_DELAY: Final = 0.03
"""Seconds after which an unused slot expires: its call takes a new one, since late calls would arrive in bursts."""
MAX_SLOTS: Final = 3
"""Slots after which a call starts however late it is, because its process must be busy all the time."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that waits for a slot; ``start`` is the time of its slot. ``woken``: it has one, or must lease next."""

    size: Size
    start: float | None = None
    woken: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class Quota:
    """Time slots under ``limits`` that are shared with other processes.

    ``lease(part, seconds)`` moves a shared clock ahead by ``seconds`` and returns where it stood before,
    or the present time if that is later, in seconds of ``clock``. A high limit is divided among several
    clocks with equal shares; ``part`` is the name of one.
    """

    limits: Limits
    lease: Callable[[str, float], Awaitable[float]]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    rng: random.Random = field(default_factory=random.Random)
    _last_start: float = field(init=False, default=0.0)
    _last_seen: dict[str, float] = field(init=False, default_factory=dict)
    _waiting: deque[_Waiter] = field(init=False, default_factory=deque)
    _leasing: bool = field(init=False, default=False)

    def restrict(self, limits: Limits) -> None:
        """Apply these limits too; of each kind, the lower limit counts."""
        self.limits = Limits(*(_lower(*pair) for pair in zip(astuple(self.limits), astuple(limits), strict=True)))

    async def wait_for_slot(self, size: Size) -> None:
        """Wait until a call of this size may start."""
        if not any(astuple(self.limits)):
            return
        for _ in range(MAX_SLOTS):
            start = await self._next_slot(_Waiter(size))
            if (wait := start - self.clock()) > 0:
                await self.sleep(wait)
            if self.clock() < start + MAX_DELAY:
                return

    async def _next_slot(self, waiter: _Waiter) -> float:
        """Return the start of the call's slot. One waiting call at a time leases slots, for all that wait."""
        self._waiting.append(waiter)
        try:
            while waiter.start is None:
                if self._leasing:
                    await waiter.woken.wait()
                    waiter.woken = anyio.Event()
                else:
                    await self._lease_slots()
        finally:
            if waiter.start is None:
                if waiter in self._waiting:  # else it is part of a lease that is being made
                    self._waiting.remove(waiter)
                self._wake_next()
        return waiter.start

    async def _lease_slots(self) -> None:
        """Lease slots for the first waiting calls, and wake these calls.

        While the clock is ahead of the present time there is no hurry. Waiting a little lets more calls
        join, so that fewer leases are needed.
        """
        self._leasing = True
        leased: list[tuple[_Waiter, float]] = []
        start: float | None = None
        try:
            if (early := min(MAX_LEASE, (self._last_start - self.clock()) / 2)) > 0:
                await self.sleep(early)
            clocks, seconds = self._clock_count(), 0.0
            while self._waiting and (not leased or seconds < MAX_LEASE):
                waiter = self._waiting.popleft()
                leased.append((waiter, seconds))
                seconds += clocks * self._seconds(waiter.size)
            part = min((f"{number}-of-{clocks}" for number in range(clocks)), key=self._clock_order)
            start = self._last_start = await self.lease(part, seconds)
            self._last_seen[part] = start + seconds
        finally:
            self._leasing = False
            if start is None:
                self._waiting.extendleft(waiter for waiter, _ in reversed(leased))
            self._wake_next()
        for waiter, offset in leased:
            waiter.start = start + offset
            waiter.woken.set()

    def _clock_order(self, part: str) -> tuple[float, float]:
        """Sort clocks by where this process last moved them to, and equal ones at random."""
        return self._last_seen.get(part, 0.0), self.rng.random()

    def _clock_count(self) -> int:
        given = self.limits
        tokens = min((limit for limit in (given.tpm, given.input_tpm, given.output_tpm) if limit), default=0.0)
        return clock_count((given.rpm or tokens / TOKENS_PER_REQUEST) / 60)

    def _wake_next(self) -> None:
        """Wake the first waiting call, which then leases slots."""
        if self._waiting:
            self._waiting[0].woken.set()

    def _seconds(self, size: Size) -> float:
        """Return the seconds that a call takes up of the limit that it uses most of."""
        given = (self.limits.rpm, self.limits.tpm, self.limits.input_tpm, self.limits.output_tpm)
        return max(
            (60 * amount / (SAFETY_FACTOR * limit) for amount, limit in zip(size, given, strict=True) if limit),
            default=0.0,
        )


def clock_count(requests_per_second: float) -> int:
    """Return how many clocks a limit is divided among; always a power of 2."""
    return 1 << max(0, int(math.log2(max(1.0, requests_per_second / REQUESTS_PER_CLOCK))))


def _lower(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit), default=None)


@dataclass(slots=True, kw_only=True)
class SharedLimiter(Limiter):
    """A limiter whose calls first wait for a slot under the limits that all processes share."""

    quota: Quota
    _stated: list[float | None] = field(init=False, default_factory=list)

    def restrict(self, limits: Limits) -> None:
        """Apply these limits too, in this process and in the shared quota."""
        self.quota.restrict(limits)
        Limiter.restrict(
            self, limits
        )  # a known limit: calls with a slot must not be held back by a search for the limit

    def observe(self, headers: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Read limits from a response's headers, and apply them to the shared quota too."""
        Limiter.observe(self, headers, known)
        stated = [60 * bucket.limit if bucket.stated and bucket.limit else None for bucket in self.gate.buckets]
        if stated != self._stated:
            self._stated = stated
            self.quota.restrict(Limits(*stated))

    async def acquire(self, input_tokens: float, output_tokens: float, *, again: bool = False) -> Permit:
        """Wait for a shared slot, then for the limiter of this process."""
        await self.quota.wait_for_slot(self._expected(input_tokens, output_tokens))
        return await Limiter.acquire(self, input_tokens, output_tokens, again=again)
