"""Benchmarks: runs a grid of tasks, methods, locality modes, markers and seeds, and compares the results.

:func:`read_bench` reads a grid and :func:`lpo_agent.open_bench` runs it; :func:`to_markdown`, :func:`to_csv` and
:func:`plot` make tables and curves of the result (:class:`lpo_agent.results.BenchResult`). Public
are the names in ``__all__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpo_agent.bench.changing import change_bench
    from lpo_agent.bench.grid import AT_ONCE, PRESETS, Bench, BenchTask, Cell, make_bench, read_bench
    from lpo_agent.bench.peers.catalog import PEERS
    from lpo_agent.bench.plotting import plot
    from lpo_agent.bench.running import BenchPlan, plan_bench
    from lpo_agent.bench.tables import to_csv, to_markdown

_HOMES = {
    "AT_ONCE": "grid",
    "PEERS": "peers.catalog",
    "PRESETS": "grid",
    "Bench": "grid",
    "BenchPlan": "running",
    "BenchTask": "grid",
    "Cell": "grid",
    "change_bench": "changing",
    "make_bench": "grid",
    "plan_bench": "running",
    "plot": "plotting",
    "read_bench": "grid",
    "to_csv": "tables",
    "to_markdown": "tables",
}
"""The module of each public name, below this package."""

__all__ = [
    "AT_ONCE",
    "PEERS",
    "PRESETS",
    "Bench",
    "BenchPlan",
    "BenchTask",
    "Cell",
    "change_bench",
    "make_bench",
    "plan_bench",
    "plot",
    "read_bench",
    "to_csv",
    "to_markdown",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: reading a grid's result takes none of what runs it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lpo_agent.bench' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    return getattr(import_module(f"lpo_agent.bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return what there is, also what was not imported yet."""
    return sorted({*globals(), *_HOMES})
