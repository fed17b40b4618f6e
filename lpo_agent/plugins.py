"""The plug-in tables: providers, methods, markers, proposers and metrics by name.

Each table has the built-in names and those that installed packages add with entry points. The interfaces that plug-ins
implement are in :mod:`lpo_agent.models.providers.base`, :mod:`lpo_agent.search.methods.base`,
:mod:`lpo_agent.agents.base` and :mod:`lpo_agent.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MARKERS", "METHODS", "METRICS", "PROPOSERS", "PROVIDERS", "Table"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """The plug-ins of one ``kind``, by name.

    ``built_in`` maps a name to ``module:attribute``, which is imported when the name is first used. Installed packages
    add names with the entry point group ``group``; they cannot replace a built-in name.
    """

    kind: str
    group: str
    built_in: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Return all names, the built-in ones first."""
        return (*self.built_in, *(name for name in self._added() if name not in self.built_in))

    def load(self, name: str, own: Mapping[str, T] | None = None) -> T:
        """Return the plug-in with this name; ``own``: further plug-ins, of the caller. Raises ConfigError."""
        if own and name in own:
            return own[name]
        place = self.built_in.get(name)
        if place is not None:
            module, _, attribute = place.partition(":")
            return cast("T", getattr(import_module(module), attribute))
        if (entry := self._added().get(name)) is not None:
            return self._load_entry(entry)
        known = ", ".join((*self.names(), *(own or ())))
        raise ConfigError(f"unknown {self.kind} {name!r}; known are {known}")

    def __contains__(self, name: str) -> bool:
        return name in self.built_in or name in self._added()

    def _added(self) -> dict[str, metadata.EntryPoint]:
        return {entry.name: entry for entry in metadata.entry_points(group=self.group)}

    def _load_entry(self, entry: metadata.EntryPoint) -> T:
        try:
            found: Any = entry.load()
        except Exception as exc:  # noqa: BLE001 - the code of another package runs here, and may raise anything
            raise ConfigError(
                f"{self.kind} {entry.name!r}: {entry.value} cannot be imported: {type(exc).__name__}: {exc}"
            ) from None
        return cast("T", found() if isinstance(found, type) else found)


AUTO: Final = "auto"
"""The name that lets the package choose."""
OWN: Final = "own"
"""The name that a spec has for an object of the caller."""

PROVIDERS: Final[Table[Any]] = Table(
    "provider",
    "lpo_agent.providers",
    {
        "openai": "lpo_agent.models.providers.openai:PROVIDER",
        "anthropic": "lpo_agent.models.providers.anthropic:PROVIDER",
        "local": "lpo_agent.models.providers.local:PROVIDER",
        "scripted": "lpo_agent.models.providers.scripted:PROVIDER",
    },
)
METHODS: Final[Table[Any]] = Table(
    "method",
    "lpo_agent.methods",
    {
        "lpo": "lpo_agent.search.methods.pool:LPO",
        "local-search": "lpo_agent.search.methods.pool:LOCAL_SEARCH",
        "ape": "lpo_agent.search.methods.beam:APE",
        "apo": "lpo_agent.search.methods.beam:APO",
        "pe2": "lpo_agent.search.methods.beam:PE2",
    },
)
MARKERS: Final[Table[Any]] = Table(
    "marker",
    "lpo_agent.markers",
    {
        "auto": "lpo_agent.agents.marker:quoting_marker",
        "llm": "lpo_agent.agents.marker:quoting_marker",
        "influence": "lpo_agent.agents.marker:influence_marker",
        "random": "lpo_agent.agents.marker:random_marker",
        "manual": "lpo_agent.agents.marker:manual_marker",
    },
)
PROPOSERS: Final[Table[Any]] = Table(
    "proposer",
    "lpo_agent.proposers",
    {
        "llm": "lpo_agent.agents.proposer:llm_proposer",
        "operators": "lpo_agent.agents.operators:operator_proposer",
    },
)
METRICS: Final[Table[Any]] = Table(
    "metric",
    "lpo_agent.metrics",
    {
        "exact": "lpo_agent.metrics.rules:EXACT",
        "normalized": "lpo_agent.metrics.rules:NORMALIZED",
        "contains": "lpo_agent.metrics.rules:CONTAINS",
        "choice": "lpo_agent.metrics.choice:CHOICE",
        "numeric": "lpo_agent.metrics.rules:NUMERIC",
        "regex": "lpo_agent.metrics.rules:REGEX",
        "f1": "lpo_agent.metrics.rules:F1",
        "json": "lpo_agent.metrics.rules:JSON",
        "judge": "lpo_agent.metrics.judges:JUDGE",
    },
)
