"""The run manager: starts runs in the background, follows them, and returns them to the tools.

A run continues after the call that started it, and is stored in the journal. Tools, resources and tasks use the
manager. A run belongs to its owner (the token's subject over HTTP, None on stdio); nobody else can see it.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio

import lpo_agent
from lpo_agent.errors import BudgetExceeded, ConfigError, JournalError, LpoError, leaves
from lpo_agent.events import RunState, advance
from lpo_mcp.arguments import session_options
from lpo_mcp.views import RunLine, RunList, RunView, ended_view, progress_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup, TaskStatus

    from lpo_agent import Environment, Event, Run, RunSpec, Session, StoredRun
    from lpo_agent.results import Result
    from lpo_mcp.settings import Settings

GUIDED: Final = "guided"
KINDS: Final = frozenset({"optimize", "evaluate", "compare", "mark", GUIDED})
"""The kinds of runs that the tools know."""
EPSILON: Final = 1e-6
"""The smallest step of the reported progress, which must always increase."""
INTERNAL_ERROR: Final = "internal error; the server's log has the details"

Kind = Literal["optimize", "evaluate", "compare", "mark"]
Report = Callable[[float, float | None, str], Awaitable[None]]
"""A function for progress: the part that is done, the total, and a message."""

_log = logging.getLogger("lpo_mcp")


@dataclass(slots=True)
class LiveRun:
    """A run in progress in this process. ``changed`` is set, and replaced, whenever its state changes."""

    run: Run[Any]
    kind: str
    state: RunState = field(default_factory=RunState)
    changed: anyio.Event = field(default_factory=anyio.Event)
    cancelled: bool = False
    over: bool = False

    def note(self, event: Event) -> None:
        """Apply an event to the state."""
        self.state = advance(self.state, event)
        self.wake()

    async def news(self, heartbeat: float) -> None:
        """Wait until a step or a phase ends, or the run does, at most ``heartbeat`` seconds."""
        before = (self.state.steps_done, self.state.phase)
        with anyio.move_on_after(heartbeat):
            while not self.over and before == (self.state.steps_done, self.state.phase):
                await self.changed.wait()

    def wake(self) -> None:
        """Wake the tasks that wait for a change."""
        self.changed.set()
        self.changed = anyio.Event()

    async def cancel(self) -> None:
        """Cancel the run, and wait until the journal records this."""
        self.cancelled = True
        await self.run.cancel()
        while not self.over:
            await self.changed.wait()


class SessionOnDemand:
    """Opens the session when it is first needed, and keeps it open until ``tasks`` end.

    Opening it imports most of the package; a client that only lists the tools should not have to wait for that.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Session]], tasks: TaskGroup) -> None:
        self._opening, self._tasks = opening, tasks
        self._session: Session | None = None
        self._lock = anyio.Lock()

    async def get(self) -> Session:
        """Return the session; raises LpoError if it cannot be opened, and tries again with the next call."""
        async with self._lock:
            if self._session is None:
                self._session = await self._tasks.start(self._hold)
            return self._session

    async def _hold(self, *, task_status: TaskStatus[Session]) -> None:
        async with self._opening() as session:
            task_status.started(session)
            await anyio.sleep_forever()


@asynccontextmanager
async def open_manager(
    settings: Settings, env: Environment, changed: Callable[[str], Awaitable[None]]
) -> AsyncIterator[RunManager]:
    """Open the manager. At the end of the block, runs in progress are interrupted; they can be resumed.

    ``changed`` is called with the id of each run that has ended.
    """

    def opening() -> AbstractAsyncContextManager[Session]:
        return lpo_agent.open_session(env=env, say=_log.warning, **session_options(settings))

    async with anyio.create_task_group() as tasks:
        try:
            yield RunManager(settings, SessionOnDemand(opening, tasks), tasks, changed)
        finally:
            tasks.cancel_scope.cancel()


