"""Reads the grid of a benchmark, lists its cells (one search each), and loads the data of its tasks.

A grid is a TOML file, such as the presets in ``presets/``. The command line can override all of it.
"""

from __future__ import annotations

import random
import re
import tomllib
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lpo_agent import data as data_files
from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.fields import by_field, field_of
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.plugins import AUTO, MARKERS, METHODS
from lpo_agent.runs.request import OwnParts
from lpo_agent.runs.task import check_method
from lpo_agent.search.methods.base import OPTIONAL
from lpo_agent.search.methods.choosing import full
from lpo_agent.spec import RunSpec, make_spec
from lpo_agent.splitting import split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lpo_agent.data import Example, Splits
    from lpo_agent.plugins import Table

PRESETS: Final = ("smoke", "local-small", "paper-math", "paper-bbh")
AT_ONCE: Final = 8
"""Cells that run at the same time, unless another number is given."""
SHUFFLE_SEED: Final = 42
"""Seed for splitting a published file into train, dev and test, as in PE2."""
SPLITS: Final = ("train", "dev", "test")
UNMARKED: Final = ("off", "think")
"""Locality modes in which nothing is marked."""
TASK_OPTIONS: Final = frozenset(
    {"prompt", "method", "locality", "seed", "model", "metric", "budget", "cache", "bus", "prices", "base_url"}
    | {"optimizer_base_url", "rpm", "tpm", "input_tpm", "output_tpm", "concurrency", "timeout"}
    | {"examples", "data", "train", "dev", "test"}
)
"""Options that must be the same for all methods, or their results could not be compared."""


def _check_name(table: Table[Any], name: str) -> str:
    if name != AUTO and name not in table:
        raise ValueError(f"there is no {table.kind} {name!r}; known are {', '.join(table.names())}")
    return name


MethodName = Annotated[str, AfterValidator(partial(_check_name, METHODS))]
MarkerName = Annotated[str, AfterValidator(partial(_check_name, MARKERS))]


