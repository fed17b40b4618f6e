"""The protocol that all metrics implement, and helpers to write their feedback for the critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model

LONGEST_FEEDBACK: Final = 200
OWN_FEEDBACK: Final = 1_000
"""Characters of the feedback of a metric of the caller, which may know much about what went wrong."""


class Judgement(NamedTuple):
    """A value in [0, 1], and feedback for the critic (at most 200 characters; 1,000 from a metric of the caller)."""

    value: float
    feedback: str = ""


@runtime_checkable
class Metric(Protocol):
    """Judges answers. An attribute ``name`` (str), if there is one, is the metric's name in reports."""

    async def judge(self, output: str, row: Row) -> Judgement:
        """Judge the task model's ``output`` for ``row``; raises MetricError if the item cannot be judged.

        An item for which the method raises anything is unscored, with the reason; it never counts as wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class MetricSetting:
    """What a run knows that a metric may need.

    ``labels`` are the possible answers (empty: there is no such list), ``judge`` is the model that judges
    answers, and ``pattern`` is a regular expression.
    """

    labels: tuple[str, ...] = ()
    judge: Model | None = None
    pattern: str | None = None


@runtime_checkable
class NeedsSetting(Protocol):
    """A metric in the table that must first be told about the run."""

    def set_up(self, setting: MetricSetting) -> Metric:
        """Return the metric that judges this run's answers; raises ConfigError if something is missing."""
        ...


def name_of(metric: Metric) -> str:
    """Return the metric's name in reports: its attribute ``name``, or the name of its class."""
    name = getattr(metric, "name", None)
    return name if isinstance(name, str) else type(metric).__name__


def short(text: str, limit: int = LONGEST_FEEDBACK) -> str:
    """Return ``text``, cut to ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def quoted(text: str) -> str:
    """Return the beginning of a text (60 characters) in quotes, for feedback."""
    return f'"{short(text.strip(), 60)}"'


def all_or_nothing(feedback: str, *, right: bool) -> Judgement:
    """Return the value 1 if the reply is right, otherwise 0 with the feedback."""
    return Judgement(1.0) if right else Judgement(0.0, short(feedback))
