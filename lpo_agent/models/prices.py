"""What calls cost, where that is known."""

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


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million input and output tokens, by ``PROVIDER:NAME``."""

    table: Mapping[str, tuple[float, float]]

    def cost(self, model: str, usage: Usage) -> float | None:
        """Return the cost in dollars; None where the price is not known, 0 for models on this machine."""
        if model.startswith(FREE):
            return 0.0
        if model not in self.table:
            return None
        into, out = self.table[model]
        return (into * usage.input_tokens + out * usage.output_tokens) / 1e6


def load_prices(override: Path | None = None) -> Prices:
    """Return the package's prices with those of the ``override`` file on top; raises ConfigError."""
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
