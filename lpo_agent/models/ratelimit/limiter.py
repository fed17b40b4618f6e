"""The limiter: one for each account and model, shared by everybody who calls it.

Requests, tokens, input and output tokens a minute, and calls at a time, behind one queue: first
come, first served, so that large calls are not starved. A call reserves what it may take and
settles with what was counted. Who waits holds no place. What may start when is decided by
:mod:`lpo_agent.models.ratelimit.adaptive`; here are the queue and the clock.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.models.ratelimit.adaptive import Gate, Permit, Size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.models.base import Usage

KINDS: Final = {"requests": 0, "tokens": 1, "input_tokens": 2, "output_tokens": 3}
SOON: Final = 1e-6
"""Shorter waits are rounding."""
EARLIER: Final = 1e-3
"""A sleeper is woken when its turn comes this much earlier than it thought."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits a minute, None where not known: requests, all tokens, input tokens, output tokens."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody in the queue: asleep until a time (``nap``), or until woken (``bell``)."""

    into: float
    out: float
    permit: Permit | None = None
    bell: anyio.Event | None = None
    nap: anyio.CancelScope | None = None
    until: float = math.inf

    def wake(self) -> None:
        if self.nap is not None:
            self.nap.cancel()
        elif self.bell is not None:
            self.bell.set()


@dataclass(slots=True)
class _Habit:
    """How large calls turn out compared to what was expected of them, learned as they are settled."""

    share: float = 1.0

    def learn(self, expected: float, used: float) -> None:
        if expected > 0:
            self.share += 0.1 * (min(used / expected, 1.0) - self.share)


@dataclass(slots=True)
class Limiter:
    """See the module. ``concurrency`` is a safety cap; ``gentle`` begins far below it if no limit is known.

    ``say`` is told when an outage begins and ends. ``clock`` counts seconds.
    """

    limits: Limits = Limits()
    concurrency: int = 256
    gentle: bool = True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    say: Callable[[str], None] = lambda _: None
    gate: Gate = field(init=False)
    _queue: deque[_Waiter] = field(init=False, default_factory=deque)
    _habits: tuple[_Habit, _Habit] = field(init=False, default_factory=lambda: (_Habit(), _Habit()))

    def __post_init__(self) -> None:
        given = self.limits
        self.gate = Gate(
            (given.rpm, given.tpm, given.input_tpm, given.output_tpm),
            concurrency=self.concurrency,
            gentle=self.gentle,
        )

    async def acquire(self, into: float, out: float, *, again: bool = False) -> Permit:
        """Wait for the turn of a call of about ``into`` and at most ``out`` tokens.

        A call that is made ``again`` goes to the head of the queue. Every permit must be released.
        """
        waiter = _Waiter(into, out)
        (self._queue.appendleft if again else self._queue.append)(waiter)
        arrived = False
        try:
            if self._queue[0] is waiter:
                self._serve()
            while waiter.permit is None:
                await self._rest(waiter)
                if waiter.permit is None:
                    self._serve()
            arrived = True
        finally:
            if not arrived:
                self._leave(waiter)
        return waiter.permit

    def _size(self, waiter: _Waiter) -> Size:
        """Return what to reserve, by what such calls have used so far."""
        return Size.of(waiter.into * self._habits[0].share, waiter.out * self._habits[1].share)

    def _leave(self, waiter: _Waiter) -> None:
        """Take somebody who was cancelled out of the queue, or the permit back that came too late."""
        if waiter.permit is None:
            self._queue.remove(waiter)
            self._serve()
        else:
            self.release(waiter.permit)

    async def _rest(self, waiter: _Waiter) -> None:
        """Sleep until this waiter may be next: by the clock at the head of the queue, else until woken."""
        now = self.clock()
        seconds = self.gate.wait(self._size(waiter), now) if self._queue[0] is waiter else math.inf
        if math.isinf(seconds):
            waiter.bell = anyio.Event()
            await waiter.bell.wait()
            return
        waiter.until = now + seconds
        with anyio.CancelScope() as waiter.nap:
            await self.sleep(seconds)
        waiter.nap, waiter.until = None, math.inf

    def _serve(self) -> None:
        """Let those at the head go who may; see that the next one wakes in time."""
        now = self.clock()
        while self._queue:
            head = self._queue[0]
            size = self._size(head)
            wait = self.gate.wait(size, now)
            if wait > SOON:
                if not math.isinf(wait) and now + wait < head.until - EARLIER:
                    head.wake()
                return
            self._queue.popleft()
            head.permit = self.gate.take(size, now)
            head.wake()

    def release(self, permit: Permit) -> None:
        """Give a permit back; the call is over, however it ended."""
        self.gate.release(permit)
        self._serve()

    def answered(self, permit: Permit, expected: tuple[float, float], usage: Usage) -> None:
        """Note an answer and what it used; ``expected`` is what :meth:`acquire` was told."""
        if self.gate.counts_tokens:
            self._habits[0].learn(expected[0], usage.input_tokens)
            self._habits[1].learn(expected[1], usage.output_tokens)
            self.gate.settle(permit, Size.of(usage.input_tokens, usage.output_tokens))
        self.gate.window.answered(self.clock())
        self.heard()

    def heard(self) -> None:
        """Note that the service said something, whatever it was; an outage is over."""
        if self.gate.outage.answered():
            self.say("the service answers again")

    def refused(self, permit: Permit, after: float | None) -> None:
        """Note that the service said: too many; ``after`` is how long it asked everybody to wait."""
        self.gate.refused(permit, after, self.clock())
        self.heard()

    def failed(self, permit: Permit, reason: str) -> None:
        """Note that the service failed to answer."""
        if self.gate.outage.failed(permit.began, self.clock()):
            self.say(f"{reason}; waiting until the service answers again")

    @property
    def out_for(self) -> float:
        """For how many seconds the service has been out; 0 if it is not."""
        outage = self.gate.outage
        return self.clock() - outage.since if outage.down else 0.0

    def restrict(self, limits: Limits) -> None:
        """Hold these limits too, where none of the kind was given."""
        for index, limit in enumerate((limits.rpm, limits.tpm, limits.input_tpm, limits.output_tpm)):
            if limit:
                self.gate.learn(index, limit)

    def observe(self, headers: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Learn limits that were not given from a reply's ``headers``; ``known`` tells the kind of limit by header."""
        for header, kind in known.items():
            value = headers.get(header, "")
            if value.isdecimal() and int(value) > 0:
                self.gate.learn(KINDS[kind], float(value))
