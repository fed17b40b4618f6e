"""Events to observers, journal and logs. Logs carry ids and numbers, never prompts, rows or keys."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

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
    """Return a structured logger on top of the standard library's, which decides where it goes."""
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
    """Takes a run's events without waiting, writes them into the journal, and lets any number of observers follow.

    Observers read from the journal, so one who is slow, or who never looks, costs no memory.
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
        """Take a fact; never blocks."""
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """Say that no event will follow."""
        self._ended = True
        self._news.set()

    async def pump(self) -> None:
        """Write events until :meth:`end`, in batches."""
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
        """Let observers know that the run is over."""
        self._over = True
        self._tell()

    def _tell(self) -> None:
        written, self._written = self._written, anyio.Event()
        written.set()

    def _write_log(self, event: Event) -> None:
        content = event.model_dump(mode="json", exclude=set(PRIVATE) | {"type"})
        self._log.info(event.name, **{key: value for key, value in content.items() if key != "run_id"})

    async def observed(self) -> AsyncIterator[Event]:
        """Yield the run's events of this session, each once, until the run is over."""
        at = self._first
        while True:
            written, over = self._written, self._over
            for number, body in self._journal.events_after(self._run_id, at, BATCH):
                at = number
                yield read_event(body)
            if at < self._journal.last_event(self._run_id):
                continue
            if over:
                return
            await written.wait()
