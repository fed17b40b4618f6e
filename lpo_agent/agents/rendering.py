"""Examples as data in a meta-prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.prompts import fenced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.messages import Trace


def show_traces(traces: Sequence[Trace], limit: int = 600) -> str:
    """Return examples with their answers as fenced data for a meta-prompt."""
    blocks = []
    for trace in traces:
        given = "; ".join(f"{name}: {value}" for name, value in trace.row.variables.items())
        lines = [
            f"input: {given[:limit]}",
            f"wanted: {trace.row.target[:limit]}",
            f"given: {trace.result.output[:limit]}",
        ]
        if trace.result.feedback:
            lines.append(f"remark: {trace.result.feedback[:limit]}")
        blocks.append("\n".join(lines))
    return fenced("\n\n".join(blocks), limit=40_000) if blocks else "(none)"
