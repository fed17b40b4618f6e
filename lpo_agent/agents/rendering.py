"""Renders examples as data for meta-prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.prompts import fenced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpo_agent.core.messages import Trace


def show_traces(traces: Sequence[Trace], limit: int = 600) -> str:
    """Return examples with their answers as a fenced block; each value is cut to ``limit`` characters."""
    blocks = []
    for trace in traces:
        lines = [
            f"input: {_given(trace.row.variables)[:limit]}",
            f"wanted: {trace.row.target[:limit]}",
            f"given: {trace.result.output[:limit]}",
        ]
        if trace.result.feedback:
            lines.append(f"remark: {trace.result.feedback[:limit]}")
        blocks.append("\n".join(lines))
    return fenced("\n\n".join(blocks), limit=40_000) if blocks else "(none)"


def _given(variables: Mapping[str, str]) -> str:
    """Return the variables with their names; the only variable of the usual name ``input`` needs none."""
    if variables.keys() == {"input"}:
        return variables["input"]
    return "; ".join(f"{name}: {value}" for name, value in variables.items())
