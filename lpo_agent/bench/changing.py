"""Replaces lists and options of a benchmark by those of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lpo_agent.bench.grid import Bench, arm_key, cells, make_bench
from lpo_agent.core.fields import by_field
from lpo_agent.errors import ConfigError
from lpo_agent.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NUMBERS = "method_options"


def change_bench(
    bench: Bench,
    lists: Mapping[str, Sequence[str]],
    options: Mapping[str, Any],
    *,
    search_calls: int | None = None,
) -> Bench:
    """Return the benchmark with the given lists and options; raises ConfigError.

    ``lists``: tasks (by name), methods, localities, markers or seeds. ``options``: options of a run, which replace
    those of the benchmark and of its methods. If the new grid lacks the reference arm, it has no reference.
    """
    content = bench.model_dump() | {name: list(values) for name, values in lists.items()}
    if "tasks" in lists:
        known = {task.name: task.model_dump() for task in bench.tasks}
        if unknown := [name for name in lists["tasks"] if name not in known]:
            raise ConfigError(f"--tasks: {bench.name} has no task {unknown[0]!r}; it has {', '.join(known)}")
        content["tasks"] = [known[name] for name in lists["tasks"]]
    _replace_options(content, bench, options, lists)
    if search_calls is not None:
        content["search_calls"] = search_calls
    if lists.keys() & {"methods", "localities", "markers"}:
        content["reference"] = _still_there(content, bench.reference)
    return make_bench(content)


def _replace_options(
    content: dict[str, Any], bench: Bench, options: Mapping[str, Any], lists: Mapping[str, Sequence[str]]
) -> None:
    numbers = {name.replace("-", "_"): value for name, value in options.get(NUMBERS, {}).items()}
    rest = {name: value for name, value in options.items() if name != NUMBERS}
    content["options"] = by_field(RunSpec, bench.options) | rest
    content["settings"] = bench.settings | numbers
    content["method_settings"] = {
        method: {name: value for name, value in own.items() if name not in numbers}
        for method, own in bench.method_settings.items()
    }
    replaced = rest.keys() | ({"marker"} if "markers" in lists else set())
    content["method_options"] = {
        method: {name: value for name, value in own.items() if name.replace("-", "_") not in replaced}
        for method, own in bench.method_options.items()
    }


def _still_there(content: Mapping[str, Any], reference: str | None) -> str | None:
    """Return the reference if the grid still has it."""
    arms = {arm_key(cell) for cell in cells(make_bench({**content, "reference": None}))}
    return reference if reference in arms else None
