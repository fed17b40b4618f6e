"""Loads the rows of a benchmark's tasks, and splits published files as in PE2."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lpo_agent import data as data_files
from lpo_agent.bench.grid import example_path
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.splitting import split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpo_agent.bench.grid import Bench, BenchTask
    from lpo_agent.data import Example, Splits

SHUFFLE_SEED: Final = 42
"""Seed for splitting a published file into train, dev and test, as in PE2."""
SPLITS: Final = ("train", "dev", "test")


def load_splits(bench: Bench, task: BenchTask, folder: Path | None) -> Splits | None:
    """Return the task's rows, None if the data ``folder`` does not contain the task.

    Raises DataError if a file cannot be read, and ConfigError if the task needs a data folder and none is given.
    """
    if task.data is not None:
        path = example_path(task.data) if task.data.startswith("example:") else Path(task.data)
        parts = _fill_splits({"all": data_files.read_examples(path)}, bench.rows)
    elif task.folder is not None:
        if folder is None:
            raise ConfigError(f"task {task.name} needs a data folder; give --data-dir DIR or set LPO_BENCH_DATA")
        found = _read_folder(folder / task.folder)
        if found is None:
            return None
        parts = _fill_splits(found, bench.rows)
    else:
        raise ConfigError(f"task {task.name}: give it data or a folder")
    train, dev, test = (parts[name] for name in SPLITS)
    return split(train=train, dev=dev, test=test, keep_leaks=bench.keep_leaks)


def _read_folder(place: Path) -> dict[str, list[Example]] | None:
    """Return the examples in the files for train, dev and test, by split; those of one published file as "all"."""
    found: dict[str, list[Example]] = {}
    for name in SPLITS:
        for path in (place / f"{name}.jsonl", place / f"{name}.json", place / f"{name}.csv"):
            if path.exists():
                found[name] = data_files.read_examples(path)
    if found:
        return found
    options = [place.with_name(f"{place.name}.json"), place.with_name(f"{place.name}.jsonl")]
    options += sorted(place.glob("*.json")) if place.is_dir() else []
    for path in options:
        if path.exists():
            return {"all": data_files.read_examples(path)}
    return None


def _fill_splits(parts: dict[str, list[Example]], rows: Mapping[str, int]) -> dict[str, list[Example]]:
    """Return train, dev and test with at most ``rows`` each; missing ones are taken from "all", or from train."""
    if "all" not in parts and len(parts) == len(SPLITS):
        return {name: examples[: rows.get(name, len(examples))] for name, examples in parts.items()}
    source = "all" if "all" in parts else "train"
    if source not in parts:
        raise DataError(f"a task has only {', '.join(parts)}; it needs train, dev and test, or one file")
    left = _shuffled(parts.pop(source))
    splits = dict(parts)
    for name in SPLITS:
        if name not in splits:
            size = rows.get(name, len(left) // 3 if source == "all" else len(left) // 2)
            splits[name], left = left[:size], left[size:]
    return {name: splits[name][: rows.get(name, len(splits[name]))] for name in SPLITS}


def _shuffled(examples: Sequence[Example]) -> list[Example]:
    shuffled = list(examples)
    random.Random(SHUFFLE_SEED).shuffle(shuffled)
    return shuffled