class BenchTask(BaseModel):
    """A task: its rows, and its own prompt, metric and options if they differ from the benchmark's.

    ``data``: path of one file, which is shuffled and split as in PE2. ``folder``: name of a folder in
    the data folder, with files for train, dev and test or with one published file. A ``data`` path or
    a prompt that begins with "example:" names a file in this package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    data: str | None = None
    folder: str | None = None
    prompt: str | None = None
    metric: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


FORMER_NAMES: Final = {"host": "settings", "hosts": "method_settings"}
"""Names of fields in version 0.1, which grid files and the journal may still have, with their present names."""


class Bench(BaseModel):
    """A benchmark.

    ``methods``, ``localities``, ``markers``, ``seeds`` and ``tasks``: the axes of the grid. ``rows``: the
    most rows of each split. ``keep_leaks``: keep training rows that are also in dev or test.
    ``options``: options of `lpo optimize` for all cells. ``method_options``: options of one method, which
    override those; a file may also write them as ``[options.METHOD]``. ``settings``: settings (``--set``) of
    all beam-search methods (ape, apo, pe2); ``method_settings``: settings of one of them, which override
    those; a file may also write them as ``[settings.METHOD]``.
    ``search_calls``: the most calls of each search before its test. Answers from the journal count too, so
    that all methods have equal budgets. ``reference``: the arm to compare all others with, such as
    "pe2/nudge".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    methods: tuple[MethodName, ...]
    localities: tuple[LocalityMode, ...] = ("enforce",)
    markers: tuple[MarkerName, ...] = ("llm",)
    seeds: tuple[int, ...] = (0,)
    prompt: str | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    keep_leaks: bool = False
    search_calls: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)
    method_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    method_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tasks: tuple[BenchTask, ...]
    reference: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _lift(cls, content: Any) -> Any:
        """Move tables ``[options.METHOD]`` to ``method_options``, and ``[settings.METHOD]`` to ``method_settings``."""
        if not isinstance(content, dict):
            return content
        content = _lift_settings({str(FORMER_NAMES.get(name, name)): value for name, value in content.items()})
        if not isinstance(content.get("options"), dict):
            return content
        options = content["options"].items()
        tables = {n: v for n, v in options if isinstance(v, dict) and field_of(RunSpec, n) is None}
        rest = {name: value for name, value in content["options"].items() if name not in tables}
        given = content.get("method_options")
        both = given | tables if isinstance(given, dict) else given or tables
        return content | {"options": rest, "method_options": both}

    @field_validator("method_options", mode="before")
    @classmethod
    def _check_options(cls, given: Any) -> Any:
        for method, options in given.items() if isinstance(given, dict) else ():
            _check_name(METHODS, method)
            for name in options if isinstance(options, dict) else ():
                if (field := field_of(RunSpec, name)) is None:
                    raise ValueError(f"{method}: unknown option {name!r}")
                if field in TASK_OPTIONS:
                    raise ValueError(f"{method}: {name} is the same for all methods")
        return given

    @model_validator(mode="after")
    def _check_reference(self) -> Bench:
        known = dict.fromkeys(arm_key(cell) for cell in cells(self))
        if self.reference is not None and self.reference not in known:
            raise ValueError(f"reference: there is no arm {self.reference!r}; the grid has {', '.join(known)}")
        return self

    @field_validator("methods", "localities", "markers", "seeds", "tasks")
    @classmethod
    def _check_any(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if not given:
            raise ValueError("at least one is needed")
        if len({getattr(each, "name", each) for each in given}) < len(given):
            raise ValueError("a value is given twice")
        return given


def _lift_settings(content: dict[str, Any]) -> dict[str, Any]:
    settings, given = content.get("settings"), content.get("method_settings", {})
    if not isinstance(settings, dict) or not isinstance(given, dict):
        return content
    tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
    rest = {name: value for name, value in settings.items() if name not in tables}
    return content | {"settings": rest, "method_settings": given | tables}


class Cell(BaseModel):
    """One search of a benchmark. ``marker`` is "-" if nothing is marked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    method: str
    locality: str
    marker: str
    seed: int

    @property
    def name(self) -> str:
        """The cell's name, as used in file names and run ids."""
        return f"{self.task}.{self.method}.{self.locality}.{self.marker}.{self.seed}"


def cells(bench: Bench) -> Iterator[Cell]:
    """Yield the cells of the grid, each once, task by task.

    Methods without locality modes have one cell, with "enforce", in place of one for each mode.
    """
    for task in bench.tasks:
        for method in bench.methods:
            localities = bench.localities if has_locality(method) else ("enforce",)
            for locality in localities:
                markers = ("-",) if locality in UNMARKED else _markers(bench, method)
                for marker in markers:
                    for seed in bench.seeds:
                        yield Cell(task=task.name, method=method, locality=locality, marker=marker, seed=seed)


def has_locality(method: str) -> bool:
    """Tell whether a method searches with several kinds of locality."""
    return method != AUTO and "locality" in full(METHODS.load(method)).reads


def _markers(bench: Bench, method: str) -> Sequence[str]:
    own = bench.method_options.get(method, {}).get("marker")
    return bench.markers if own is None else (str(own),)


def arm_of(cell: Cell) -> str:
    """Return a cell's arm: its locality mode, and its marker unless that is "llm", such as "enforce/random"."""
    return cell.locality if cell.marker in {"-", "llm"} else f"{cell.locality}/{cell.marker}"


def arm_key(cell: Cell) -> str:
    """Return method and arm of a cell, such as "pe2/nudge"."""
    return f"{cell.method}/{arm_of(cell)}"


def cell_spec(bench: Bench, cell: Cell) -> RunSpec:
    """Return the specification of the cell's run, without its rows; raises ConfigError if it is not valid."""
    task = next(task for task in bench.tasks if task.name == cell.task)
    numbers = bench.settings | bench.method_settings.get(cell.method, {}) if has_locality(cell.method) else {}
    own = bench.method_options.get(cell.method, {})
    common = by_field(RunSpec, bench.options) | by_field(RunSpec, task.options)
    unread = set() if cell.method == AUTO else set(OPTIONAL) - set(full(METHODS.load(cell.method)).reads)
    options = {name: value for name, value in common.items() if name not in unread} | by_field(RunSpec, own)
    given = options | {
        "prompt": task_prompt(bench, task),
        "method": cell.method,
        "locality": cell.locality,
        "marker": None if cell.marker == "-" else cell.marker,
        "seed": cell.seed,
        "method_options": numbers | options.get("method_options", {}),
    }
    if task.metric is not None:
        given["metric"] = task.metric
    if "model" not in given:
        raise ConfigError("--model is required: which model answers the items?")
    spec = make_spec(given)
    check_method(spec, OwnParts())
    return spec


def task_prompt(bench: Bench, task: BenchTask) -> str:
    """Return the text of the task's seed prompt; raises ConfigError if there is none."""
    text = task.prompt if task.prompt is not None else bench.prompt
    if text is None:
        raise ConfigError(f"task {task.name} has no prompt; give it one, or the benchmark")
    if text.startswith("example:"):
        return _example(text).read_text(encoding="utf-8")
    return text


def _example(name: str) -> Path:
    return Path(str(files("lpo_agent"))) / "examples" / name.removeprefix("example:")


def read_bench(source: str) -> Bench:
    """Return the benchmark in a preset or a TOML file.

    ``source``: the preset's name or the file's path. Raises ConfigError if it does not exist or is not valid.
    """
    if source in PRESETS:
        name, text = source, files(__package__).joinpath("presets", f"{source}.toml").read_text(encoding="utf-8")
    else:
        path = Path(source)
        if path.suffix != ".toml":
            raise ConfigError(f"{source}: no such benchmark; give {', '.join(PRESETS)} or a TOML file")
        try:
            name, text = path.stem, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{source}: cannot be read: {exc}") from None
    try:
        return make_bench(tomllib.loads(text) | {"name": re.sub(r"[^A-Za-z0-9_-]", "-", name)})
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{source}: not valid TOML: {exc}") from None


def make_bench(content: Mapping[str, Any]) -> Bench:
    """Return a benchmark from the content of a TOML file; raises ConfigError that names the wrong field."""
    try:
        return Bench.model_validate(dict(content))
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ["benchmark", ".".join(str(part) for part in error["loc"])]
        text = error["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{', '.join(part for part in where if part)}: {text}") from None


def load_splits(bench: Bench, task: BenchTask, folder: Path | None) -> Splits | None:
    """Return the task's rows, None if the data ``folder`` does not contain the task.

    Raises DataError if a file cannot be read, and ConfigError if the task needs a data folder and none is given.
    """
    if task.data is not None:
        path = _example(task.data) if task.data.startswith("example:") else Path(task.data)
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
