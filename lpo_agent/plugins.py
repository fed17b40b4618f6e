"""Tables of names: what the package brings along, and what installed packages add by entry points."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """The things of one ``kind`` that can be asked for by name.

    ``built_in`` maps a name to ``module:attribute``, which is imported when it is first asked for. Packages
    add names by the entry point group ``group``; a name of the package itself always wins.
    """

    kind: str
    group: str
    built_in: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Return all names, those of the package first."""
        return (*self.built_in, *(name for name in self._added() if name not in self.built_in))

    def load(self, name: str, own: Mapping[str, T] | None = None) -> T:
        """Return what goes by ``name``; ``own`` are the caller's additions. Raises ConfigError."""
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
