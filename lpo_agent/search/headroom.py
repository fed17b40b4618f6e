"""Estimates how much a better prompt may gain, and whether a search is worth it, from some 60 answers.

A search for a prompt gains most where the model can do the task and does not by default, and nothing else shows that as
cheaply as a look at its answers (arXiv 2604.14585 calls for such a test before a search).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lpo_agent.core import power
from lpo_agent.core.result import GainEstimate
from lpo_agent.core.stats import Z95, mean, mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.result import AgreementResult, FaultCounts
    from lpo_agent.data import Splits

ROWS: Final = 24
"""Training rows that the prompt is scored on."""
AGAIN: Final = 12
"""Of these, rows that quick changes are scored on, and that are asked a second time."""
PRIOR: Final = 0.2
"""The standard deviation of what a quick change brings, before it is measured."""
SPREAD: Final = 0.5
"""The standard deviation of a difference of two scores, before it is measured,"""
CERTAIN: Final = 4
"""which counts for this many items."""
SMALL: Final = 0.05
"""A likely gain below this is hardly worth a search."""
FEW: Final = 20
"""Fewer rows of train and dev than this teach little."""
NOISY: Final = 0.85

Worth = Literal["yes", "perhaps", "no"]


class Advice(NamedTuple):
    """Whether a search is worth it, and why."""

    worth: Worth
    reasons: tuple[str, ...]


def estimate(values: Sequence[float], faults: FaultCounts, changes: Sequence[Sequence[float]]) -> GainEstimate | None:
    """Return the estimate of the gain, None without a score.

    ``values``: the scores of the prompt. ``changes``: for each quick change its differences to the prompt, by item.
    """
    if not values:
        return None
    tried = [shrunken(each) for each in changes if each]
    likely = max([_mended(faults), *(gain for gain, _ in tried)])
    low = max([0.0, *(gain - Z95 * error for gain, error in tried)])
    high = 1.0 - mean_interval(values)[0]
    return GainEstimate(likely=min(max(0.0, likely), 1.0 - mean(values)), low=min(low, high), high=high)


def _mended(faults: FaultCounts) -> float:
    """Return the gain if each answer with a fault of form were as good as those without one."""
    readable = faults.right + faults.content
    share = (faults.right + 1) / (readable + 2)
    unread = faults.kinds.get("unread", 0) / faults.form if faults.form else 0.0
    return faults.lost_by_form * (unread + (1.0 - unread) * share)


def shrunken(differences: Sequence[float]) -> tuple[float, float]:
    """Return the expected value of a mean difference and its standard deviation, shrunken to no difference at all."""
    n, centre = len(differences), mean(differences)
    around = math.fsum((each - centre) ** 2 for each in differences)
    noise = (CERTAIN * SPREAD**2 + around) / (CERTAIN + n) / n
    weight = PRIOR**2 / (PRIOR**2 + noise)
    return weight * centre, math.sqrt(weight * noise)


def advise(faults: FaultCounts, gain: GainEstimate | None, again: AgreementResult | None, splits: Splits) -> Advice:
    """Return whether a search is worth it with these rows, and why."""
    against = [*_hopeless(faults, gain, splits)]
    if against or gain is None:
        return Advice("no", tuple(against))
    doubts = [*_doubts(gain, again, splits)]
    if doubts:
        return Advice("perhaps", tuple(doubts))
    form = "the form of the answers" if faults.lost_by_form >= faults.lost_by_content else "the content of the answers"
    return Advice("yes", (f"most is lost by {form}, and a gain of about {gain.likely:.2f} is likely",))


def _hopeless(faults: FaultCounts, gain: GainEstimate | None, splits: Splits) -> Sequence[str]:
    found = []
    targets = {row.target for row in (*splits.train, *splits.dev)}
    if gain is None:
        found.append("no item could be scored")
    elif faults.right == faults.rows:
        found.append(f"all {faults.rows} items are right already; at most {gain.high:.2f} can be gained")
    if len(targets) == 1:
        found.append("all targets are equal, so a prompt that only says this answer would win; add other rows")
    return found


def _doubts(gain: GainEstimate, again: AgreementResult | None, splits: Splits) -> Sequence[str]:
    found, rows, test = [], len(splits.train) + len(splits.dev), len(splits.test)
    if gain.likely < SMALL:
        found.append(f"no quick change shows a gain, and few answers have a wrong form; up to {gain.high:.2f} is open")
    if rows < FEW:
        found.append(f"train and dev have only {rows} rows together; give 100 or more")
    if not test:
        found.append("there is no test split, so no gain can be proved")
    elif power.gain_shown(test) > max(gain.likely, SMALL):
        wanted = max(gain.likely, SMALL)
        found.append(
            f"the test split of {test} items shows gains of {power.gain_shown(test):.2f} or more; "
            f"{power.items_needed(wanted)} items would show {wanted:.2f}"
        )
    if again is not None and again.n and again.same < NOISY * again.n:
        found.append(f"only {again.same} of {again.n} items got the same score when they were asked again")
    return found
