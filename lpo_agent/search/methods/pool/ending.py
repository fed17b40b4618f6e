"""When a pool search ends before its calls are spent: a perfect prompt, nothing left to gain, or no progress."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from lpo_agent.core.factorial import MARGIN

if TYPE_CHECKING:
    from lpo_agent.core.factorial import EditSet, Factorial

PERFECT: Final = 40
"""A prompt without a fault on so many items, or on the whole panel, ends the search."""
LEAST: Final = MARGIN / 2
"""An edit is worth no more calls if it is expected to improve the score by less than this."""
PATIENCE: Final = 600
"""So many calls without a new incumbent, and as many as before it, are a stall."""

EXHAUSTED: Final = "no edit is left to try"
CERTAIN: Final = "no edit is likely to add more than it costs any more"
ALL_STEPS: Final = "all steps done"


def perfect(items: int) -> str:
    """Return the reason for a prompt without a fault."""
    return f"a prompt is right on all {items} training items that it was scored on"


def stalled(calls: int) -> str:
    """Return the reason for a search without progress."""
    return f"the best prompt has not changed for {calls} calls"


def spent(calls: int) -> str:
    """Return the reason for a search that used all of its calls."""
    return f"the {calls} calls of the search are spent"


def is_stalled(spent: int, moved_at: int) -> bool:
    """Return whether the incumbent, new since ``moved_at`` calls, is the same for long; ``spent``: calls so far."""
    return spent - moved_at >= max(PATIENCE, moved_at)


def nothing_to_gain(model: Factorial) -> bool:
    """Return whether the expected improvement by each edit of the pool is too small to look for.

    For an edit that one of the incumbent's excludes, what it adds is compared with nothing, which is generous.
    """
    return all(_improvement(model, number) < LEAST for number in range(len(model.pool)))


def _improvement(model: Factorial, number: int) -> float:
    """Return the expected improvement (Mockus 1975) by adding an edit to the incumbent, or by leaving out one of it."""
    one, cost, incumbent = frozenset({number}), model.cost(number), model.incumbent
    held = number in incumbent
    worth, error = model.share(incumbent if held else incumbent | one, one)
    gain = cost - worth if held else worth - cost
    if error <= 0:
        return max(0.0, gain)
    normal = NormalDist()
    return gain * normal.cdf(gain / error) + error * normal.pdf(gain / error)


def chance_over(model: Factorial, chosen: EditSet, other: EditSet) -> float | None:
    """Return the posterior probability that a set is better than another one, None if they are the same prompt."""
    new, old = (dict.fromkeys(model.terms(each), 1.0) for each in (chosen, other))
    contrast = {term: new.get(term, 0.0) - old.get(term, 0.0) for term in [*new, *old]}
    error = math.sqrt(max(0.0, model.posterior.variance(contrast)))
    gain = model.worth(chosen) - model.worth(other)
    return NormalDist().cdf(gain / error) if error > 0 else None
