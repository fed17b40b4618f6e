"""Which examples are shown to a critic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Trace


def failures_and_passes(traces: Sequence[Trace], failures: int, passes: int) -> tuple[list[Trace], list[Trace]]:
    """Return the first ``failures`` wrong and the first ``passes`` right answers (wrong: below one half)."""
    wrong = [trace for trace in traces if trace.result.value < 0.5]
    right = [trace for trace in traces if trace.result.value >= 0.5]
    return wrong[:failures], right[:passes]
