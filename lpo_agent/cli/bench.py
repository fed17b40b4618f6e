"""`lpo bench`, and `lpo resume`, which goes on with benchmarks too."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lpo_agent import api
from lpo_agent.bench.grid import BenchTask, arm_key, cell_spec, cells, load_splits, make_bench, read_bench
from lpo_agent.bench.plotting import plot
from lpo_agent.bench.rows import BenchResult
from lpo_agent.bench.running import AT_ONCE
from lpo_agent.bench.tables import to_csv, to_markdown
from lpo_agent.cli import files, options, words
from lpo_agent.cli.commands import finish, print_json, write_result
from lpo_agent.core.fields import by_field, spellings
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.runs.estimate import estimate_calls
from lpo_agent.runs.runner import calls_of_test
from lpo_agent.runs.task import load_task
from lpo_agent.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.bench.grid import Bench
    from lpo_agent.cli.options import Output
    from lpo_agent.history import Result

LISTS: Final = ("tasks", "methods", "localities", "markers", "seeds")
OWN: Final = frozenset({"bench", "data_dir", "cells", "search_calls", "method_options", *LISTS})
CURVE: Final = "bench.svg"
OUTPUT: Final = frozenset({"command", "bench", "json", "quiet", "verbose", "dry_run"})
"""What is given and changes nothing in a result."""


def bench(given: Mapping[str, Any]) -> int:
    """Run a benchmark, or with `--dry-run` say what it would take."""
    chosen = options.settings(given)
    planned, output = _grid(chosen), options.output(chosen)
    folder = Path(chosen["data_dir"]) if "data_dir" in chosen else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--data-dir {folder}: there is no such folder")
    if output.dry_run:
        return _plan(planned, folder, output)
    at_once = _whole("cells", chosen.get("cells", AT_ONCE))
    if output.out is not None:
        _make_folder(output.out)
    opening = partial(api.open_bench, planned, folder=folder, at_once=at_once, command=_command(given, planned))
    return finish(lambda say: opening(say=say), output, _write)


def resume(given: Mapping[str, Any]) -> int:
    """Go on with an interrupted run or benchmark."""
    output = options.output(given)
    if output.out is not None and not output.out.is_dir():
        files.check_writable(output.out)
    return finish(lambda say: api.open_resumed(given["run"], say=say), output, _write)


def _command(given: Mapping[str, Any], planned: Bench) -> str:
    """Return the command line that asks for the same benchmark, with the data folder if the environment said it."""
    words = ["lpo", "bench", str(given["bench"])]
    known = spellings(RunSpec)
    for name, value in given.items():
        if name in OUTPUT:
            continue
        flag = known[name].flag if name in known else f"--{name.replace('_', '-')}"
        each = value if isinstance(value, list) else [value]
        words += [word for one in each for word in ([flag] if isinstance(one, bool) else [flag, str(one)])]
    found = any(task.folder is not None for task in planned.tasks) and "data_dir" not in given
    folder = read_environment().bench_data if found else None
    return " ".join([*([f"LPO_BENCH_DATA={shlex.quote(str(folder))}"] if folder else []), shlex.join(words)])


def _grid(chosen: Mapping[str, Any]) -> Bench:
    """Return the benchmark with the command line's words in place of its own; raises ConfigError."""
    found = read_bench(chosen["bench"])
    content = found.model_dump()
    for name in LISTS:
        if name in chosen:
            content[name] = [word.strip() for word in str(chosen[name]).split(",") if word.strip()]
    if "tasks" in chosen:
        content["tasks"] = [_task(found, name).model_dump() for name in content["tasks"]]
    rest = {name: value for name, value in chosen.items() if name not in OWN | options.OWN}
    content["options"] = by_field(RunSpec, found.options) | rest
    numbers = {name.replace("-", "_"): value for name, value in chosen.get("method_options", {}).items()}
    content["host"] = found.host | numbers
    for host in content["hosts"].values():
        for name in numbers:
            host.pop(name, None)
    said = rest.keys() | ({"marker"} if "markers" in chosen else set())
    for method, own in content["method_options"].items():
        kept = {name: value for name, value in own.items() if name.replace("-", "_") not in said}
        content["method_options"][method] = kept
    if "search_calls" in chosen:
        content["search_calls"] = _whole("search-calls", chosen["search_calls"])
    if chosen.keys() & {"methods", "localities", "markers"}:
        content["reference"] = _still(content, found.reference)
    return make_bench(content)


def _still(content: Mapping[str, Any], reference: str | None) -> str | None:
    """Return the reference if the grid still has it."""
    arms = {arm_key(cell) for cell in cells(make_bench({**content, "reference": None}))}
    return reference if reference in arms else None


def _task(found: Bench, name: str) -> BenchTask:
    for task in found.tasks:
        if task.name == name:
            return task
    raise ConfigError(f"--tasks: {found.name} has no task {name!r}; it has {', '.join(t.name for t in found.tasks)}")


def _whole(name: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"--{name}: must be a whole number from 1 (got {value!r})")
    return number


def _plan(planned: Bench, folder: Path | None, output: Output) -> int:
    """Say how many cells and calls a benchmark has."""
    place = folder or read_environment().bench_data
    material = {task.name: load_splits(planned, task, place) for task in planned.tasks}
    low = high = count = 0
    for cell in cells(planned):
        splits = material[cell.task]
        if splits is not None:
            spec = cell_spec(planned, cell)
            task = load_task(spec, "optimize", splits)
            least, most = estimate_calls(spec, task)
            if planned.search_calls is not None:
                cap = planned.search_calls + calls_of_test(task)
                least, most = min(least, cap), min(most, cap)
            low, high, count = low + least, high + most, count + 1
    missing = [name for name, splits in material.items() if splits is None]
    if output.json:
        print_json({"cells": count, "calls_low": low, "calls_high": high, "missing_tasks": missing})
        return 0
    print(f"{words.count(count, 'cell')}, {low:,} to {high:,} calls, fewer where cells share them")
    if missing:
        print(f"not in the data folder: {', '.join(missing)}")
    return 0


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--out {place}: cannot be a folder: {exc.strerror}") from None
    files.check_writable(place / "bench.md")


def _write(output: Output, result: Result) -> None:
    """Write a benchmark's files; where it was not said, into a new folder that is named."""
    if not isinstance(result, BenchResult):
        write_result(output, result)
        return
    place = output.out or Path(f"bench-{result.name}-{result.run_id}")
    _make_folder(place)
    drawn = _draw(result, place, output)
    files.write_text(place / "bench.md", to_markdown(result, CURVE if drawn else None))
    files.write_text(place / "bench.csv", to_csv(result))
    write_result(replace(output, out=place / "bench.json"), result)
    if not output.quiet:
        print(f"written to {place}", file=sys.stderr)


def _draw(result: BenchResult, place: Path, output: Output) -> bool:
    try:
        return plot(result, [place / "bench.png", place / "bench.svg"])
    except ImportError:
        if not output.quiet:
            print("no curve was drawn: matplotlib is missing (pip install 'lpo-agent[bench]')", file=sys.stderr)
        return False
