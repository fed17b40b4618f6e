"""Small decisions of the local search: which candidate is accepted, when a race is judged, which examples are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.core.stats import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Trace


def accepts(differences: Sequence[float], parent: str, child: str) -> bool:
    """Return whether a child that finished its race replaces its parent.

    ``differences``: child minus parent on the same items. The child's mean must be higher, or equal with
    fewer words, so that words without effect are removed. Acceptance is no statistical test: it only decides
    where the search continues, and what is reported to a user is tested on other items.
    """
    gain = mean(differences)
    return gain > 0 or (gain == 0 and bool(differences) and len(child.split()) < len(parent.split()))


def rungs(first: int, last: int) -> list[int]:
    """Return the item counts after which the candidates of a race are halved: ``first``, doubled up to ``last``."""
    counts = [min(first, last)]
    while counts[-1] < last:
        counts.append(min(2 * counts[-1], last))
    return counts


def failures_and_passes(traces: Sequence[Trace], failures: int, passes: int) -> tuple[list[Trace], list[Trace]]:
    """Return the first ``failures`` wrong and the first ``passes`` right answers (wrong: below one half)."""
    wrong = [trace for trace in traces if trace.result.value < 0.5]
    right = [trace for trace in traces if trace.result.value >= 0.5]
    return wrong[:failures], right[:passes]
