"""Decisions of the search, as pure functions: who survives, who is accepted, who goes to the final."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lpo_agent.core.stats import log_e_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Trace

HOPELESS = math.log(20)  # evidence of 20 to 1 against a candidate ends its race at once


def survivors(differences: Sequence[Sequence[float]], keep: int) -> list[int]:
    """Return the numbers of the candidates that stay in a race, best first, at most ``keep``.

    ``differences[i]`` are candidate i's paired score differences to the parent on the items so far.
    Successive halving (Jamieson and Talwalkar 2016) on the mean difference; a candidate that the
    anytime-valid McNemar test shows to be worse than the parent leaves regardless of its rank.
    """
    alive = [i for i, d in enumerate(differences) if d and not _hopeless(d)]
    return sorted(alive, key=lambda i: (-_mean(differences[i]), i))[:keep]


def _hopeless(differences: Sequence[float]) -> bool:
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return log_e_value(losses, wins) >= HOPELESS


def accepts(differences: Sequence[float], parent: str, child: str) -> bool:
    """Tell whether a child that finished its race replaces its parent.

    It must have scored more on the same items, or as much with fewer words (hygiene: words that
    do nothing are dropped).
    """
    mean = _mean(differences)
    return mean > 0 or (mean == 0 and bool(differences) and len(child.split()) < len(parent.split()))


def rungs(first: int, last: int) -> list[int]:
    """Return the item counts after which a race is judged: ``first``, doubled up to ``last``."""
    counts = [min(first, last)]
    while counts[-1] < last:
        counts.append(min(2 * counts[-1], last))
    return counts


def telling(traces: Sequence[Trace], failures: int, passes: int) -> tuple[list[Trace], list[Trace]]:
    """Return the first ``failures`` wrong and the first ``passes`` right answers (wrong: below one half)."""
    wrong = [trace for trace in traces if trace.result.value < 0.5]
    right = [trace for trace in traces if trace.result.value >= 0.5]
    return wrong[:failures], right[:passes]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
