"""Prices of models: from a table in the package and, if the user gives one, a file of their own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lpo_agent.models.base import Usage

FREE = ("local:", "scripted:")
"""Beginnings of the names of models that cost nothing."""


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices by ``PROVIDER:NAME``: US dollars per million input tokens, and per million output tokens."""

    table: Mapping[str, tuple[float, float]]

    def cost(self, model: str, usage: Usage) -> float | None:
        """Return the cost in US dollars: None if the price is not known, 0 for models on this machine."""
        if model.startswith(FREE):
            return 0.0
        if model not in self.table:
            return None
        into, out = self.table[model]
        return (into * usage.input_tokens + out * usage.output_tokens) / 1e6


def load_prices(override: Path | None = None) -> Prices:
    """Return the package's prices, replaced or extended by those in the file ``override``.

    Raises ConfigError if the file cannot be read or is not a price file.
    """
    own = files("lpo_agent.models").joinpath("prices.toml").read_text(encoding="utf-8")
    table = _read(own, "prices.toml")
    if override is not None:
        try:
            table |= _read(override.read_text(encoding="utf-8"), str(override))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{override}: the price file cannot be read: {exc}") from None
    return Prices(table)


def _read(text: str, name: str) -> dict[str, tuple[float, float]]:
    try:
        models = tomllib.loads(text).get("models", {})
        return {model: (float(into), float(out)) for model, (into, out) in models.items()}
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError):
        form = '[models]\n"openai:NAME" = [INPUT, OUTPUT]'
        raise ConfigError(f"{name}: not a price file; it must look like: {form}") from None
