"""Prices of models: from a table in the package and, if the user gives one, a file of their own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from lpo_agent.errors import ConfigError
from lpo_agent.models.base import Usage
from lpo_agent.models.providers.base import PROVIDERS, traits_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lpo_agent.models.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices by ``PROVIDER:NAME``: US dollars per million input tokens, and per million output tokens.

    ``providers``: providers of the caller, by name. Models of a provider with the trait ``free`` cost nothing.
    """

    table: Mapping[str, tuple[float, float]]
    providers: Mapping[str, Provider] = field(default_factory=dict)
    _free: dict[str, bool] = field(init=False, default_factory=dict, compare=False)

    def cost(self, model: str, usage: Usage) -> float | None:
        """Return the cost in dollars, None where the price is not known."""
        if model in self.table:
            into, out = self.table[model]
            return (into * usage.input_tokens + out * usage.output_tokens) / 1e6
        return 0.0 if self._is_free(model.partition(":")[0]) else None

    def __contains__(self, model: str) -> bool:
        return self.cost(model, Usage()) is not None

    def _is_free(self, provider: str) -> bool:
        if provider not in self._free:
            known = provider in self.providers or provider in PROVIDERS
            self._free[provider] = known and traits_of(PROVIDERS.load(provider, self.providers)).free
        return self._free[provider]


def load_prices(override: Path | None = None, providers: Mapping[str, Provider] | None = None) -> Prices:
    """Return the package's prices with those of the ``override`` file on top; raises ConfigError."""
    own = files("lpo_agent.models").joinpath("prices.toml").read_text(encoding="utf-8")
    table = _read(own, "prices.toml")
    if override is not None:
        try:
            table |= _read(override.read_text(encoding="utf-8"), str(override))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{override}: the price file cannot be read: {exc}") from None
    return Prices(table, providers or {})


def _read(text: str, name: str) -> dict[str, tuple[float, float]]:
    try:
        models = tomllib.loads(text).get("models", {})
        return {model: (float(into), float(out)) for model, (into, out) in models.items()}
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError):
        form = '[models]\n"openai:NAME" = [INPUT, OUTPUT]'
        raise ConfigError(f"{name}: not a price file; it must look like: {form}") from None
