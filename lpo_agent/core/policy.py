"""Small decisions of the search, as pure functions: who is accepted, who is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.core.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Trace


def accepts(differences: Sequence[float], parent: str, child: str) -> bool:
    """Tell whether a child that finished its race replaces its parent.

    It must have scored more on the same items, or as much with fewer words (hygiene: words that
    do nothing are dropped).
    """
    gain = mean(differences)
    return gain > 0 or (gain == 0 and bool(differences) and len(child.split()) < len(parent.split()))


def rungs(first: int, last: int) -> list[int]:
    """Return the item counts after which a race is judged: ``first``, doubled up to ``last``."""
    counts = [min(first, last)]
    while counts[-1] < last:
        counts.append(min(2 * counts[-1], last))
    return counts


def failures_and_passes(traces: Sequence[Trace], failures: int, passes: int) -> tuple[list[Trace], list[Trace]]:
    """Return the first ``failures`` wrong and the first ``passes`` right answers (wrong: below one half)."""
    wrong = [trace for trace in traces if trace.result.value < 0.5]
    right = [trace for trace in traces if trace.result.value >= 0.5]
    return wrong[:failures], right[:passes]