class RunManager:
    """Starts, follows, cancels and resumes runs. Use :func:`open_manager`."""

    def __init__(
        self, settings: Settings, session: SessionOnDemand, tasks: TaskGroup, changed: Callable[[str], Awaitable[None]]
    ) -> None:
        self.settings = settings
        self._session, self._tasks, self._changed = session, tasks, changed
        self._live: dict[str, LiveRun] = {}
        self._starting = 0
        self._errors: dict[str, str] = {}

    async def session(self) -> Session:
        """Return the server's session; raises LpoError if it cannot be opened."""
        return await self._session.get()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start work that continues after the current request, at most until the server ends."""
        self._tasks.start_soon(work)

    async def start(
        self, spec: RunSpec, owner: str | None, *, kind: Kind = "optimize", other_prompt: str | None = None
    ) -> str:
        """Start a run and return its id; raises InputError for wrong input, before any call."""
        with self._place():
            session = await self.session()
            run = await session.start(spec, kind=kind, other_prompt=other_prompt, owner=owner)
            return self._follow(run, kind)

    async def resume(self, run_id: str, owner: str | None) -> str:
        """Continue a run that was interrupted or stopped; raises ConfigError if the run cannot be continued."""
        stored = await self.read(run_id, owner)
        with self._place():
            run = await (await self.session()).resume(run_id)
            return self._follow(run, stored.kind)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Count a run that is being started; raises ConfigError if there are as many as the server allows."""
        runs = len(self._live) + self._starting
        if runs >= self.settings.max_runs:
            raise ConfigError(f"{runs} runs are going on, the server's cap; wait for one or cancel one")
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    def _follow(self, run: Run[Any], kind: str) -> str:
        self._live[run.run_id] = live = LiveRun(run, kind)
        self._errors.pop(run.run_id, None)
        self._tasks.start_soon(self._drive, live)
        return run.run_id

    async def _drive(self, live: LiveRun) -> None:
        """Follow a run until it ends. An exception of the run is stored for its view, and affects no other run."""
        run_id = live.run.run_id
        try:
            async for event in live.run:
                live.note(event)
            await live.run.ended()
            if not live.cancelled:
                await live.run.wait()
        except LpoError as problem:
            self._errors[run_id] = str(problem) + self._advice(problem)
        except Exception as bug:  # noqa: BLE001 - one run's bug ends that run only
            _log.error("run %s ended with an internal error: %s", run_id, _place_of(bug))
            self._errors[run_id] = INTERNAL_ERROR
        finally:
            if self._live.get(run_id) is live:
                del self._live[run_id]
            live.over = True
            live.wake()
        await self._changed(run_id)

    @staticmethod
    def _advice(problem: LpoError) -> str:
        return "; allow it more calls" if isinstance(problem, BudgetExceeded) else ""

    async def wait(self, run_id: str, owner: str | None, seconds: float, report: Report) -> RunView:
        """Return a run's view when the run has ended, or after ``seconds``; reports progress meanwhile."""
        await self.read(run_id, owner)
        live = self._live.get(run_id)
        last = -EPSILON
        with anyio.move_on_after(seconds):
            while live is not None and not live.over:
                await live.news(self.settings.heartbeat)
                last = max(last + EPSILON, float(live.state.steps_done))
                await report(last, _total(live.state), _progress_message(live.state))
        return await self.view(run_id, owner)

    async def result(self, run_id: str, owner: str | None, report: Report) -> Result:
        """Wait for a run's end and return its result; raises LpoError with the reason if there is none.

        If the waiting is cancelled, so is the run.
        """
        live = self._live.get(run_id)
        try:
            await self.wait(run_id, owner, math.inf, report)
        finally:
            if live is not None and not live.over:
                with anyio.CancelScope(shield=True):
                    await live.cancel()
        stored = await self.read(run_id, owner)
        if stored.result is None:
            raise LpoError(self._errors.get(run_id) or stored.unreadable or "the run was cancelled")
        return stored.result

    async def view(self, run_id: str, owner: str | None) -> RunView:
        """Return a run as tools show it; raises JournalError for a run of another owner."""
        stored, live = await self.read(run_id, owner), self._live.get(run_id)
        if live is not None:
            return RunView(
                run_id=run_id,
                kind=stored.kind,
                status="running",
                next=f'Call get_run with run_id "{run_id}" in a minute or so; the run goes on by itself.',
                progress=progress_view(live.state),
            )
        if stored.unreadable is not None:
            raise JournalError(stored.unreadable)
        if stored.result is not None:
            return ended_view(stored.kind, stored.result)
        return await self._unfinished(stored)

    async def _unfinished(self, stored: StoredRun) -> RunView:
        run_id = stored.run_id
        if stored.kind == GUIDED:
            following = f'Call next_inputs with run_id "{run_id}": it says what to do next.'
            return RunView(run_id=run_id, kind=stored.kind, status="running", next=following)
        following = f'Call resume_run with run_id "{run_id}"; nothing is paid for twice.'
        if stored.status == "running":
            following = "It runs in another process; call get_run later."
        state = (await self.session()).read(run_id).state
        return RunView.model_validate(
            {
                "run_id": run_id,
                "kind": stored.kind,
                "status": stored.status,
                "next": following,
                "progress": progress_view(state),
                "error": self._errors.get(run_id),
            }
        )

    async def read(self, run_id: str, owner: str | None) -> StoredRun:
        """Return the owner's run with exactly this id, without its state.

        Raises JournalError, with the same message whether the run does not exist or is somebody else's.
        """
        unknown = JournalError("unknown run_id; list_runs shows the runs there are")
        session = await self.session()
        try:
            stored = session.read(run_id, state=False)
        except JournalError:
            raise unknown from None
        if stored.run_id != run_id or stored.kind not in KINDS or stored.owner != owner:
            raise unknown
        return stored

    async def runs(self, owner: str | None, limit: int) -> RunList:
        """Return the owner's runs, newest first."""
        session = await self.session()
        found = [run for run in session.runs(results=False) if run.kind in KINDS and run.owner == owner]
        lines = [self._line(session.read(run.run_id, state=False)) for run in found[:limit]]
        return RunList(runs=lines, total=len(found))

    def _line(self, run: StoredRun) -> RunLine:
        return RunLine.model_validate(
            {
                "run_id": run.run_id,
                "kind": run.kind,
                "status": "running" if run.run_id in self._live else run.status,
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
                "verdict": run.result.verdict if isinstance(run.result, lpo_agent.RunResult) else None,
            }
        )

    async def cancel(self, run_id: str, owner: str | None) -> RunView:
        """Cancel a run and return its view; a run that has ended is not changed."""
        await self.read(run_id, owner)
        live = self._live.get(run_id)
        if live is not None:
            await live.cancel()
        return await self.view(run_id, owner)


def _place_of(bug: BaseException) -> str:
    """Return an exception's type and where it was raised, but not its message, which may hold a prompt or a row."""
    first = next(leaves(bug))
    while first.__cause__ is not None:
        first = first.__cause__
    frames = traceback.extract_tb(first.__traceback__)
    return f"{type(first).__name__}, {frames[-1].filename}:{frames[-1].lineno}" if frames else type(first).__name__


def _total(state: RunState) -> float | None:
    return float(state.started.branches * state.started.steps) if state.started else None


def _progress_message(state: RunState) -> str:
    best = "" if state.best_mean is None else f", best so far {state.best_mean:.2f}"
    return f"{state.phase}: {state.steps_done} steps done, {state.candidates} candidates{best}"
