"""One limit for many processes: each leases turns on a clock that all share, just as many as it has calls waiting.

The shared clock is one number: the time up to which turns have been given away. Whoever has calls waiting
moves it ahead by the time that these may take of the limit, and makes them in just that time: the generic cell rate
algorithm (ITU-T I.371), in lots. So the limit holds over all processes at every moment, no turn is leased
that nobody uses, and a process that dies leaves nothing behind but the turns of its own waiting calls.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.models.ratelimit.adaptive import CAUTION, Size
from lpo_agent.models.ratelimit.limiter import Limiter, Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.models.ratelimit.adaptive import Permit

LOT: Final = 0.25
"""Seconds of the whole limit that are leased at once at most."""
EACH: Final = 75.0
"""Requests a second for which one shared clock is enough; beyond that, processes would get in each other's way."""
SIZE: Final = 1000.0
"""Tokens that a request is taken to have, where only tokens are limited."""
LATE: Final = 0.03
"""Seconds after which a turn is over: who was too busy to use it waits for another one, or calls would bunch."""
TURNS: Final = 3
"""Turns after which a process is taken to be busy always, and calls however late it is."""


@dataclass(eq=False, slots=True)
class _Caller:
    size: Size
    turn: float | None = None
    told: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class Quota:
    """Turns under ``limits`` that are shared with other processes.

    ``lease(part, seconds)`` moves a shared clock ahead by so much and returns where it stood, or now if that is
    later, in seconds of ``clock``. A large limit is shared by several clocks, each for its part of it; ``part``
    is the name of one.
    """

    limits: Limits
    lease: Callable[[str, float], Awaitable[float]]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    rng: random.Random = field(default_factory=random.Random)
    _stood: float = field(init=False, default=0.0)
    _seen: dict[str, float] = field(init=False, default_factory=dict)
    _waiting: deque[_Caller] = field(init=False, default_factory=deque)
    _leasing: bool = field(init=False, default=False)

    def restrict(self, limits: Limits) -> None:
        """Hold these limits too: of each kind the smaller one counts."""
        self.limits = Limits(*(_smaller(*pair) for pair in zip(astuple(self.limits), astuple(limits), strict=True)))

    async def turn(self, size: Size) -> None:
        """Wait for the turn of a call of this size."""
        if not any(astuple(self.limits)):
            return
        for _ in range(TURNS):
            turn = await self._next(_Caller(size))
            if (wait := turn - self.clock()) > 0:
                await self.sleep(wait)
            if self.clock() < turn + LATE:
                return

    async def _next(self, caller: _Caller) -> float:
        """Return when it is the caller's turn; leases it, with all others that wait, unless somebody is at it."""
        self._waiting.append(caller)
        try:
            while caller.turn is None:
                if self._leasing:
                    await caller.told.wait()
                    caller.told = anyio.Event()
                else:
                    await self._lease_lot()
        finally:
            if caller.turn is None:
                if caller in self._waiting:  # it may be in a lot that is being leased
                    self._waiting.remove(caller)
                self._tell()
        return caller.turn

    async def _lease_lot(self) -> None:
        """Lease turns for those who wait first, and tell everybody.

        While the clock stands ahead there is time, in which more callers may come: the fewer leases, the better.
        """
        self._leasing = True
        lot: list[tuple[_Caller, float]] = []
        start: float | None = None
        try:
            if (early := min(LOT, (self._stood - self.clock()) / 2)) > 0:
                await self.sleep(early)
            parts, seconds = self._parts(), 0.0
            while self._waiting and (not lot or seconds < LOT):
                caller = self._waiting.popleft()
                lot.append((caller, seconds))
                seconds += parts * self._takes(caller.size)
            part = min((f"{number}-of-{parts}" for number in range(parts)), key=self._last_seen)
            start = self._stood = await self.lease(part, seconds)
            self._seen[part] = start + seconds
        finally:
            self._leasing = False
            if start is None:
                self._waiting.extendleft(caller for caller, _ in reversed(lot))
            self._tell()
        for caller, offset in lot:
            caller.turn = start + offset
            caller.told.set()

    def _last_seen(self, part: str) -> tuple[float, float]:
        """Return where a clock stood when this process last moved it; of equals, any may be the first."""
        return self._seen.get(part, 0.0), self.rng.random()

    def _parts(self) -> int:
        given = self.limits
        tokens = min((limit for limit in (given.tpm, given.input_tpm, given.output_tpm) if limit), default=0.0)
        return parts_for((given.rpm or tokens / SIZE) / 60)

    def _tell(self) -> None:
        """Wake the one who waits first, to lease next."""
        if self._waiting:
            self._waiting[0].told.set()

    def _takes(self, size: Size) -> float:
        """Return the seconds of the limits that a call takes."""
        given = (self.limits.rpm, self.limits.tpm, self.limits.input_tpm, self.limits.output_tpm)
        return max(
            (60 * amount / (CAUTION * limit) for amount, limit in zip(size, given, strict=True) if limit), default=0.0
        )


def parts_for(requests: float) -> int:
    """Return by how many clocks, each for its part, a limit of so many requests a second is shared: a power of 2."""
    return 1 << max(0, int(math.log2(max(1.0, requests / EACH))))


def _smaller(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit), default=None)


@dataclass(slots=True, kw_only=True)
class SharedLimiter(Limiter):
    """A limiter whose calls wait for a turn under the shared limits, too."""

    quota: Quota
    _told: list[float | None] = field(init=False, default_factory=list)

    def restrict(self, limits: Limits) -> None:
        """Hold these limits too, with all other processes that share them."""
        self.quota.restrict(limits)
        Limiter.restrict(self, limits)  # known, so that calls whose turn has come are not held back to feel for it

    def observe(self, headers: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Learn limits from a reply's headers, and share them."""
        Limiter.observe(self, headers, known)
        told = [60 * bucket.limit if bucket.told and bucket.limit else None for bucket in self.gate.buckets]
        if told != self._told:
            self._told = told
            self.quota.restrict(Limits(*told))

    async def acquire(self, into: float, out: float, *, again: bool = False) -> Permit:
        """Wait for a shared turn, then for this process's own."""
        await self.quota.turn(self._expected(into, out))
        return await Limiter.acquire(self, into, out, again=again)

    def _expected(self, into: float, out: float) -> Size:
        return Size.of(into * self._habits[0].share, out * self._habits[1].share)
