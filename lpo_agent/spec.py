"""What a run is told to do, checked, and the one place where the environment is read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lpo_agent.core.beam_options import BEAM_METHODS, BeamOptions, LocalityMode, beam_options_for
from lpo_agent.core.budget import Budget
from lpo_agent.core.messages import Placement
from lpo_agent.data import Example
from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDERS = ("openai", "anthropic", "local", "scripted")

MethodName = Literal["auto", "lpo", "local-search", "ape", "apo", "pe2"]
MarkerName = Literal["auto", "llm", "influence", "random", "manual"]
ProposerName = Literal["auto", "llm", "operators"]


class RunSpec(BaseModel):
    """Everything that defines a run; what it finds depends on this and the models' answers only.

    ``prompt`` may hold ``<edit>`` and ``<keep>`` tags. Rows come from ``examples`` or from files
    (``data``, split by seed, or ``train``/``dev``/``test``). None leaves a choice to the program,
    which says what it chose. ``host``: numbers of the methods ape, apo and pe2 that differ from their
    defaults, see :class:`lpo_agent.core.beam_options.BeamOptions`. ``extract``: words that ask for the answer
    alone in a second call, of at most ``extract_tokens``. ``rpm``, ``tpm``, ``input_tpm``,
    ``output_tpm``: requests and tokens a minute. ``timeout``: seconds for one answer. ``bus`` is "memory", or
    the address of a NATS server whose workers score.

    Of lpo and local-search alone: ``proposer`` (a model, or edit operators that need none), ``demos`` (most
    few-shot examples in the prompt), ``must_pass`` (a file with examples on which the answer may not do worse
    than the seed prompt) and ``class_gate`` (how much of the mean score it may lose in a class of targets).
    ``gain``: the gain on test that is looked for; where the split is too small to show it, a note says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    examples: tuple[Example, ...] = ()
    data: Path | None = None
    train: Path | None = None
    dev: Path | None = None
    test: Path | None = None
    metric: str | None = None
    model: str
    optimizer_model: str | None = None
    base_url: str | None = None
    optimizer_base_url: str | None = None
    method: MethodName = "auto"
    locality: LocalityMode = "enforce"
    marker: MarkerName | None = None
    proposer: ProposerName | None = None
    host: dict[str, bool | int | float | str] = Field(default_factory=dict)
    branches: int | None = Field(default=None, ge=1, le=256)
    steps: int | None = Field(default=None, ge=1, le=1000)
    proposals: int | None = Field(default=None, ge=1, le=64)
    race_items: int | None = Field(default=None, ge=2, le=100_000)
    demos: int = Field(default=0, ge=0, le=64)
    must_pass: Path | None = None
    class_gate: float | None = Field(default=None, ge=0.0, le=1.0)
    gain: float = Field(default=0.1, gt=0.0, le=1.0)
    placement: Placement = "before"
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    extract: str | None = None
    extract_tokens: int = Field(default=10, ge=1, le=10_000)
    temperature: float | None = Field(default=0.0, ge=0.0, le=2.0)
    optimizer_temperature: float | None = Field(default=0.7, ge=0.0, le=2.0)
    seed: int = 0
    rpm: float | None = Field(default=None, gt=0)
    tpm: float | None = Field(default=None, gt=0)
    input_tpm: float | None = Field(default=None, gt=0)
    output_tpm: float | None = Field(default=None, gt=0)
    concurrency: int = Field(default=128, ge=1, le=4096)
    timeout: float | None = Field(default=None, gt=0)
    budget: Budget = Budget()
    cache: bool = True
    bus: str = "memory"
    prices: Path | None = None

    @model_validator(mode="after")
    def _check_method(self) -> RunSpec:
        if self.method in BEAM_METHODS:
            check_numbers(self.method, self.host, self.locality)
        elif self.locality != "enforce":
            raise ValueError(
                f"--locality {self.locality} needs --method {', '.join(BEAM_METHODS[:-1])} or {BEAM_METHODS[-1]}"
            )
        elif other := self.host.keys() - {"tags"}:
            raise ValueError(
                f"{min(other)} is a number of {', '.join(BEAM_METHODS)}; --method {self.method} has only tags"
            )
        given = {name: getattr(self, name) for name in ("proposer", "demos", "must_pass", "class_gate")}
        if self.method in BEAM_METHODS and (own := [name for name, value in given.items() if value]):
            raise ValueError(f"--{own[0].replace('_', '-')} is for --method lpo or local-search, not {self.method}")
        return self

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
        if name is not None:
            split_model(name)
        return name


def check_numbers(method: str, given: Mapping[str, Any], locality: str) -> None:
    """Raise ValueError for numbers that the method does not have, or that make no sense together."""
    if unknown := given.keys() - BeamOptions.model_fields.keys():
        known = ", ".join(BeamOptions.model_fields)
        raise ValueError(f"{min(unknown)!r} is no number of a host method; known are {known}")
    try:
        numbers = beam_options_for(method, dict(given))
    except ValidationError as exc:
        error = exc.errors()[0]
        raise ValueError(f"{error['loc'][0]}: {error['msg'][:1].lower()}{error['msg'][1:]}") from None
    if numbers.tag_check == "off" and locality == "enforce":
        raise ValueError("tag_check off cannot be enforced; use it with --locality nudge")


def split_model(name: str) -> tuple[str, str]:
    """Return provider and name of ``PROVIDER:NAME``; raises ValueError."""
    provider, colon, rest = name.partition(":")
    if not colon or provider not in PROVIDERS or not rest:
        known = ", ".join(f"{known}:NAME" for known in PROVIDERS)
        raise ValueError(f"unknown model {name!r}; write one of {known}")
    return provider, rest


def make_spec(options: Mapping[str, Any]) -> RunSpec:
    """Return a checked spec; raises ConfigError that names the option that is wrong."""
    try:
        return RunSpec.model_validate(dict(options))
    except ValidationError as exc:
        raise ConfigError("; ".join(_complaint(error) for error in exc.errors())) from None


def _complaint(error: Any) -> str:
    where = "-".join(str(part).replace("_", "-") for part in error["loc"])
    if error["type"] == "missing":
        return f"--{where} is required"
    if error["type"] == "extra_forbidden":
        return f"unknown option {where!r}"
    text = error["msg"].removeprefix("Value error, ")
    if not where:
        return str(text)
    given = error["input"]
    shown = f" (got {given!r})" if isinstance(given, (str, int, float)) and len(str(given)) < 80 else ""
    return f"--{where}: {text[:1].lower()}{text[1:]}{shown}"


def load_config(path: Path) -> dict[str, Any]:
    """Return the options of a TOML file, dashes as underscores; raises ConfigError.

    ``budget-usd`` and its like may also stand in a table ``[budget]``.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config file") from None
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from None
    options = {key.replace("-", "_"): value for key, value in content.items()}
    for name in ("usd", "calls", "tokens", "seconds"):
        if (key := f"budget_{name}") in options:
            options.setdefault("budget", {})[name] = options.pop(key)
    return options
