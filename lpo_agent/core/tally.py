"""Statistics of the proposals of a run, computed from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lpo_agent.core.diff import mean_of
from lpo_agent.core.events import Proposed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.diff import Measures
    from lpo_agent.core.events import Event

GAINS: Final = (0.5, 0.9, 1.0)


@dataclass(slots=True)
class Tally:
    """Counts over :class:`Proposed` events. ``made``: the measures of every usable proposal."""

    made: list[Measures] = field(default_factory=list)
    replies: int = 0
    malformed: int = 0
    fallbacks: int = 0
    lost: int = 0

    def note(self, event: Event) -> None:
        """Count an event; only Proposed events matter."""
        if not isinstance(event, Proposed):
            return
        self.replies += event.replies
        self.malformed += event.malformed
        self.fallbacks += event.fallback
        self.lost += event.candidate is None
        if event.measures is not None:
            self.made.append(event.measures)

    def mean(self, name: str) -> float | None:
        """Return the mean of the named measure over the proposals that have it, None if none has."""
        return mean_of([getattr(measures, name) for measures in self.made])

    def most_leakage(self) -> float | None:
        """Return the highest leakage of a tagged proposal, None without any."""
        return max((m.leakage for m in self.made if m.leakage is not None), default=None)


def calls_to(curve: Sequence[tuple[int, float]]) -> dict[str, int] | None:
    """Return the calls after which 50, 90 and 100 % of the final gain over the first point were reached.

    ``curve``: points of (calls, best mean score so far), both increasing. None if nothing was gained.
    """
    if not curve or curve[-1][1] <= curve[0][1]:
        return None
    first, last = curve[0][1], curve[-1][1]
    levels = {f"{share:.0%}": first + share * (last - first) for share in GAINS}
    return {name: next(calls for calls, best in curve if best >= level - 1e-12) for name, level in levels.items()}
