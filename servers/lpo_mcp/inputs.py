"""From a tool's arguments to what a run is told to do: checked, capped, and never trusted."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent import data as data_files
from lpo_agent.core.budget import Budget
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.spec import make_spec
from lpo_mcp.settings import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lpo_agent.data import Example
    from lpo_agent.spec import RunSpec
    from lpo_mcp.settings import Settings


class ExampleIn(BaseModel):
    """One example: the input (text, or the prompt's variables by name) and the wanted answer."""

    model_config = ConfigDict(extra="forbid")

    input: str | dict[str, str] = Field(description="The input text, or an object with the prompt's variables.")
    target: str = Field(description="The wanted answer.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tool was asked for, as it came."""

    prompt: str
    examples: Sequence[ExampleIn] | None
    dataset_path: str | None
    metric: str | None
    model: str | None
    optimizer_model: str | None = None
    budget_calls: int | None = None
    budget_usd: float | None = None


def spec_of(settings: Settings, asked: Asked, **options: Any) -> RunSpec:
    """Return the checked spec with the server's own limits in it; raises InputError."""
    if len(asked.prompt) > settings.max_prompt_chars:
        raise ConfigError(f"prompt: longer than {settings.max_prompt_chars:,} characters, the server's cap")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return make_spec(
        {
            **given,
            "prompt": asked.prompt,
            "examples": examples_of(settings, asked),
            "metric": metric_of(settings, asked.metric),
            "model": model_of(settings, asked.model, "model"),
            "optimizer_model": optimizer_of(settings, asked.optimizer_model),
            "budget": budget_of(settings, asked).model_dump(),
            "concurrency": settings.concurrency,
        }
    )


def model_of(settings: Settings, name: str | None, argument: str) -> str:
    """Return a model that the operator allows; raises ConfigError."""
    wanted = name or settings.default_model()
    if wanted is None:
        allowed = ", ".join(settings.models) or "none: no provider's key is in the server's environment"
        raise ConfigError(f"{argument} is required; allowed are {allowed}")
    if not settings.allows(wanted):
        raise ConfigError(f"{argument}: {wanted!r} is not allowed here; allowed are {', '.join(settings.models)}")
    return wanted


def optimizer_of(settings: Settings, name: str | None) -> str | None:
    """Return the optimizer model, None for the task model."""
    return model_of(settings, name, "optimizer_model") if name else settings.optimizer_model


def metric_of(settings: Settings, name: str | None) -> str | None:
    """Return a metric by name; code never comes from an argument. Raises ConfigError."""
    if name is None or name in METRICS:
        return name
    if name not in settings.metrics:
        known = ", ".join((*METRICS, *settings.metrics))
        raise ConfigError(f"metric: {name!r} is not offered here; write one of {known}")
    return settings.metrics[name]


def budget_of(settings: Settings, asked: Asked) -> Budget:
    """Return the run's caps, none above the server's; raises ConfigError."""
    calls = settings.default_calls if asked.budget_calls is None else asked.budget_calls
    if calls > settings.max_calls:
        raise ConfigError(f"budget_calls: at most {settings.max_calls:,} on this server (got {calls:,})")
    if asked.budget_usd is not None and asked.budget_usd > settings.max_usd:
        raise ConfigError(f"budget_usd: at most {settings.max_usd:g} on this server (got {asked.budget_usd:g})")
    return Budget(calls=calls, usd=asked.budget_usd)


def examples_of(settings: Settings, asked: Asked) -> tuple[Example, ...]:
    """Return the examples, given or from a file under an allowed folder; raises InputError."""
    if (asked.examples is None) == (asked.dataset_path is None):
        raise DataError("give examples, or a dataset_path, and not both")
    if asked.dataset_path is not None:
        rows = data_files.read_examples(allowed_path(settings, asked.dataset_path))
    else:
        rows = [data_files.Example(input=each.input, target=each.target) for each in asked.examples or ()]
    if len(rows) > settings.max_rows:
        raise DataError(f"examples: at most {settings.max_rows:,} rows on this server (got {len(rows):,})")
    for number, row in enumerate(rows, start=1):
        size = len(row.target) + sum(map(len, row.input.values() if isinstance(row.input, dict) else (row.input,)))
        if size > settings.max_row_chars:
            raise DataError(f"examples, row {number}: longer than {settings.max_row_chars:,} characters")
    return tuple(rows)


def allowed_path(settings: Settings, name: str) -> Path:
    """Return the real path of a dataset; raises DataError unless it is a plain file under an allowed folder.

    What lies elsewhere is not told apart from what does not exist.
    """
    from pathlib import Path  # noqa: PLC0415 - a type for the rest of the module

    refusal = DataError("dataset_path: no such file in the folders that this server may read")
    if "\0" in name:
        raise refusal
    try:
        real = Path(name).expanduser().resolve(strict=True)
        roots = [root.resolve(strict=True) for root in settings.roots]
        info = real.stat()
    except (OSError, RuntimeError, ValueError):
        raise refusal from None
    if not any(real.is_relative_to(root) for root in roots) or not stat.S_ISREG(info.st_mode):
        raise refusal
    if info.st_size > settings.max_file_bytes:
        raise DataError(f"dataset_path: the file is larger than {settings.max_file_bytes:,} bytes, the server's cap")
    return real


def needs_consent(settings: Settings, budget: Budget) -> str | None:
    """Return what a person must agree to before such a run, None if nothing."""
    if budget.calls is not None and budget.calls > settings.approve_calls:
        return f"up to {budget.calls:,} model calls"
    if budget.usd is not None and budget.usd > settings.approve_usd:
        return f"up to ${budget.usd:.2f}"
    return None
