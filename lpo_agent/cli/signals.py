"""A run at the terminal: watched to its end, ended cleanly by the first signal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskStatus

    from lpo_agent.history import Result
    from lpo_agent.runs.run import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal ended the run before it had a result. ``run_id`` is None if it had not begun."""

    def __init__(self, run_id: str | None) -> None:
        super().__init__("interrupted")
        self.run_id = run_id


class View(Protocol):
    """Shows a run while it happens."""

    def say(self, text: str) -> None:
        """Show one line; may be called from any thread."""
        ...

    async def follow(self, run: Run[Any]) -> None:
        """Show the run's events, and return when it is over."""
        ...


async def attend(
    opening: Callable[[Callable[[str], None]], AbstractAsyncContextManager[Run[Any]]], view: View
) -> Result:
    """Return the result of the run that ``opening`` opens, showing it in ``view`` meanwhile.

    ``opening`` gets the view's ``say``. The first SIGINT or SIGTERM cancels the run, which is then
    booked as interrupted, and raises Interrupted; a second one kills the process. Otherwise raises
    what the run raises, perhaps in an exception group.
    """
    run_id: str | None = None
    result: Result | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        async with opening(view.say) as run:
            run_id = run.run_id
            await view.follow(run)
            result = await run.wait()
        tasks.cancel_scope.cancel()
    if result is None:
        raise Interrupted(run_id)
    return result


async def cancel_on_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Cancel on the first SIGINT or SIGTERM; a second one kills the process."""
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            break
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    scope.cancel()
