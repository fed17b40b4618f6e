"""Distributes the events of a run: to the journal, then to the log, and to whoever observes the run.

Logs contain ids and numbers, but no prompts, no data rows and no keys.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Final

import anyio
import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.core.events import Event
    from lpo_agent.journal import Journal

PRIVATE: Final = frozenset({"seed_prompt", "rendered", "text"})
"""Fields of events that are not logged, because they contain prompts."""
MAX_BATCH: Final = 256
"""The most events that are written to the journal at once."""


def get_logger(name: str = "lpo_agent") -> structlog.stdlib.BoundLogger:
    """Return a structlog logger that writes to the standard library's logger ``name``, as ``key=value`` pairs."""
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
    """A queue of a run's events; a task that runs :meth:`pump` writes them to the journal, the log and one observer."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal, self._run_id = journal, run_id
        self._send, self._receive = anyio.create_memory_object_stream["Event"](math.inf)
        self._out, self._observed = anyio.create_memory_object_stream["Event"](math.inf)
        self._log = get_logger().bind(run=run_id)

    def emit(self, event: Event) -> None:
        """Add an event to the queue; never blocks. Events after the end of :meth:`pump` are dropped."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._send.send_nowait(event)

    def end(self) -> None:
        """Declare that no more events follow; :meth:`pump` then returns once the queue is empty."""
        self._send.close()

    def close(self) -> None:
        """Close the queues and drop the events in them."""
        for stream in (self._send, self._receive, self._out, self._observed):
            stream.close()

    async def pump(self) -> None:
        """Write the events to the journal, the log and the observer, in batches, until :meth:`end` is called."""
        async with self._receive, self._out:
            async for event in self._receive:
                batch = [event]
                while len(batch) < MAX_BATCH and self._receive.statistics().current_buffer_used:
                    batch.append(self._receive.receive_nowait())
                await self._journal.append(self._run_id, [(e.name, e.model_dump_json()) for e in batch])
                for each in batch:
                    self._write_log(each)
                    self._out.send_nowait(each)

    def _write_log(self, event: Event) -> None:
        content = event.model_dump(mode="json", exclude=set(PRIVATE) | {"type"})
        self._log.info(event.name, **{key: value for key, value in content.items() if key != "run_id"})

    @property
    def observed(self) -> AsyncIterator[Event]:
        """The events after they were written to the journal, each once, until the run is over; for one observer."""
        return self._observed
