"""The protocol that all metrics implement, and helpers to write their feedback for the critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lpo_agent.core.messages import Row

LONGEST_FEEDBACK: Final = 200


class Judgement(NamedTuple):
    """A value in [0, 1], and feedback for the critic (at most 200 characters)."""

    value: float
    feedback: str = ""


@runtime_checkable
class Metric(Protocol):
    """Anything that judges answers; raises MetricError for an item that it cannot judge."""

    @property
    def name(self) -> str:
        """The name of the metric in reports."""
        ...

    async def judge(self, output: str, row: Row) -> Judgement:
        """Judge the task model's ``output`` for ``row``."""
        ...


def short(text: str, limit: int = LONGEST_FEEDBACK) -> str:
    """Return ``text``, cut to ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def quoted(text: str) -> str:
    """Return the beginning of a text (60 characters) in quotes, for feedback."""
    return f'"{short(text.strip(), 60)}"'


def all_or_nothing(feedback: str, *, right: bool) -> Judgement:
    """Return the value 1 if the reply is right, otherwise 0 with the feedback."""
    return Judgement(1.0) if right else Judgement(0.0, short(feedback))
