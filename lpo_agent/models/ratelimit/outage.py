"""Notices an outage of a service from failed calls, and decides when to try the service again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OUTAGE_FAILURES: Final = 12
"""Consecutive failures, without an answer between them, that count as an outage."""
PROBE_INTERVALS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between probe calls during an outage; the last value is repeated."""


@dataclass(slots=True)
class Outage:
    """Tells whether a service is down, since when, and when to try it again with a single call (a probe)."""

    failures: int = 0
    since: float = 0.0
    probes: int = 0
    next_probe: float = 0.0

    @property
    def down(self) -> bool:
        """Whether the service is down; then only one call at a time may start."""
        return self.failures >= OUTAGE_FAILURES

    def failed(self, began: float, now: float) -> bool:
        """Count the failure of a call that ``began`` then; return whether an outage starts with it.

        The failure of a call that was in flight when the outage started does not count as a probe.
        """
        self.since = now if not self.failures else self.since
        self.failures += 1
        begins = self.failures == OUTAGE_FAILURES
        if begins or (self.down and began >= self.next_probe):
            self.next_probe = now + PROBE_INTERVALS[min(self.probes, len(PROBE_INTERVALS) - 1)]
            self.probes += 1
        return begins

    def answered(self) -> bool:
        """Note an answer; return whether an outage ends with it."""
        ended, self.failures, self.probes = self.down, 0, 0
        return ended
