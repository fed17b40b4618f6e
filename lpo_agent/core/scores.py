"""The outcome of scoring one item, and the score of a prompt over many items.

A failed call is a missing value, never a score of 0: an :class:`Unscored` item is counted separately and is
not part of the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from lpo_agent.core.stats import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Scored:
    """An item that was answered and judged: its score ``value`` in [0, 1], and the model's ``output``.

    ``feedback``: the metric's remark. ``cut_off``: the answer reached the limit of its length.
    """

    value: Annotated[float, Field(ge=0.0, le=1.0)]
    output: str
    feedback: str = ""
    cut_off: bool = False
    kind: Literal["scored"] = "scored"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Unscored:
    """An item without a score, and the reason."""

    reason: str
    kind: Literal["unscored"] = "unscored"


Outcome = Annotated[Scored | Unscored, Field(discriminator="kind")]


class Score(BaseModel):
    """The score of a prompt: mean over ``n`` scored items, in [0, 1], with a 95 % interval.

    ``mean`` and ``ci95`` are None if no item has a score. ``unscored``: the number of items without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float | None
    n: int
    unscored: int
    ci95: tuple[float, float] | None


def summarize(outcomes: Iterable[Scored | Unscored]) -> Score:
    """Return the :class:`Score` of a prompt from its outcomes."""
    values, missing = [], 0
    for outcome in outcomes:
        if isinstance(outcome, Scored):
            values.append(outcome.value)
        else:
            missing += 1
    if not values:
        return Score(mean=None, n=0, unscored=missing, ci95=None)
    return Score(mean=sum(values) / len(values), n=len(values), unscored=missing, ci95=mean_interval(values))


def values(outcomes: Mapping[str, Scored | Unscored]) -> dict[str, float]:
    """Return the scores of the items that have one."""
    return {item: outcome.value for item, outcome in outcomes.items() if isinstance(outcome, Scored)}


def paired(
    new: Mapping[str, Scored | Unscored], old: Mapping[str, Scored | Unscored], items: Sequence[str]
) -> list[float]:
    """Return new minus old, item by item, for the items scored in both, in the order of ``items``."""
    differences = []
    for item in items:
        one, other = new.get(item), old.get(item)
        if isinstance(one, Scored) and isinstance(other, Scored):
            differences.append(one.value - other.value)
    return differences
