"""How fast a service may be asked: token buckets, and what its refusals teach. No clock, no waiting.

A limit is given by the user, told by the service's headers, or found out. Whoever stays under it
is never refused; a refusal means that the limit is lower than believed (or shared with others), so
the pace is cut to what was lately accepted and then crept up again. Time is in seconds of any
clock; :class:`lpo_agent.models.ratelimit.limiter.Limiter` brings it along.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CAUTION: Final = 0.995
"""Share of a limit that is used: arrivals at a service are never as even as departures."""
BURST: Final = 0.05
"""Seconds' worth that may be caught up on at once after a late wake-up."""
KEPT: Final = 0.98
"""Share of the accepted rate that is kept after a refusal (measured: 97 % of a limit, 0.2 % refused)."""
KEPT_AFTER_PAUSE: Final = 0.9
"""The same where the service also asked to wait, so that the next refusal would cost dearly."""
GUESSED: Final = 0.85
"""The same where the accepted rate was measured over less than a second."""
HALVED: Final = 0.5
"""Share of the rate that is kept after a refusal that came before much was accepted."""
FAST, WARY, SLOW, CREEP = 0.10, 0.03, 0.005, 0.001
"""Growth a second: looking for the limit, the same where refusals ask to wait, below the limit found, above it."""
MEASURED, BRIEFLY = 5.0, 1.5
"""Seconds over which the accepted rate is taken, and while it is being looked for."""
TRUSTED: Final = 3
"""Refusals until a limit that was given or told is doubted: arrivals may bunch."""
STUBBORN: Final = 0.25
"""Share of refusals after a cut that is answered by another one at once."""
ENOUGH: Final = 1.0
"""Seconds of acceptance that make a rate trustworthy."""
DEEPEST: Final = 0.1
"""A cut goes no lower than this share of the best rate accepted so far: refusals may have other causes."""
SLOWEST: Final = 0.5
"""Calls a second that a first refusal leaves at least; later ones leave two a minute."""
BIN: Final = 0.1
WORTH: Final = 1.2
"""A doubled window must bring this many times the answers a second."""
ROUND: Final = 2
"""Answers a round for each call at a time: the first were still asked for at the old width."""
REST: Final = 10
"""Rounds until a window that brought nothing is tried again."""
GENTLE: Final = 8
"""Calls at a time to begin with, where no limit is known."""
SILENCE: Final = 12
"""Failures in a row, without one answer between them, that make an outage."""
KNOCKS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between knocks at a service that is out; the last is repeated."""


class Size(NamedTuple):
    """What a call takes from the limits: requests, all tokens, input tokens, output tokens."""

    requests: float
    tokens: float
    input_tokens: float
    output_tokens: float

    @classmethod
    def of(cls, into: float, out: float) -> Size:
        """Return the size of one call."""
        return cls(1.0, into + out, into, out)


@dataclass(slots=True)
class Bucket:
    """One limit: fills with time, is emptied by calls; ``limit`` and ``found`` are per second.

    ``limit`` was given or told (None: not known), ``found`` is what refusals taught. A call waits
    until its whole amount is there, so large calls are not let through on credit. ``searching`` is
    the growth a second while the limit is looked for, 0 once it was found.
    """

    limit: float | None = None
    told: bool = False
    found: float | None = None
    level: float = 1.0
    ceiling: float = 0.0
    searching: float = 0.0

    @property
    def rate(self) -> float | None:
        """The pace in use, per second; None is no limit."""
        limit = None if self.limit is None else CAUTION * self.limit
        if limit is None or self.found is None:
            return self.found if limit is None else limit
        return min(limit, self.found)

    def fill(self, seconds: float, wanted: float) -> None:
        """Let time pass while a call of the ``wanted`` amount, or none (0), is next."""
        rate = self.rate
        if rate is None:
            return
        cap = max(1.0, BURST * rate, min(wanted, rate * 60))
        if self.level < cap:
            self.level = min(cap, self.level + seconds * rate)
        self._grow(seconds)

    def wait(self, amount: float) -> float:
        """Return the seconds until ``amount`` is there; more than a minute's worth waits for that much."""
        rate = self.rate
        return 0.0 if rate is None else (min(amount, rate * 60) - self.level) / rate

    def learn(self, limit: float) -> None:
        """Take a limit that the service told."""
        if self.limit != limit:
            self.limit, self.told = limit, True
            self.level = min(self.level, BURST * limit)

    def cut(self, accepted: float, seconds: float, *, best: float, share: float) -> None:
        """Slow down after a refusal to a ``share`` of the rate that was ``accepted``, never far below the ``best``.

        What was measured over less than a second counts for less, or not at all: then half the pace.
        """
        before = self.rate
        if seconds < ENOUGH:
            share, self.searching = min(share, GUESSED), FAST if share == KEPT else WARY
        else:
            self.searching = FAST if before is None else 0.0
        kept = share * accepted if before is None or seconds >= ENOUGH / 2 else HALVED * before
        if before is not None and kept < HALVED * before:  # it was demand that was low, not what is accepted
            kept, self.searching = HALVED * before, WARY
        kept = max(kept, DEEPEST * best, SLOWEST if before is None else SLOWEST / 15)
        self.found = kept if before is None else min(kept, before)
        self.ceiling = accepted if share == KEPT else self.found
        self.level = min(self.level, 0.0)

    def _grow(self, seconds: float) -> None:
        if self.found is not None:
            pace = self.searching or (SLOW if self.found < self.ceiling else CREEP)
            self.found *= 1 + pace * min(seconds, 1.0)
            if self.limit is not None and self.found >= self.limit:
                self.found = None


