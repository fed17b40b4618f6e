"""The specification of a run: declares and checks each option once, as a field with help text, unit and range.

The command line, the TOML file, the arguments of MCP tools, ``lpo_agent/options.py`` and
``docs/options.md`` are made from these declarations (see :mod:`lpo_agent.core.fields`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import field_validator

from lpo_agent.core import fields
from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.budget import Budget
from lpo_agent.core.fields import Option, OptionModel, option, options_of
from lpo_agent.core.messages import Placement
from lpo_agent.data import Example
from lpo_agent.errors import ConfigError
from lpo_agent.plugins import AUTO, MARKERS, METHODS, METRICS, PROPOSERS, PROVIDERS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# The commands of `lpo` that have an option.
SEARCHING: Final = ("optimize", "mark")
SEARCHING_ALL: Final = (*SEARCHING, "bench")
SPLITTING: Final = (*SEARCHING, "headroom")
SCORING: Final = ("optimize", "evaluate", "compare", "mark", "headroom")
ALL: Final = (*SCORING, "bench")
ALL_AND_WORKER: Final = (*ALL, "worker")

# The groups that help and reference show them in.
DATA: Final = "data"
SEARCH: Final = "search"
MODELS: Final = "models and metric"
LIMITS: Final = "limits"

_data = partial(option, metavar="FILE", group=DATA, commands=SPLITTING)
_search = partial(option, group=SEARCH, commands=SEARCHING)
_models = partial(option, group=MODELS, commands=ALL)
_limits = partial(option, metavar="N", group=LIMITS, commands=ALL_AND_WORKER)
OWN: Final = "depends on the method"

NO_MODEL: Final = "local:none"
"""The name for no model: an assistant answers instead, or each run of a session names its own model."""

OF_SESSION: Final = (
    *("base_url", "optimizer_base_url", "prices", "rpm", "tpm", "input_tpm", "output_tpm", "concurrency", "timeout"),
    *("budget", "cache"),
)
"""The options that all runs of a session share."""


class RunSpec(OptionModel):
    """Everything that defines a run; its result depends only on this and on the answers of the models.

    With None the package chooses a value and reports it. Raises ConfigError that names the option.
    """

    prompt: Annotated[
        str, option(..., "the prompt, exactly; it may contain <edit> and <keep> tags", metavar="PROMPT", group="prompt")
    ]

    examples: tuple[Example, ...] = option((), "rows with input and target, in addition to those of files", group=DATA)
    data: Path | None = _data(
        None, "items; a search splits them into train, dev and test, depending on the seed", commands=SCORING
    )
    train: Path | None = _data(None, "items for the search")
    dev: Path | None = _data(None, "items to choose the best prompt")
    test: int | Path | None = _data(
        None,
        "items for the final test: a file, the highest number of them (the others go to train), or none",
        metavar="none|FILE|N",
        unset="40 % of --data",
    )

    method: str = _search(
        "auto", "how to search; auto tests what the optimizer model can do", choices=(AUTO, *METHODS.built_in)
    )
    locality: LocalityMode = _search(
        "enforce",
        "how ape, apo and pe2 use marks: no marks (off), reasoning instead of marks (think), marks as advice, as in "
        "the paper (nudge), only marked text can change (enforce)",
    )
    marker: str | None = _search(None, "what chooses the words to edit", choices=tuple(MARKERS.built_in), unset=OWN)
    proposer: str | None = _search(
        None,
        "what writes new words: a model, or edit operators, which need no model",
        choices=(AUTO, *PROPOSERS.built_in),
        unset=OWN,
    )
    branches: int | None = _search(
        None, "branches of the search, which run at the same time", metavar="N", unset=OWN, ge=1, le=256
    )
    steps: int | None = _search(
        None, "steps of each branch", metavar="N", unset=OWN, commands=SEARCHING_ALL, ge=1, le=1000
    )
    proposals: int | None = _search(
        None, "candidates of each step", metavar="N", unset=OWN, commands=SEARCHING_ALL, ge=1, le=64
    )
    race_items: int | None = _search(
        None, "training items that the best candidates are compared on", metavar="N", unset=OWN, ge=2, le=100_000
    )
    demos: int | None = _search(
        None,
        "highest number of few-shot examples that the search may add",
        metavar="N",
        unset=OWN,
        commands=SPLITTING,
        ge=0,
        le=64,
    )
    must_pass: Path | None = _search(
        None, "examples on which the best prompt may not score less than the seed prompt", metavar="FILE"
    )
    class_gate: float | None = _search(
        None,
        "highest loss of mean score that is allowed in one class of targets",
        metavar="X",
        unset="any",
        ge=0.0,
        le=1.0,
    )
    gain: float = _search(
        0.1,
        "gain on test that you look for; a note says if test is too small to show it",
        metavar="X",
        commands=SPLITTING,
        gt=0.0,
        le=1.0,
    )
    method_options: dict[str, bool | int | float | str] = _search(
        {},
        "settings of the method, such as beam=4",
        flag="set",
        metavar="NAME=VALUE",
        formerly="host",
        commands=SEARCHING_ALL,
    )

    model: Annotated[
        str,
        _models(
            ..., "model that answers the items, such as local:smollm2", metavar="PROVIDER:NAME", commands=ALL_AND_WORKER
        ),
    ]
    optimizer_model: str | None = _models(
        None,
        "model that marks, proposes and judges",
        metavar="PROVIDER:NAME",
        unset="the model that answers",
        commands=ALL_AND_WORKER,
    )
    base_url: str | None = _models(
        None, "server of the model that answers", metavar="URL", unset="the provider's", commands=ALL_AND_WORKER
    )
    optimizer_base_url: str | None = _models(
        None, "server of the optimizer model", metavar="URL", unset="the provider's", commands=ALL_AND_WORKER
    )
    metric: str | None = _models(
        None,
        f"how answers are scored: {', '.join(METRICS.built_in)}, FILE.py:FUNCTION or MODULE:FUNCTION",
        metavar="NAME",
        unset="depends on the data",
    )
    placement: Placement = _models("before", "where a prompt without {input} is put")
    max_tokens: int | None = _models(
        None, "longest answer", metavar="N", unit="tokens", unset="depends on the data", ge=1, le=100_000
    )
    extract: str | None = _models(None, "words that ask for the final answer only, in a second call", metavar="WORDS")
    extract_tokens: int = _models(10, "longest answer of that second call", metavar="N", unit="tokens", ge=1, le=10_000)
    temperature: float | None = _models(
        0.0,
        "temperature of the answers; `default`: that of the service",
        metavar="T",
        unset="that of the service",
        ge=0.0,
        le=2.0,
    )
    optimizer_temperature: float | None = _models(
        0.7,
        "temperature of the optimizer model; `default`: that of the service",
        metavar="T",
        unset="that of the service",
        ge=0.0,
        le=2.0,
    )
    optimizer_max_tokens: int | None = _models(
        None,
        "longest reply of the optimizer model when it criticizes and edits; reasoning counts",
        metavar="N",
        unit="tokens",
        unset="4000",
        ge=16,
        le=100_000,
    )
    prices: Path | None = _models(None, "TOML file with prices of models", metavar="FILE")

    seed: int = _limits(0, "seed of all random choices, including the split", commands=SCORING)
    rpm: float | None = _limits(
        None, "highest number of requests per minute to a model", unset="found automatically", gt=0
    )
    tpm: float | None = _limits(
        None, "highest number of tokens per minute to a model", unset="found automatically", gt=0
    )
    input_tpm: float | None = _limits(
        None, "highest number of input tokens per minute, if they are counted separately", gt=0
    )
    output_tpm: float | None = _limits(
        None, "highest number of output tokens per minute, if they are counted separately", gt=0
    )
    concurrency: int = _limits(128, "highest number of calls at the same time", ge=1, le=4096)
    timeout: float | None = _limits(
        None, "longest wait for one answer", metavar="S", unit="seconds", unset="60, more for long answers", gt=0
    )
    budget: Budget = _limits(Budget(), "caps of the run", commands=ALL)
    cache: bool = _limits(default=True, text="use replies of other runs", commands=ALL)
    bus: str = _limits("memory", "memory, or nats://HOST:PORT to let workers make the model calls", metavar="BUS")

    @field_validator("examples", mode="before")
    @classmethod
    def _read_rows(cls, given: Any) -> Any:
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            wanted = "give a list of rows with input and target"
            raise ValueError(f"{wanted}, not a {type(given).__name__}")  # noqa: TRY004 - pydantic reports this one
        return tuple(given)

    @field_validator("test", mode="before")
    @classmethod
    def _read_test(cls, given: Any) -> Any:
        if given == "none":
            return 0
        is_number = isinstance(given, str) and re.fullmatch(r"[+-]?[0-9]+", given)
        found = int(given) if is_number else Path(given) if isinstance(given, str) else given
        if isinstance(found, bool) or (isinstance(found, int) and found < 0):
            raise ValueError("write none, a file, or a number of items")
        return found

    @field_validator("temperature", "optimizer_temperature", mode="before")
    @classmethod
    def _read_default(cls, given: Any) -> Any:
        return None if given == "default" else given

    @field_validator("method_options", mode="before")
    @classmethod
    def _read_names(cls, given: Any) -> Any:
        return {f"{n}".replace("-", "_"): value for n, value in given.items()} if isinstance(given, dict) else given

    @field_validator("bus")
    @classmethod
    def _check_bus(cls, bus: str) -> str:
        wanted = "write memory, nats://HOST:PORT or tls://HOST:PORT"
        parts = urlsplit(bus)
        if bus != "memory" and not (parts.scheme in {"nats", "tls"} and parts.hostname):
            raise ValueError(wanted)
        try:
            _ = parts.port
        except ValueError:
            raise ValueError(f"its port is no number from 0 to 65535; {wanted}") from None
        return bus

    @field_validator("base_url", "optimizer_base_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        return url

    @field_validator("model", "optimizer_model")
    @classmethod
    def _check_model(cls, name: str | None) -> str | None:
        provider, colon, rest = (name or "PROVIDER:NAME").partition(":")
        if not (provider and colon and rest):
            raise ValueError(
                f"unknown model {name!r}; write one of {', '.join(f'{p}:NAME' for p in PROVIDERS.names())}"
            )
        return name


def make_spec(options: Mapping[str, Any]) -> RunSpec:
    """Return a checked spec; raises ConfigError that names the invalid option."""
    return RunSpec.model_validate(dict(options))


def option_of(name: str) -> Option:
    """Return an option of a run by its name, such as ``steps`` or ``budget_calls``."""
    return next(found for found in options_of(RunSpec) if found.name == name)


def argument(name: str, text: str | None = None, *, unset: str | None = None, **limits: float) -> FieldInfo:
    """Return an option's description and range for a tool's argument.

    A tool writes ``steps: Annotated[int | None, argument("steps")] = None``. ``text``,
    ``unset`` (what None means) and ``limits`` (ge, gt, le, lt) replace the option's own.
    """
    return fields.argument(option_of(name), text, unset=unset, **limits)


def load_config(path: Path, model: type[OptionModel] = RunSpec) -> dict[str, Any]:
    """Return the options of a TOML file under the names of a spec's fields (see :func:`fields.by_field`).

    Keys that are not options of a run are returned too, with underscores for dashes. Raises ConfigError.
    """
    try:
        return fields.by_field(model, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config file") from None
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from None
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from None
