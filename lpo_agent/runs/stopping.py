"""Ends the work of a run early when it is asked to stop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def until_stopped(stop: anyio.Event, tell: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``tell`` if the run is asked to stop while the block is active."""

    async def watch() -> None:
        await stop.wait()
        tell()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()
