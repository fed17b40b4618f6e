"""Prevents the same work from being done twice at the same time (single flight): a second task waits for the first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import TracebackType


@dataclass(slots=True)
class InFlight:
    """The keys of work in progress. Use ``async with in_flight.exclusive(key)``."""

    _keys: dict[Hashable, anyio.Event | None] = field(init=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self._keys)

    def exclusive(self, key: Hashable) -> _Exclusive:
        """Return a context manager that only one task per key can be in at a time."""
        return _Exclusive(self._keys, key)


@dataclass(slots=True)
class _Exclusive:
    """The context manager of :meth:`InFlight.exclusive`; an event is created only if a second task has to wait."""

    keys: dict[Hashable, anyio.Event | None]
    key: Hashable

    async def __aenter__(self) -> None:
        while self.key in self.keys:
            done = self.keys[self.key] = self.keys[self.key] or anyio.Event()
            await done.wait()
        self.keys[self.key] = None

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = self.keys.pop(self.key)
        if done is not None:
            done.set()
