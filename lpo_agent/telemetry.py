"""Events to observers, journal and logs. Logs carry ids and numbers, never prompts, rows or keys."""

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
    """Takes events without waiting; hands them to the journal first, then to one observer."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal, self._run_id = journal, run_id
        self._send, self._receive = anyio.create_memory_object_stream["Event"](math.inf)
        self._out, self._observed = anyio.create_memory_object_stream["Event"](math.inf)
        self._log = get_logger().bind(run=run_id)

    def emit(self, event: Event) -> None:
        """Take a fact; never blocks. Once a run is being cancelled and nobody listens, facts go nowhere."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._send.send_nowait(event)

    def end(self) -> None:
        """Say that no event will follow."""
        self._send.close()

    def close(self) -> None:
        """Let go of everything, also of events that nobody looked at."""
        for stream in (self._send, self._receive, self._out, self._observed):
            stream.close()

    async def pump(self) -> None:
        """Carry events on until :meth:`end`, in batches."""
        async with self._receive, self._out:
            async for event in self._receive:
                batch = [event]
                while len(batch) < BATCH and self._receive.statistics().current_buffer_used:
                    batch.append(self._receive.receive_nowait())
                await self._journal.append(self._run_id, [(e.name, e.model_dump_json()) for e in batch])
                for each in batch:
                    self._note(each)
                    self._out.send_nowait(each)

    def _note(self, event: Event) -> None:
        content = event.model_dump(mode="json", exclude=set(PRIVATE) | {"type"})
        self._log.info(event.name, **{key: value for key, value in content.items() if key != "run_id"})

    @property
    def observed(self) -> AsyncIterator[Event]:
        """The events, each once, until the run is over."""
        return self._observed
