"""Turns the arguments of a tool into the spec of a run. Arguments are untrusted, so the settings limit each of them."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

import lpo_agent
from lpo_agent import plugins
from lpo_agent.errors import ConfigError, DataError
from lpo_mcp.settings import METRICS, WITHHELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent import Budget, Example, RunSpec
    from lpo_mcp.settings import Settings


class ExampleIn(BaseModel):
    """One example: the input (text, or the prompt's variables by name) and the wanted answer."""

    model_config = ConfigDict(extra="forbid")

    input: str | dict[str, str] = Field(description="The input text, or an object with the prompt's variables.")
    target: str = Field(description="The wanted answer.")


@dataclass(frozen=True, slots=True)
class RunArguments:
    """The common arguments of the tools that start runs, not checked yet."""

    prompt: str
    examples: Sequence[ExampleIn] | None
    dataset_path: str | None
    metric: str | None
    model: str | None
    optimizer_model: str | None = None
    budget_calls: int | None = None
    budget_usd: float | None = None


def spec_of(settings: Settings, given: RunArguments, **options: Any) -> RunSpec:
    """Return the spec of a run within the server's caps; ``options`` are further fields. Raises InputError."""
    if len(given.prompt) > settings.max_prompt_chars:
        raise ConfigError(f"prompt: longer than {settings.max_prompt_chars:,} characters, the server's cap")
    return lpo_agent.RunSpec.model_validate(
        {
            **{name: value for name, value in options.items() if value is not None},
            "prompt": given.prompt,
            "examples": examples_of(settings, given),
            "metric": metric_of(settings, given.metric),
            "model": model_of(settings, given.model, "model"),
            "optimizer_model": optimizer_of(settings, given.optimizer_model),
            "budget": budget_of(settings, given),
            "concurrency": settings.concurrency,
        }
    )


def model_of(settings: Settings, name: str | None, argument: str) -> str:
    """Return the model with this name, or the default one; raises ConfigError unless the operator allows it."""
    wanted = name or settings.default_model()
    if wanted is None:
        allowed = ", ".join(settings.models) or "none: no provider's key is in the server's environment"
        raise ConfigError(f"{argument} is required; allowed are {allowed}")
    if not settings.allows(wanted):
        raise ConfigError(f"{argument}: {wanted!r} is not allowed here; allowed are {', '.join(settings.models)}")
    return wanted


def optimizer_of(settings: Settings, name: str | None) -> str | None:
    """Return the optimizer model, None if it is the model that answers; raises ConfigError."""
    return model_of(settings, name, "optimizer_model") if name else settings.optimizer_model


def metric_of(settings: Settings, name: str | None) -> str | None:
    """Return the metric with this name; raises ConfigError unless the operator offers it, and for paths of code."""
    if name is None or (name != WITHHELD and name in plugins.METRICS):
        return name
    if name not in settings.metrics:
        known = ", ".join((*METRICS, *settings.metrics))
        raise ConfigError(f"metric: {name!r} is not offered here; write one of {known}")
    return settings.metrics[name]


def budget_of(settings: Settings, given: RunArguments) -> Budget:
    """Return the run's caps; raises ConfigError for one above the server's."""
    calls = settings.default_calls if given.budget_calls is None else given.budget_calls
    if calls > settings.max_calls:
        raise ConfigError(f"budget_calls: at most {settings.max_calls:,} on this server (got {calls:,})")
    if given.budget_usd is not None and given.budget_usd > settings.max_usd:
        raise ConfigError(f"budget_usd: at most {settings.max_usd:g} on this server (got {given.budget_usd:g})")
    return lpo_agent.Budget(calls=calls, usd=given.budget_usd)


def examples_of(settings: Settings, given: RunArguments) -> tuple[Example, ...]:
    """Return the examples, from the arguments or from a file in an allowed folder; raises InputError."""
    if (given.examples is None) == (given.dataset_path is None):
        raise DataError("give examples, or a dataset_path, and not both")
    if given.dataset_path is not None:
        rows = lpo_agent.read_examples(allowed_path(settings, given.dataset_path))
    else:
        rows = [lpo_agent.Example(input=each.input, target=each.target) for each in given.examples or ()]
    if len(rows) > settings.max_rows:
        raise DataError(f"examples: at most {settings.max_rows:,} rows on this server (got {len(rows):,})")
    for number, row in enumerate(rows, start=1):
        size = len(row.target) + sum(map(len, row.input.values() if isinstance(row.input, dict) else (row.input,)))
        if size > settings.max_row_chars:
            raise DataError(f"examples, row {number}: longer than {settings.max_row_chars:,} characters")
    return tuple(rows)


def allowed_path(settings: Settings, name: str) -> Path:
    """Return the real path of a dataset; raises DataError unless it is a plain file in an allowed folder.

    The error is the same whether a file is elsewhere or does not exist, so that callers cannot find out which.
    """
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


def needs_approval(settings: Settings, budget: Budget) -> str | None:
    """Return the spending that the user must approve before a run with this budget, None if nothing."""
    if budget.calls is not None and budget.calls > settings.approve_calls:
        return f"up to {budget.calls:,} model calls"
    if budget.usd is not None and budget.usd > settings.approve_usd:
        return f"up to ${budget.usd:.2f}"
    return None


def session_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the server's session: its limits, its caps, and the bus of its runs."""
    return {
        "model": settings.default_model() or lpo_agent.NO_MODEL,
        "rpm": settings.rpm,
        "tpm": settings.tpm,
        "concurrency": settings.concurrency,
        "bus": settings.bus,
        "budget": lpo_agent.Budget(calls=settings.server_calls, usd=settings.server_usd),
    }


def check_settings(settings: Settings) -> None:
    """Raise ConfigError for limits, caps, a model or a bus that a session would refuse."""
    lpo_agent.RunSpec.model_validate({"prompt": "-", **session_options(settings)})
