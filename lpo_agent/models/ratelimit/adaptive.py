"""Decides when the next call to a service may start: token buckets for known limits, and learning from refusals.

A limit is set by the user, stated in the service's headers, or found by trying. Calls below a limit are never
refused, so a refusal ("too many requests") means that the limit is lower than assumed, or shared with others.
The rate is then cut to what the service accepted lately, and raised slowly again.

Nothing here waits or reads a clock: every method takes the time, in seconds of any clock.
:class:`lpo_agent.models.ratelimit.limiter.Limiter` adds the queue and the clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.models.ratelimit.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

SAFETY_FACTOR: Final = 0.995
"""Share of a limit that is used, because calls arrive less evenly than they are sent."""
BURST_SECONDS: Final = 0.05
"""A bucket holds at most the calls of so many seconds, which may start at once after a late wake-up."""
CUT: Final = 0.98
"""Share of the accepted rate that is kept after a refusal (measured: 97 % of a limit used, 0.2 % refused)."""
CUT_AFTER_PAUSE: Final = 0.9
"""The same if the service also asked to wait: the next refusal would mean another pause."""
CUT_SHORT_SAMPLE: Final = 0.85
"""The same if the accepted rate was measured over less than ``MIN_SAMPLE`` seconds."""
MAX_CUT: Final = 0.5
"""The smallest share of the present rate that a cut keeps."""
SEARCH_GROWTH, CAREFUL_GROWTH = 0.10, 0.03
"""Growth of the rate per second while the limit is being looked for; the second, if refusals ask to wait."""
RECOVERY_GROWTH, PROBE_GROWTH = 0.005, 0.001
"""Growth of the rate per second once a limit was found: below it, and above it."""
RATE_SPAN, SEARCH_RATE_SPAN = 5.0, 1.5
"""Seconds over which the accepted rate is measured; the second, while the limit is being looked for."""
REFUSALS_TO_DOUBT: Final = 3
"""Refusals after which a limit that was set or stated is doubted; fewer may be due to calls that arrived together."""
HIGH_REFUSAL_SHARE: Final = 0.25
"""Share of refusals since the last cut that justifies another cut before there is a full sample."""
MIN_SAMPLE: Final = 1.0
"""Seconds of accepted calls that make a measured rate reliable."""
MIN_SHARE_OF_BEST: Final = 0.1
"""A cut goes no lower than this share of the best rate accepted so far: refusals may have other causes."""
MIN_FIRST_RATE: Final = 0.5
"""Calls a second that the first cut leaves at least; later cuts leave at least 1/15 of it, two calls a minute."""
BIN_SECONDS: Final = 0.1
MIN_SPEEDUP: Final = 1.2
"""A doubled window is kept if it raises the answers per second by this factor."""
ANSWERS_PER_SLOT: Final = 2
"""A round has so many answers for each slot of the window; the first ones are to calls sent with the earlier size."""
ROUNDS_BETWEEN_TRIES: Final = 10
"""Rounds after which doubling the window is tried again, if it was no faster the last time."""
INITIAL_WINDOW: Final = 8
"""Concurrent calls at the start, if no limit is known."""


class Size(NamedTuple):
    """What a call uses of the four kinds of limits; their order is that of all lists by kind of limit."""

    requests: float
    tokens: float
    input_tokens: float
    output_tokens: float

    @classmethod
    def of(cls, input_tokens: float, output_tokens: float) -> Size:
        """Return the size of one call."""
        return cls(1.0, input_tokens + output_tokens, input_tokens, output_tokens)


@dataclass(slots=True)
class Bucket:
    """A token bucket for one kind of limit: time fills it, calls take from it.

    ``limit``: units per second, as set by the user or, if ``stated``, by the service; None if not known.
    ``found``: units per second that refusals taught, None if there were none. ``level``: units in the
    bucket; a call waits until its whole amount is there. ``ceiling``: the rate above which growth is slow.
    ``searching``: growth of ``found`` per second while the limit is being looked for, then 0.
    """

    limit: float | None = None
    stated: bool = False
    found: float | None = None
    level: float = 1.0
    ceiling: float = 0.0
    searching: float = 0.0

    @property
    def rate(self) -> float | None:
        """The rate in use, in units per second; None if there is no limit."""
        limit = None if self.limit is None else SAFETY_FACTOR * self.limit
        if limit is None or self.found is None:
            return self.found if limit is None else limit
        return min(limit, self.found)

    def fill(self, seconds: float, wanted: float) -> None:
        """Fill the bucket for the ``seconds`` that have passed; it must be able to hold ``wanted`` units."""
        rate = self.rate
        if rate is None:
            return
        cap = max(1.0, BURST_SECONDS * rate, min(wanted, rate * 60))
        if self.level < cap:
            self.level = min(cap, self.level + seconds * rate)
        self._grow(seconds)

    def wait(self, amount: float) -> float:
        """Return the seconds until the bucket holds ``amount`` units, or those of one minute if that is less."""
        rate = self.rate
        return 0.0 if rate is None else (min(amount, rate * 60) - self.level) / rate

    def learn(self, limit: float) -> None:
        """Use a limit, in units per second, that the service stated."""
        if self.limit != limit:
            self.limit, self.stated = limit, True
            self.level = min(self.level, BURST_SECONDS * limit)

    def cut(self, accepted: float, seconds: float, *, best: float, share: float) -> None:
        """Lower the rate after a refusal.

        ``accepted``: the accepted rate, as measured over ``seconds``; ``share`` of it is kept. If it was
        measured over less than a second, less is kept; over less than half a second, it is ignored and the
        present rate is halved. ``best``: the best rate accepted so far, which limits the cut.
        """
        before = self.rate
        if seconds < MIN_SAMPLE:
            share, self.searching = min(share, CUT_SHORT_SAMPLE), SEARCH_GROWTH if share == CUT else CAREFUL_GROWTH
        else:
            self.searching = SEARCH_GROWTH if before is None else 0.0
        kept = share * accepted if before is None or seconds >= MIN_SAMPLE / 2 else MAX_CUT * before
        if before is not None and kept < MAX_CUT * before:  # few calls were sent, so few were accepted
            kept, self.searching = MAX_CUT * before, CAREFUL_GROWTH
        kept = max(kept, MIN_SHARE_OF_BEST * best, MIN_FIRST_RATE if before is None else MIN_FIRST_RATE / 15)
        self.found = kept if before is None else min(kept, before)
        self.ceiling = accepted if share == CUT else self.found
        self.level = min(self.level, 0.0)

    def _grow(self, seconds: float) -> None:
        """Raise the found rate for the time that has passed; once it reaches the known limit, that one holds again."""
        if self.found is not None:
            growth = self.searching or (RECOVERY_GROWTH if self.found < self.ceiling else PROBE_GROWTH)
            self.found *= 1 + growth * min(seconds, 1.0)
            if self.limit is not None and self.found >= self.limit:
                self.found = None


@dataclass(slots=True, eq=False)
class Bin:
    """What the calls of one tenth of a second, from ``at``, have used; refused calls are taken out again."""

    at: float
    taken: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])

    def add(self, size: Size, sign: int) -> None:
        """Add a call (``sign`` 1), or take it out (-1)."""
        taken = self.taken
        taken[0] += sign * size[0]
        taken[1] += sign * size[1]
        taken[2] += sign * size[2]
        taken[3] += sign * size[3]


@dataclass(slots=True)
class Meter:
    """Measures the rates that the service accepted in the last seconds.

    Calls in flight count as accepted until they are refused. ``best``: the highest rates so far.
    ``refusal_delay``: seconds from the start of a call to its refusal, as an exponential average.
    """

    bins: deque[Bin] = field(default_factory=deque)
    best: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    refusal_delay: float = 0.0

    def take(self, now: float, size: Size) -> Bin:
        """Count a call that starts, and return the bin that it was counted in."""
        if not self.bins or now - self.bins[-1].at >= BIN_SECONDS:
            self._update_best()
            self.bins.append(Bin(now))
            while now - self.bins[0].at > RATE_SPAN + 4 * self.refusal_delay + 1:
                self.bins.popleft()
        self.bins[-1].add(size, 1)
        return self.bins[-1]

    def _update_best(self) -> None:
        """Compare the last second with the best one so far."""
        last = [b for b in self.bins if b.at > self.bins[-1].at - MIN_SAMPLE] if self.bins else []
        if last and self.bins[0].at <= self.bins[-1].at - MIN_SAMPLE:
            self.best = [max(old, sum(b.taken[i] for b in last) / MIN_SAMPLE) for i, old in enumerate(self.best)]

    def refused(self, bin_: Bin, size: Size, now: float) -> None:
        """Take out a call that was refused, and update the refusal delay."""
        bin_.add(size, -1)
        delay = now - bin_.at
        self.refusal_delay = delay if not self.refusal_delay else 0.8 * self.refusal_delay + 0.2 * delay

    def accepted(self, index: int, now: float, span: float = RATE_SPAN) -> tuple[float, float]:
        """Return the accepted rate of one kind of limit over the last ``span`` seconds, and the seconds measured.

        Only calls older than twice the refusal delay are measured, since newer ones may still be refused.
        If these cover less than a second, the rate is that of all calls.
        """
        end = now - 2 * self.refusal_delay
        decided = [b for b in self.bins if b.at + BIN_SECONDS <= end and b.at > end - span]
        seconds = end - decided[0].at if decided else 0.0
        if seconds < MIN_SAMPLE:
            begun = max(now - self.bins[0].at, BIN_SECONDS) if self.bins else BIN_SECONDS
            return sum(b.taken[index] for b in self.bins) / begun, seconds
        return sum(b.taken[index] for b in decided) / seconds, seconds


@dataclass(slots=True)
class Window:
    """How many calls may be in flight while no limit is known; doubled each round as long as that is faster.

    A round lasts for twice as many answers as the window's ``size``. If a doubled window gives less than
    20 % more answers per second, the window goes back to its last ``good`` size and stays there for
    ``rest`` rounds. ``most``: the largest size. ``speed``: answers per second of the last round at the good size.
    """

    size: int
    most: int
    answers: int = 0
    since: float | None = None
    speed: float = 0.0
    good: int = 0
    rest: int = 0

    def began(self, now: float) -> None:
        """Note the start of a call."""
        self.since = now if self.since is None else self.since

    def answered(self, now: float) -> None:
        """Count an answer."""
        self.answers += 1
        if self.since is not None and self.answers >= ANSWERS_PER_SLOT * self.size and now > self.since:
            speed, self.answers, self.since = self.answers / (now - self.since), 0, now
            self._round(speed)

    def _round(self, speed: float) -> None:
        if self.rest:
            self.rest -= 1
            self.speed = speed
        elif speed > MIN_SPEEDUP * self.speed:
            self.speed, self.good = speed, self.size
        else:
            self.size, self.rest = self.good, ROUNDS_BETWEEN_TRIES
        if not self.rest:
            self.size = min(self.most, 2 * self.good)


@dataclass(slots=True, eq=False)
class Permit:
    """The right to make one call of a ``size``, given at ``began``. It must be released when the call is over.

    ``bin``: where the call was counted. ``debited``: the buckets that it was taken from; by the time it
    is settled, there may be more. ``held``: not released yet.
    """

    size: Size
    began: float = 0.0
    bin: Bin | None = None
    debited: tuple[int, ...] = ()
    held: bool = True


class Gate:
    """Decides whether the next call may start now: buckets, window, outage and the pauses a service asked for.

    ``limits``: units per minute by kind of limit, None if not known. ``concurrency``: the most calls in
    flight. ``slow_start``: begin with few calls in flight if no limit is known.
    """

    def __init__(self, limits: Sequence[float | None], *, concurrency: int, slow_start: bool) -> None:
        self.buckets = [Bucket(None if limit is None else limit / 60) for limit in limits]
        self.concurrency, self.in_flight = concurrency, 0
        self.window = Window(min(INITIAL_WINDOW, concurrency) if slow_start else concurrency, concurrency)
        self.meter, self.outage = Meter(), Outage()
        self._last: float | None = None
        self._pause_began = self._not_before = self._paused = 0.0
        self._cut_at, self._taken, self._refused = float("-inf"), 0, 0
        self._binding = 0
        self._active: list[int] = []
        self.counts_tokens = False
        self._note_active()

    def wait(self, size: Size, now: float) -> float:
        """Return the seconds until a call may start; infinity if another call must end first."""
        if self.in_flight >= self._room():
            return float("inf")
        pause = self._not_before - now
        if self.outage.down:
            pause = max(pause, self.outage.next_probe - now)
        longest = self._fill(size, now) if self._active else 0.0
        return max(0.0, pause, longest)

    def _room(self) -> int:
        if self.outage.down:
            return 1
        return self.concurrency if self._active else self.window.size

    def _fill(self, size: Size, now: float) -> float:
        """Fill the buckets and return the longest wait for a call; remember which bucket it is (``_binding``)."""
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
        """Start a call: take its size from the buckets and count it."""
        for index in self._active:
            self.buckets[index].level -= size[index]
        self.in_flight += 1
        self._taken += 1
        self.window.began(now)
        return Permit(size, now, self.meter.take(self._without_pauses(now), size), tuple(self._active))

    def settle(self, permit: Permit, used: Size) -> None:
        """Correct buckets and counts, now that the service has counted the call's tokens."""
        reserved = permit.size
        for index in self._active:
            self.buckets[index].level += (reserved[index] if index in permit.debited else 0.0) - used[index]
        if permit.bin is not None:
            permit.bin.add(Size(0.0, *(u - r for u, r in zip(used[1:], reserved[1:], strict=True))), 1)
        permit.size = used

    def release(self, permit: Permit) -> None:
        """Note that a call is over, however it ended; a second release has no effect."""
        self.in_flight -= permit.held
        permit.held = False

    def refused(self, permit: Permit, after: float | None, now: float) -> None:
        """Note that a call was refused for the rate: cut the rate, and start no call for ``after`` seconds."""
        steady = self._without_pauses(now)
        if permit.bin is not None:
            self.meter.refused(permit.bin, permit.size, steady)
        if after is not None:
            self._pause(after, now)
        if permit.began <= self._cut_at:
            return  # the call started before the last cut, at the higher rate
        self._refused += 1
        bucket = self.buckets[self._binding]
        if bucket.limit is not None and bucket.found is None and after is None and self._refused < REFUSALS_TO_DOUBT:
            return
        span = MIN_SAMPLE if bucket.rate is None else SEARCH_RATE_SPAN if bucket.searching else RATE_SPAN
        rate, seconds = self.meter.accepted(self._binding, steady, span)
        if seconds < MIN_SAMPLE and bucket.searching and self._refused < max(2.0, HIGH_REFUSAL_SHARE * self._taken):
            return  # not enough data since the last cut
        share = CUT if after is None else CUT_AFTER_PAUSE
        bucket.cut(rate, seconds, best=self.meter.best[self._binding], share=share)
        self._note_active()
        self._cut_at, self._taken, self._refused = now, 0, 0

    def _pause(self, seconds: float, now: float) -> None:
        if now >= self._not_before:
            self._paused += self._not_before - self._pause_began
            self._pause_began = self._not_before = now
        self._not_before = max(self._not_before, now + seconds)

    def _without_pauses(self, now: float) -> float:
        """Return the time, not counting the pauses that the service asked for."""
        return now - self._paused - max(0.0, min(now, self._not_before) - self._pause_began)

    def learn(self, index: int, limit: float) -> None:
        """Use a limit, in units per minute, from the service's headers; one that the user set is kept."""
        bucket = self.buckets[index]
        if bucket.limit is None or bucket.stated:
            bucket.learn(limit / 60)
            self._note_active()
