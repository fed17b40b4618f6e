"""Draws the convergence plot of a benchmark: the best dev score by calls, one panel per method, one line per arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lpo_agent.bench.grid import NONE, arm_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lpo_agent.bench.rows import BenchResult, CellRow

Curve = tuple[tuple[int, float], ...]

COLOURS: Final = {"off": "#444444", "think": "#0072b2", "nudge": "#e69f00", "enforce": "#009e73"}
OTHERS: Final = ("#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
STYLES: Final = {"off": "--", "think": "-.", "nudge": ":", "enforce": "-"}


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of step curves (points of calls and score), at every number of calls at which one has a step.

    The mean starts where the last curve starts, so that each curve has a value; a curve keeps its last
    value after its end.
    """
    start = max((curve[0][0] for curve in curves), default=0)
    points = sorted({calls for curve in curves for calls, _ in curve if calls >= start})
    return tuple((at, sum(_value(curve, at) for curve in curves) / len(curves)) for at in points)


def _value(curve: Curve, at: int) -> float:
    """Return the value of a step curve after ``at`` calls."""
    return max(best for calls, best in curve if calls <= at)


def plot(result: BenchResult, paths: Sequence[Path]) -> bool:
    """Draw the plot into files, in the formats of their suffixes; return False if there is nothing to draw.

    Raises ImportError if matplotlib (extra ``bench``) is not installed.
    """
    panels = _panels(result)
    if not panels:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.2 * len(panels) + 0.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (method, arms) in zip(axes, panels.items(), strict=True):
        _draw(axis, method, arms)
    axes[0].set_ylabel("best score on dev so far")
    axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    for path in paths:
        figure.savefig(path, dpi=150)
    return True


def _panels(result: BenchResult) -> dict[str, dict[str, list[Curve]]]:
    """Return the curves of all cells, by method and arm."""
    panels: dict[str, dict[str, list[Curve]]] = {}
    rows: list[CellRow] = [row for row in result.rows if row.curve]
    for row in rows:
        panels.setdefault(row.cell.method, {}).setdefault(arm_of(row.cell), []).append(row.curve)
    return panels


def _draw(axis: Any, method: str, arms: dict[str, list[Curve]]) -> None:
    order = [*STYLES, NONE]
    ordered = sorted(arms.items(), key=lambda pair: order.index(pair[0].partition("/")[0]))
    for number, (arm, curves) in enumerate(ordered):
        line = mean_curve(curves)
        kind = arm.partition("/")[0]
        colour = COLOURS.get(arm, OTHERS[number % len(OTHERS)])
        xs, ys = [calls for calls, _ in line], [best for _, best in line]
        axis.step(xs, ys, where="post", label=arm, color=colour, linestyle=STYLES.get(kind, "-"), linewidth=1.6)
    count = max(len(curves) for curves in arms.values())
    axis.set_title(f"{method} (mean of {count} searches)" if count > 1 else method, fontsize=10)
    axis.set_xlabel("calls")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