@dataclass(slots=True, eq=False)
class Bin:
    """What was let through in a tenth of a second and not refused so far."""

    at: float
    taken: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])

    def add(self, size: Size, sign: int) -> None:
        """Add a call, or with -1 take it back."""
        taken = self.taken
        taken[0] += sign * size[0]
        taken[1] += sign * size[1]
        taken[2] += sign * size[2]
        taken[3] += sign * size[3]


@dataclass(slots=True)
class Meter:
    """The accepted rates of the last seconds. Calls under way count as accepted until they are refused."""

    bins: deque[Bin] = field(default_factory=deque)
    best: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    lag: float = 0.0

    def take(self, now: float, size: Size) -> Bin:
        """Count a call that starts."""
        if not self.bins or now - self.bins[-1].at >= BIN:
            self._note_best()
            self.bins.append(Bin(now))
            while now - self.bins[0].at > MEASURED + 4 * self.lag + 1:
                self.bins.popleft()
        self.bins[-1].add(size, 1)
        return self.bins[-1]

    def _note_best(self) -> None:
        """Remember the best second so far."""
        last = [b for b in self.bins if b.at > self.bins[-1].at - ENOUGH] if self.bins else []
        if last and self.bins[0].at <= self.bins[-1].at - ENOUGH:
            self.best = [max(old, sum(b.taken[i] for b in last) / ENOUGH) for i, old in enumerate(self.best)]

    def refused(self, bin_: Bin, size: Size, now: float) -> None:
        """Take back a call that was refused; how long that took tells which calls may still be."""
        bin_.add(size, -1)
        late = now - bin_.at
        self.lag = late if not self.lag else 0.8 * self.lag + 0.2 * late

    def accepted(self, index: int, now: float, span: float = MEASURED) -> tuple[float, float]:
        """Return the accepted rate of one dimension over the last ``span``, and how long it was measured.

        Without a second of decided calls, the rate is what was let through so far.
        """
        end = now - 2 * self.lag
        decided = [b for b in self.bins if b.at + BIN <= end and b.at > end - span]
        seconds = end - decided[0].at if decided else 0.0
        if seconds < ENOUGH:
            begun = max(now - self.bins[0].at, BIN) if self.bins else BIN
            return sum(b.taken[index] for b in self.bins) / begun, seconds
        return sum(b.taken[index] for b in decided) / seconds, seconds


@dataclass(slots=True)
class Window:
    """How many calls at a time while no limit is known: doubled each round until that brings nothing.

    A round is twice as many answers as the window is wide. When twice the calls bring less than a fifth
    more answers a second, the window goes back to where it was and stays there for a while.
    """

    size: int
    most: int
    answers: int = 0
    since: float | None = None
    speed: float = 0.0
    good: int = 0
    rest: int = 0

    def began(self, now: float) -> None:
        """Note the first call."""
        self.since = now if self.since is None else self.since

    def answered(self, now: float) -> None:
        """Count an answer."""
        self.answers += 1
        if self.since is not None and self.answers >= ROUND * self.size and now > self.since:
            speed, self.answers, self.since = self.answers / (now - self.since), 0, now
            self._round(speed)

    def _round(self, speed: float) -> None:
        if self.rest:
            self.rest -= 1
            self.speed = speed
        elif speed > WORTH * self.speed:
            self.speed, self.good = speed, self.size
        else:
            self.size, self.rest = self.good, REST
        if not self.rest:
            self.size = min(self.most, 2 * self.good)


@dataclass(slots=True)
class Outage:
    """Whether a service is out altogether, since when, and when to knock again."""

    failures: int = 0
    since: float = 0.0
    knocks: int = 0
    next_knock: float = 0.0

    @property
    def down(self) -> bool:
        """Whether only one call at a time may knock."""
        return self.failures >= SILENCE

    def failed(self, began: float, now: float) -> bool:
        """Count the failure of a call that ``began`` then; tell whether an outage begins with it.

        Calls that were under way when the outage began are no knocks.
        """
        self.since = now if not self.failures else self.since
        self.failures += 1
        begins = self.failures == SILENCE
        if begins or (self.down and began >= self.next_knock):
            self.next_knock = now + KNOCKS[min(self.knocks, len(KNOCKS) - 1)]
            self.knocks += 1
        return begins

    def answered(self) -> bool:
        """Count an answer; tell whether an outage ends with it."""
        ended, self.failures, self.knocks = self.down, 0, 0
        return ended


