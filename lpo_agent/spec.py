"""What a run is told to do: each option declared once, beside its field, and checked.

The command line, the TOML file, the arguments of MCP tools, ``lpo_agent/options.py`` and
``docs/options.md`` are made from these declarations (see :mod:`lpo_agent.core.fields`).
"""

from __future__ import annotations

import tomllib
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
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

# The commands of `lpo` that have an option.
SEARCHING: Final = ("optimize", "mark")
SEARCHING_ALL: Final = (*SEARCHING, "bench")
SCORING: Final = ("optimize", "evaluate", "compare", "mark")
ALL: Final = (*SCORING, "bench")
ALL_AND_WORKER: Final = (*ALL, "worker")

# The groups that help and reference show them in.
DATA: Final = "data"
SEARCH: Final = "search"
MODELS: Final = "models and metric"
LIMITS: Final = "limits"

_data = partial(option, metavar="FILE", group=DATA, commands=SEARCHING)
_search = partial(option, group=SEARCH, commands=SEARCHING)
_models = partial(option, group=MODELS, commands=ALL)
_limits = partial(option, metavar="N", group=LIMITS, commands=ALL_AND_WORKER)
OWN: Final = "the method's own"

NO_MODEL: Final = "local:none"
"""A name for no model, where nothing will be asked of it: an assistant answers, or each run names its own."""

OF_SESSION: Final = (
    *("base_url", "optimizer_base_url", "prices", "rpm", "tpm", "input_tpm", "output_tpm", "concurrency", "timeout"),
    *("budget", "cache"),
)
"""Options that a session has in common for all of its runs."""


class RunSpec(OptionModel):
    """Everything that defines a run; what it finds depends on this and the models' answers only.

    None leaves a choice to the program, which says what it chose. Raises ConfigError that names the option.
    """

    prompt: Annotated[
        str, option(..., "the prompt, exactly; it may hold <edit> and <keep> tags", metavar="PROMPT", group="prompt")
    ]

    examples: tuple[Example, ...] = option((), "rows with input and target, beside those of files", group=DATA)
    data: Path | None = _data(
        None, "items; a search splits them by the seed into train, dev and test", commands=SCORING
    )
    train: Path | None = _data(None, "items to learn from")
    dev: Path | None = _data(None, "items to choose by")
    test: Path | None = _data(None, "items to judge by, once, at the end")

    method: str = _search(
        "auto", "how to search; auto tests what the optimizer model can do", choices=(AUTO, *METHODS.built_in)
    )
    locality: LocalityMode = _search(
        "enforce",
        "how marks bind in ape, apo and pe2: not made (off), thought in their place (think), advice as in the paper "
        "(nudge), nothing else can change (enforce)",
    )
    marker: str | None = _search(None, "who chooses the words to edit", choices=tuple(MARKERS.built_in), unset=OWN)
    proposer: str | None = _search(
        None,
        "who writes new words: a model, or edit operators that need none",
        choices=(AUTO, *PROPOSERS.built_in),
        unset=OWN,
    )
    branches: int | None = _search(None, "searches side by side", metavar="N", unset=OWN, ge=1, le=256)
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
        None, "most few-shot examples that the search may put in", metavar="N", unset=OWN, ge=0, le=64
    )
    must_pass: Path | None = _search(
        None, "examples on which the answer may not do worse than the seed prompt", metavar="FILE"
    )
    class_gate: float | None = _search(
        None,
        "most of the mean score that the answer may lose in one class of targets",
        metavar="X",
        unset="any",
        ge=0.0,
        le=1.0,
    )
    gain: float = _search(
        0.1,
        "gain on test that is looked for; a note says where test is too small to show it",
        metavar="X",
        gt=0.0,
        le=1.0,
    )
    method_options: dict[str, bool | int | float | str] = _search(
        {},
        "numbers of the method that differ from its defaults, such as beam=4",
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
        unset="by the data",
    )
    placement: Placement = _models("before", "where a prompt without {input} stands")
    max_tokens: int | None = _models(
        None, "longest answer", metavar="N", unit="tokens", unset="by the data", ge=1, le=100_000
    )
    extract: str | None = _models(None, "words that ask for the answer alone, in a second call", metavar="WORDS")
    extract_tokens: int = _models(10, "longest answer of that second call", metavar="N", unit="tokens", ge=1, le=10_000)
    temperature: float | None = _models(
        0.0,
        "temperature of the answers; `default` is the service's own",
        metavar="T",
        unset="the service's own",
        ge=0.0,
        le=2.0,
    )
    optimizer_temperature: float | None = _models(
        0.7,
        "temperature of the optimizer model; `default` is the service's own",
        metavar="T",
        unset="the service's own",
        ge=0.0,
        le=2.0,
    )
    prices: Path | None = _models(None, "TOML file with prices of models", metavar="FILE")

    seed: int = _limits(0, "seed of every random choice, the split included", commands=SCORING)
    rpm: float | None = _limits(None, "most requests a minute to a model", unset="found out", gt=0)
    tpm: float | None = _limits(None, "most tokens a minute to a model", unset="found out", gt=0)
    input_tpm: float | None = _limits(None, "most input tokens a minute, where they are counted apart", gt=0)
    output_tpm: float | None = _limits(None, "most output tokens a minute, where they are counted apart", gt=0)
    concurrency: int = _limits(128, "most calls at the same time", ge=1, le=4096)
    timeout: float | None = _limits(
        None, "longest wait for one answer", metavar="S", unit="seconds", unset="60, more for long answers", gt=0
    )
    budget: Budget = _limits(Budget(), "caps of the run", commands=ALL)
    cache: bool = _limits(default=True, text="use replies of other runs", commands=ALL)
    bus: str = _limits("memory", "memory, or nats://HOST:PORT to have workers score", metavar="BUS")

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
    """Return a checked spec; raises ConfigError that names the option that is wrong."""
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

    What is no option of a run is returned as it is, dashes as underscores. Raises ConfigError.
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
