"""The verdict of a run in words, the same on the terminal and on the report's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.result import ALPHA

if TYPE_CHECKING:
    from lpo_agent.core.result import RunResult


class VerdictText(NamedTuple):
    """A verdict: its name in a few words, and sentences that say what it means and what it does not mean."""

    title: str
    meaning: tuple[str, ...]

    @property
    def paragraph(self) -> str:
        """The sentences as one text."""
        return " ".join(self.meaning)


IMPROVED: Final = VerdictText(
    "improved",
    (
        "The best prompt has a higher score than the seed prompt on test items that were not used to find it.",
        "If both were equally good, a difference as large would occur in fewer than 5 of 100 such tests.",
        "This holds for this model and for data like these, no further.",
    ),
)
NOT_SHOWN: Final = VerdictText(
    "no significant improvement",
    (
        "The difference on untouched test items may be chance, so the seed prompt stays the answer.",
        "This does not show that both are equally good; more test items could tell.",
    ),
)
WORSE: Final = VerdictText(
    "no significant improvement",
    (
        "The found prompt has a lower score than the seed prompt on untouched test items.",
        "A difference as large is rarely chance, so the seed prompt stays the answer.",
    ),
)
NOTHING_FOUND: Final = VerdictText(
    "no improvement found",
    (
        "No candidate has a higher score than the seed prompt on the dev items, so the seed prompt stays the answer.",
        "More steps, more data or another optimizer model may find a better one.",
    ),
)
NOT_TESTED: Final = VerdictText(
    "not tested",
    (
        "The prompts were not compared on untouched items, so it is not known whether the best prompt is better.",
        "Its dev score is too optimistic, since that was used to choose it.",
        "With more rows, or with a file of test items, the next run can tell.",
    ),
)


def explain_verdict(result: RunResult) -> VerdictText:
    """Return the verdict of an optimization in words."""
    delta = result.test_delta
    if result.verdict == "improved":
        return IMPROVED
    if result.verdict == "not_tested":
        return NOT_TESTED
    if delta is None:
        return NOTHING_FOUND
    return WORSE if delta.mean < 0 and delta.p_value < ALPHA else NOT_SHOWN
