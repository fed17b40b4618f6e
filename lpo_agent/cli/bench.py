"""`lpo bench`, and `lpo resume`, which continues benchmarks and runs alike."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lpo_agent import RunSpec, open_bench, open_resumed, options_of, read_environment
from lpo_agent.bench import AT_ONCE, change_bench, plan_bench, plot, read_bench, to_csv, to_markdown
from lpo_agent.cli import files, options, words
from lpo_agent.cli.commands import carry_out
from lpo_agent.cli.printing import print_json, write_result
from lpo_agent.errors import ConfigError
from lpo_agent.results import BenchResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.bench import Bench
    from lpo_agent.cli.options import Output
    from lpo_agent.results import Result

LISTS: Final = ("tasks", "methods", "localities", "markers", "seeds")
NOT_OF_RUN: Final = options.NOT_OF_RUN | {"bench", "data_dir", "cells", "search_calls", *LISTS}
CURVE: Final = "bench.svg"
OUTPUT: Final = frozenset({"command", "bench", "json", "quiet", "verbose", "dry_run"})
"""Options that do not affect the result."""


def bench(given: Mapping[str, Any]) -> int:
    """Run a benchmark, or with `--dry-run` print its number of cells and calls."""
    chosen = options.settings(given)
    grid, output = _grid(chosen), options.output(chosen)
    folder = Path(chosen["data_dir"]) if "data_dir" in chosen else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--data-dir {folder}: there is no such folder")
    if output.dry_run:
        return _print_plan(grid, folder, output)
    at_once = _whole_number("cells", chosen.get("cells", AT_ONCE))
    if output.out is not None:
        _make_folder(output.out)
    opening = partial(open_bench, grid, folder=folder, at_once=at_once, command=_command(given, grid))
    return carry_out(lambda say: opening(say=say), output, _write)


def resume(given: Mapping[str, Any]) -> int:
    """Continue an interrupted run or benchmark."""
    output = options.output(given)
    if output.out is not None and not output.out.is_dir():
        files.check_writable(output.out)
    return carry_out(lambda say: open_resumed(given["run"], say=say), output, _write)


def _command(given: Mapping[str, Any], grid: Bench) -> str:
    """Return the command line for the same benchmark, with the data folder if it came from the environment."""
    command = ["lpo", "bench", str(given["bench"])]
    flags = {found.name: found.flag for found in options_of(RunSpec)}
    for name, value in given.items():
        if name in OUTPUT:
            continue
        flag = flags.get(name, f"--{name.replace('_', '-')}")
        values = value if isinstance(value, list) else [value]
        command += [word for one in values for word in ([flag] if isinstance(one, bool) else [flag, str(one)])]
    needs_folder = any(task.folder is not None for task in grid.tasks) and "data_dir" not in given
    folder = read_environment().bench_data if needs_folder else None
    return " ".join([*([f"LPO_BENCH_DATA={shlex.quote(str(folder))}"] if folder else []), shlex.join(command)])


def _grid(chosen: Mapping[str, Any]) -> Bench:
    """Return the benchmark with the options of the command line; raises ConfigError."""
    lists = {name: options.split_list(str(chosen[name])) for name in LISTS if name in chosen}
    of_run = {name: value for name, value in chosen.items() if name not in NOT_OF_RUN}
    calls = _whole_number("search-calls", chosen["search_calls"]) if "search_calls" in chosen else None
    grid = read_bench(chosen["bench"])
    if "peers" in of_run.get("method_options", {}):
        rest = dict(of_run["method_options"])
        lists["methods"] = (*lists.get("methods", grid.methods), *options.split_list(str(rest.pop("peers"))))
        of_run["method_options"] = rest
    return change_bench(grid, lists, of_run, search_calls=calls)


def _whole_number(name: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"--{name}: must be a whole number from 1 (got {value!r})")
    return number


def _print_plan(grid: Bench, folder: Path | None, output: Output) -> int:
    plan = plan_bench(grid, folder=folder)
    if output.json:
        print_json(asdict(plan))
        return 0
    cells = words.count(plan.cells, "cell")
    print(f"{cells}, {plan.calls_low:,} to {plan.calls_high:,} calls, fewer where cells share them")
    if plan.missing_tasks:
        print(f"not in the data folder: {', '.join(plan.missing_tasks)}")
    return 0


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--out {place}: cannot be a folder: {exc.strerror}") from None
    files.check_writable(place / "bench.md")


def _write(output: Output, result: Result) -> None:
    """Write a benchmark's files to `--out`, or else to a new folder, whose name is printed."""
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
        return plot(result, [place / "bench.png", place / CURVE])
    except ImportError:
        if not output.quiet:
            print("no curve was drawn: matplotlib is missing (pip install 'lpo-agent[bench]')", file=sys.stderr)
        return False
