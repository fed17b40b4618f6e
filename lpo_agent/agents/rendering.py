"""Renders examples as data for meta-prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.prompts import fenced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.messages import Trace


def show_traces(traces: Sequence[Trace], limit: int = 600) -> str:
    """Return examples with their answers as a fenced block; each value is cut to ``limit`` characters."""
    blocks = ["\n".join(_lines(trace, limit)) for trace in traces]
    return fenced("\n\n".join(blocks), limit=100_000) if blocks else "(none)"


def _lines(trace: Trace, limit: int) -> Iterator[str]:
    for name, value in trace.row.variables.items():
        yield f"{name}: {_cut(value, limit)}"
    yield f"wanted: {_cut(trace.row.target, limit)}"
    yield f"given: {_cut(trace.result.output, limit)}{' [cut off at the limit of length]' * trace.result.cut_off}"
    if 0.0 < trace.result.value < 1.0:
        yield f"score: {trace.result.value:.2f}"
    if trace.result.feedback:
        yield f"remark: {_cut(trace.result.feedback, limit)}"


def _cut(value: str, limit: int) -> str:
    """Return a value without its middle if it is longer than ``limit``: answers often end with what matters."""
    if len(value) <= limit:
        return value
    return f"{value[: limit // 2]} [... {len(value) - limit} characters left out] {value[-limit // 2 :]}"


def several(n: int, what: str, *, different: bool = False) -> str:
    """Return a number of things in words, such as "one option" or "3 different options"."""
    return f"one {what}" if n == 1 else f"{n} {'different ' * different}{what}s"
