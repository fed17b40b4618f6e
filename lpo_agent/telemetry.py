"""Sends the events of a run to observers, the journal and the log.

The log contains ids and numbers, never prompts, rows or keys.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import anyio
import structlog

from lpo_agent.core.events import read_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.core.events import Event
    from lpo_agent.journal import Journal

PRIVATE: Final = frozenset({"seed_prompt", "rendered", "text"})
BATCH: Final = 256


def get_logger(name: str = "lpo_agent") -> structlog.stdlib.BoundLogger:
    """Return a structlog logger that writes to the standard library's logger of this name."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    )
    return logger


class EventStream:
    """Accepts the events of a run without blocking, writes them to the journal, and passes them to observers.

    Observers read from the journal, so a slow observer needs no memory.
    """

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal, self._run_id = journal, run_id
        self._waiting: list[Event] = []
        self._news, self._ended = anyio.Event(), False
        self._written = anyio.Event()
        self._over = False
        self._first = journal.last_event(run_id)
        self._log = get_logger().bind(run=run_id)

    def emit(self, event: Event) -> None:
        """Accept an event; never blocks."""
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """Declare that no event will follow."""
        self._ended = True
        self._news.set()

    async def pump(self) -> None:
        """Write the events to the journal, in batches, until :meth:`end`."""
        while self._waiting or not self._ended:
            if not self._waiting:
                self._news = anyio.Event()
                await self._news.wait()
                continue
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            await self._journal.append(self._run_id, [(event.name, event.model_dump_json()) for event in batch])
            for event in batch:
                self._write_log(event)
            self._tell()
        self.close()

    def close(self) -> None:
        """Tell observers that the run has ended."""
        self._over = True
        self._tell()

    def _tell(self) -> None:
        written, self._written = self._written, anyio.Event()
        written.set()

    def _write_log(self, event: Event) -> None:
        content = event.model_dump(mode="json", exclude=set(PRIVATE) | {"type"})
        self._log.info(event.name, **{key: value for key, value in content.items() if key != "run_id"})

    def observed(self) -> AsyncIterator[Event]:
        """Return an iterator over the run's events of this session, until the run has ended."""
        return _Observer(self, self._first)

    async def next_after(self, number: int) -> list[tuple[int, str]]:
        """Wait for events after the one with this number; return none if the run has ended and there are no more."""
        while True:
            written, over = self._written, self._over
            found = self._journal.events_after(self._run_id, number, BATCH)
            if found or over:
                return found
            await written.wait()


class _Observer:
    """The iterator of :meth:`EventStream.observed`; reads one event after another from the journal."""

    def __init__(self, stream: EventStream, after: int) -> None:
        self._stream, self._after = stream, after
        self._read: deque[tuple[int, str]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._read:
            self._read.extend(await self._stream.next_after(self._after))
        if not self._read:
            raise StopAsyncIteration
        self._after, body = self._read.popleft()
        return read_event(body)
