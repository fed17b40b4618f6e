"""The rate limiter of one process: a queue in which calls to one model, under one API key, wait for their turn.

It limits requests, tokens, input tokens and output tokens per minute, and the calls in flight. The
queue is first in, first out, so that large calls do not starve. A call reserves the tokens that it
may use; after the answer, the reservation is corrected to what the service counted. A waiting call
does not count as in flight. :mod:`lpo_agent.models.ratelimit.adaptive` decides when a call may start.
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
"""Kinds of limits, each with its index in ``Size``."""
MIN_WAIT: Final = 1e-6
"""Seconds; a shorter wait is a rounding error, and the call starts at once."""
MIN_WAKE_EARLIER: Final = 1e-3
"""Seconds; the first call in the queue is woken early only if its turn comes earlier by at least so much."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per minute on requests, all tokens, input tokens and output tokens; None if not known."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call in the queue. It sleeps until ``wake_at`` in ``sleep_scope``, or until ``woken`` is set."""

    input_tokens: float
    output_tokens: float
    permit: Permit | None = None
    woken: anyio.Event | None = None
    sleep_scope: anyio.CancelScope | None = None
    wake_at: float = math.inf

    def wake(self) -> None:
        if self.sleep_scope is not None:
            self.sleep_scope.cancel()
        elif self.woken is not None:
            self.woken.set()


@dataclass(slots=True)
class _UsageRatio:
    """The tokens that calls use, as a share of what they were expected to use: an exponential average, at most 1."""

    share: float = 1.0

    def learn(self, expected: float, used: float) -> None:
        if expected > 0:
            self.share += 0.1 * (min(used / expected, 1.0) - self.share)


@dataclass(slots=True)
class Limiter:
    """Limits the calls to one model; see the module's docstring.

    ``concurrency``: the most calls in flight. ``slow_start``: begin with few, if no limit is known.
    ``clock`` returns seconds. ``say`` gets a message when an outage of the service begins and ends.
    """

    limits: Limits = Limits()
    concurrency: int = 256
    slow_start: bool = True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    say: Callable[[str], None] = lambda _: None
    gate: Gate = field(init=False)
    _queue: deque[_Waiter] = field(init=False, default_factory=deque)
    _ratios: tuple[_UsageRatio, _UsageRatio] = field(init=False, default_factory=lambda: (_UsageRatio(), _UsageRatio()))

    def __post_init__(self) -> None:
        given = self.limits
        self.gate = Gate(
            (given.rpm, given.tpm, given.input_tpm, given.output_tpm),
            concurrency=self.concurrency,
            slow_start=self.slow_start,
        )

    async def acquire(self, input_tokens: float, output_tokens: float, *, again: bool = False) -> Permit:
        """Wait until a call may start that has about ``input_tokens`` and at most ``output_tokens``.

        A call that is made ``again`` goes to the head of the queue. Every permit must be released.
        """
        waiter = _Waiter(input_tokens, output_tokens)
        (self._queue.appendleft if again else self._queue.append)(waiter)
        done = False
        try:
            if self._queue[0] is waiter:
                self._admit()
            while waiter.permit is None:
                await self._sleep(waiter)
                if waiter.permit is None:
                    self._admit()
            done = True
        finally:
            if not done:
                self._abandon(waiter)
        return waiter.permit

    def _size(self, waiter: _Waiter) -> Size:
        """Return what to reserve for a call, from its estimate and what earlier calls used of theirs."""
        return self._expected(waiter.input_tokens, waiter.output_tokens)

    def _expected(self, input_tokens: float, output_tokens: float) -> Size:
        return Size.of(input_tokens * self._ratios[0].share, output_tokens * self._ratios[1].share)

    def _abandon(self, waiter: _Waiter) -> None:
        """Remove a cancelled call from the queue, or release its permit if it has one already."""
        if waiter.permit is None:
            self._queue.remove(waiter)
            self._admit()
        else:
            self.release(waiter.permit)

    async def _sleep(self, waiter: _Waiter) -> None:
        """Sleep until the call may be next: at the head of the queue for a known time, else until woken."""
        now = self.clock()
        seconds = self.gate.wait(self._size(waiter), now) if self._queue[0] is waiter else math.inf
        if math.isinf(seconds):
            waiter.woken = anyio.Event()
            await waiter.woken.wait()
            return
        waiter.wake_at = now + seconds
        with anyio.CancelScope() as waiter.sleep_scope:
            await self.sleep(seconds)
        waiter.sleep_scope, waiter.wake_at = None, math.inf

    def _admit(self) -> None:
        """Give permits to the calls at the head of the queue that may start, and wake the next one in time."""
        now = self.clock()
        while self._queue:
            head = self._queue[0]
            size = self._size(head)
            wait = self.gate.wait(size, now)
            if wait > MIN_WAIT:
                if not math.isinf(wait) and now + wait < head.wake_at - MIN_WAKE_EARLIER:
                    head.wake()
                return
            self._queue.popleft()
            head.permit = self.gate.take(size, now)
            head.wake()

    def release(self, permit: Permit) -> None:
        """Note that a call is over, however it ended."""
        self.gate.release(permit)
        self._admit()

    def answered(self, permit: Permit, expected: tuple[float, float], usage: Usage) -> None:
        """Note an answer and the tokens it used; ``expected``: the two numbers that :meth:`acquire` was called with."""
        if self.gate.counts_tokens:
            self._ratios[0].learn(expected[0], usage.input_tokens)
            self._ratios[1].learn(expected[1], usage.output_tokens)
            self.gate.settle(permit, Size.of(usage.input_tokens, usage.output_tokens))
        self.gate.window.answered(self.clock())
        self.responded()

    def responded(self) -> None:
        """Note that the service sent a response of any kind, which ends an outage."""
        if self.gate.outage.answered():
            self.say("the service answers again")

    def refused(self, permit: Permit, after: float | None) -> None:
        """Note that the service refused a call for the rate; ``after``: seconds that it asked to wait, if it did."""
        self.gate.refused(permit, after, self.clock())
        self.responded()

    def failed(self, permit: Permit, reason: str) -> None:
        """Note that the service did not answer a call, for this ``reason``."""
        if self.gate.outage.failed(permit.began, self.clock()):
            self.say(f"{reason}; waiting until the service answers again")

    @property
    def outage_seconds(self) -> float:
        """For how many seconds the service has been down; 0 if it is not."""
        outage = self.gate.outage
        return self.clock() - outage.since if outage.down else 0.0

    def restrict(self, limits: Limits) -> None:
        """Hold these limits too, where none of the kind was given."""
        for index, limit in enumerate((limits.rpm, limits.tpm, limits.input_tpm, limits.output_tpm)):
            if limit:
                self.gate.learn(index, limit)

    def observe(self, headers: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Read limits from a response's headers, for the kinds that the user did not set; ``known``: header to kind."""
        for header, kind in known.items():
            value = headers.get(header, "")
            if value.isdecimal() and int(value) > 0:
                self.gate.learn(KINDS[kind], float(value))
