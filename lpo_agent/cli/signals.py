"""Carries out a run at the terminal: shows its progress, and cancels it cleanly on Ctrl-C."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskStatus

    from lpo_agent import Run
    from lpo_agent.results import Result

    Opening = Callable[[Callable[[str], None]], AbstractAsyncContextManager[Run[Any]]]
    """A function that opens a run; its argument is a function that shows messages to the user."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedBySignal(Exception):
    """A signal ended the run before it had a result. ``run_id`` is None if the run had not begun."""

    def __init__(self, run_id: str | None) -> None:
        super().__init__("interrupted")
        self.run_id = run_id


class View(Protocol):
    """Shows the progress of a run."""

    def say(self, text: str) -> None:
        """Show one line; may be called from any thread."""
        ...

    async def follow(self, run: Run[Any]) -> None:
        """Show the run's events, and return when it is over."""
        ...


async def run_to_end(opening: Opening, view: View) -> Result:
    """Return the result of the run that ``opening`` opens; ``view`` shows its progress.

    The first SIGINT or SIGTERM cancels the run, which the journal records as interrupted, and raises StoppedBySignal;
    a second one kills the process. Otherwise raises the exception of the run, perhaps in an exception group.
    """
    run_id: str | None = None
    result: Result | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        async with opening(view.say) as run:
            run_id = run.run_id
            await view.follow(run)
            await run.ended()
        result = run.result  # a bug in the run was raised on leaving the block
        tasks.cancel_scope.cancel()
    if result is None:
        raise StoppedBySignal(run_id)
    return result


async def cancel_on_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Cancel ``scope`` on the first SIGINT or SIGTERM; a second one kills the process."""
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            break
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    scope.cancel()