@dataclass(slots=True, eq=False)
class Permit:
    """The right to make one call of a ``size``, given at ``began``; ``bin`` is where it was counted.

    ``debited`` names the buckets that it was taken from; more may be known when it is settled.
    """

    size: Size
    began: float = 0.0
    bin: Bin | None = None
    debited: tuple[int, ...] = ()
    held: bool = True


class Gate:
    """All that decides whether the next call may be made now; every method takes the time."""

    def __init__(self, limits: Sequence[float | None], *, concurrency: int, gentle: bool) -> None:
        self.buckets = [Bucket(None if limit is None else limit / 60) for limit in limits]
        self.concurrency, self.in_flight = concurrency, 0
        self.window = Window(min(GENTLE, concurrency) if gentle else concurrency, concurrency)
        self.meter, self.outage = Meter(), Outage()
        self._last: float | None = None
        self._pause_began = self._not_before = self._paused = 0.0
        self._cut_at, self._taken, self._refused = float("-inf"), 0, 0
        self._binding = 0
        self._active: list[int] = []
        self.counts_tokens = False
        self._note_active()

    def wait(self, size: Size, now: float) -> float:
        """Return the seconds until a call may begin, infinity where another one must end first."""
        if self.in_flight >= self._room():
            return float("inf")
        pause = self._not_before - now
        if self.outage.down:
            pause = max(pause, self.outage.next_knock - now)
        longest = self._fill(size, now) if self._active else 0.0
        return max(0.0, pause, longest)

    def _room(self) -> int:
        if self.outage.down:
            return 1
        return self.concurrency if self._active else self.window.size

    def _fill(self, size: Size, now: float) -> float:
        passed = 0.0 if self._last is None else now - self._last
        self._last, longest = now, 0.0
        for index in self._active:
            bucket, amount = self.buckets[index], size[index]
            bucket.fill(passed, amount)
            wait = bucket.wait(amount)
            if wait > longest:
                longest, self._binding = wait, index
        return longest

    def _note_active(self) -> None:
        self._active = [index for index, bucket in enumerate(self.buckets) if bucket.rate is not None]
        self.counts_tokens = any(index > 0 for index in self._active)

    def take(self, size: Size, now: float) -> Permit:
        """Let a call begin."""
        for index in self._active:
            self.buckets[index].level -= size[index]
        self.in_flight += 1
        self._taken += 1
        self.window.began(now)
        return Permit(size, now, self.meter.take(self._without_pauses(now), size), tuple(self._active))

    def settle(self, permit: Permit, used: Size) -> None:
        """Correct the books with what the service counted."""
        promised = permit.size
        for index in self._active:
            self.buckets[index].level += (promised[index] if index in permit.debited else 0.0) - used[index]
        if permit.bin is not None:
            permit.bin.add(Size(0.0, *(u - p for u, p in zip(used[1:], promised[1:], strict=True))), 1)
        permit.size = used

    def release(self, permit: Permit) -> None:
        """Note that a call is over, however it ended; a permit counts once."""
        self.in_flight -= permit.held
        permit.held = False

    def refused(self, permit: Permit, after: float | None, now: float) -> None:
        """Take note that a call came too early: nobody starts for ``after`` seconds, and the pace is cut."""
        steady = self._without_pauses(now)
        if permit.bin is not None:
            self.meter.refused(permit.bin, permit.size, steady)
        if after is not None:
            self._pause(after, now)
        if permit.began <= self._cut_at:
            return  # it began at the old pace
        self._refused += 1
        bucket, pace = self.buckets[self._binding], self.buckets[self._binding].rate
        if bucket.limit is not None and bucket.found is None and after is None and self._refused < TRUSTED:
            return
        span = ENOUGH if pace is None else BRIEFLY if bucket.searching else MEASURED
        rate, seconds = self.meter.accepted(self._binding, steady, span)
        if seconds < ENOUGH and bucket.searching and self._refused < max(2.0, STUBBORN * self._taken):
            return  # too early to tell
        share = KEPT if after is None else KEPT_AFTER_PAUSE
        bucket.cut(rate, seconds, best=self.meter.best[self._binding], share=share)
        self._note_active()
        self._cut_at, self._taken, self._refused = now, 0, 0

    def _pause(self, seconds: float, now: float) -> None:
        if now >= self._not_before:
            self._paused += self._not_before - self._pause_began
            self._pause_began = self._not_before = now
        self._not_before = max(self._not_before, now + seconds)

    def _without_pauses(self, now: float) -> float:
        """Return the time without the pauses that the service asked for."""
        return now - self._paused - max(0.0, min(now, self._not_before) - self._pause_began)

    def learn(self, index: int, limit: float) -> None:
        """Take a limit a minute that the service's headers tell; one that was given stays."""
        bucket = self.buckets[index]
        if bucket.limit is None or bucket.told:
            bucket.learn(limit / 60)
            self._note_active()
