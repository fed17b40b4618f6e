"""The run manager: every run goes on by itself, outlives the call that started it, and is in the journal.

Tools, resources and tasks are doors to it. A run belongs to its owner (the token's subject over HTTP,
None on stdio); nobody else learns that it exists.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
from lpo_agent.runs.session import NOTHING, prepared_session
from pydantic import TypeAdapter, ValidationError

from lpo_agent import data as data_files
from lpo_agent.core.budget import Budget
from lpo_agent.core.events import AnyEvent, RunStarted
from lpo_agent.core.result import CompareResult, EvaluateResult, RunResult
from lpo_agent.core.state import RunState, advance
from lpo_agent.errors import BudgetExceeded, ConfigError, JournalError, LpoError
from lpo_agent.runs.run import RunRequest, new_run_id, read_request
from lpo_agent.runs.task import load_task
from lpo_agent.spec import make_spec
from lpo_mcp.views import RunLine, RunList, RunView, ended_view, progress_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from anyio.abc import TaskGroup
    from lpo_agent.runs.session import Session

    from lpo_agent.core.events import Event
    from lpo_agent.environment import Environment
    from lpo_agent.journal import RunRecord
    from lpo_agent.runs.run import Kind
    from lpo_agent.runs.task import Task
    from lpo_agent.spec import RunSpec
    from lpo_mcp.settings import Settings

RESULTS: Final[dict[str, type[RunResult | EvaluateResult | CompareResult]]] = {
    "optimize": RunResult,
    "evaluate": EvaluateResult,
    "compare": CompareResult,
    "guided": RunResult,
}
EPSILON: Final = 1e-6
"""Progress must grow, also when nothing but time has passed."""

Report = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(slots=True)
class Live:
    """A run that goes on in this process. ``changed`` is set, and replaced, whenever its state changes."""

    owner: str | None
    kind: str
    state: RunState = field(default_factory=RunState)
    stop: anyio.Event = field(default_factory=anyio.Event)
    changed: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: bool = False
    error: str | None = None

    def note(self, event: Event) -> None:
        """Take a fact in."""
        self.state = advance(self.state, event)
        self.bump()

    async def news(self, heartbeat: float) -> None:
        """Wait for a step or phase to end, for the run's end, or for ``heartbeat`` seconds."""
        before = (self.state.steps_done, self.state.phase)
        with anyio.move_on_after(heartbeat):
            while not self.over and before == (self.state.steps_done, self.state.phase):
                await self.changed.wait()

    def bump(self) -> None:
        """Wake who waits for news."""
        self.changed.set()
        self.changed = anyio.Event()


@asynccontextmanager
async def open_manager(
    settings: Settings, env: Environment, changed: Callable[[str], Awaitable[None]]
) -> AsyncIterator[RunManager]:
    """Open the manager; at the end what still runs is interrupted, and can be resumed.

    ``changed`` is told the id of a run that ended.
    """
    common = make_spec(
        {
            "prompt": NOTHING,
            "model": settings.default_model() or "local:none",
            "rpm": settings.rpm,
            "tpm": settings.tpm,
            "concurrency": settings.concurrency,
            "budget": Budget(calls=settings.server_calls, usd=settings.server_usd).model_dump(),
        }
    )
    async with prepared_session(common, env) as session, anyio.create_task_group() as tasks:
        manager = RunManager(settings, session, tasks, changed)
        try:
            yield manager
        finally:
            tasks.cancel_scope.cancel()


class RunManager:
    """Starts, watches, stops and resumes runs. Use :func:`open_manager`."""

    def __init__(
        self, settings: Settings, session: Session, tasks: TaskGroup, changed: Callable[[str], Awaitable[None]]
    ) -> None:
        self.settings, self.session = settings, session
        self._tasks, self._changed = tasks, changed
        self._live: dict[str, Live] = {}
        self._errors: dict[str, str] = {}
        self._locks: dict[str, anyio.Lock] = {}

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start work that outlives the request that asked for it, and ends with the server."""
        self._tasks.start_soon(work)

    def lock(self, run_id: str) -> anyio.Lock:
        """Return the lock of a guided run, which takes one submission at a time."""
        return self._locks.setdefault(run_id, anyio.Lock())

    async def start(
        self, spec: RunSpec, owner: str | None, *, kind: Kind = "optimize", other: str | None = None
    ) -> str:
        """Start a run and return its id; raises InputError before anything is spent."""
        if len(self._live) >= self.settings.max_runs:
            raise ConfigError(f"{len(self._live)} runs are going on, the server's cap; wait for one or cancel one")
        task = load_task(spec, kind)
        rows = await self.session.journal.put_blob(data_files.to_json(task.splits))
        kept = spec.model_copy(update={"examples": (), "data": None, "train": None, "dev": None, "test": None})
        order, run_id = RunRequest(kind, kept, rows, other, owner=owner), new_run_id(time.time())
        await self.session.journal.create_run(run_id, kind, order.to_json())
        await self._launch(run_id, order, task)
        return run_id

    async def resume(self, run_id: str, owner: str | None) -> str:
        """Go on with a run that was interrupted; raises ConfigError if there is nothing to go on with."""
        record = self.record(run_id, owner)
        if run_id in self._live or record.status in {"completed", "running"} or record.kind == "guided":
            raise ConfigError(f"run {run_id} is {record.status}; there is nothing to resume")
        order = read_request(record.spec_json)
        task = load_task(order.spec, order.kind, data_files.from_json(self.session.journal.get_blob(order.rows)))
        await self.session.journal.reopen_run(run_id)
        await self._launch(run_id, order, task)
        return run_id

    async def _launch(self, run_id: str, order: RunRequest, task: Task) -> None:
        self._live[run_id] = live = Live(order.owner, order.kind)
        self._errors.pop(run_id, None)
        self._tasks.start_soon(self._drive, run_id, order, task, live)

    async def _drive(self, run_id: str, order: RunRequest, task: Task, live: Live) -> None:
        """Run to the end, whatever becomes of the call that asked for it."""
        try:
            with live.scope:
                await self.session.run(run_id, order, task, emit=live.note, stop=live.stop)
        except LpoError as problem:
            budget = isinstance(problem, BudgetExceeded)
            self._errors[run_id] = str(problem) + ("; allow it more calls" if budget else "")
        finally:
            del self._live[run_id]
            live.over = True
            live.bump()
        await self._changed(run_id)

    async def wait(
        self,
        run_id: str,
        owner: str | None,
        seconds: float,
        report: Report,
    ) -> RunView:
        """Return the run's view once it has ended, or after ``seconds``; tells progress meanwhile, always growing."""
        self.record(run_id, owner)
        live = self._live.get(run_id)
        last = -EPSILON
        with anyio.move_on_after(seconds):
            while live is not None and not live.over:
                await live.news(self.settings.heartbeat)
                last = max(last + EPSILON, float(live.state.steps_done))
                await report(last, _total(live.state), _told(live.state))
        return self.view(run_id, owner)

    def view(self, run_id: str, owner: str | None) -> RunView:
        """Return a run as tools show it; raises JournalError for one that is not the owner's."""
        record, live = self.record(run_id, owner), self._live.get(run_id)
        if live is not None:
            return RunView(
                run_id=run_id,
                kind=record.kind,
                status="running",
                next=f'Call get_run with run_id "{run_id}" in a minute or so; the run goes on by itself.',
                progress=progress_view(live.state),
            )
        if record.result_json is not None and record.kind in RESULTS:
            try:
                return ended_view(record.kind, RESULTS[record.kind].model_validate_json(record.result_json))
            except ValidationError:
                raise JournalError(f"run {run_id}: its result was written by another version") from None
        return self._unfinished(record)

    def _unfinished(self, record: RunRecord) -> RunView:
        if record.kind == "guided":
            following = f'Call next_inputs with run_id "{record.run_id}": it says what is due.'
            return RunView(run_id=record.run_id, kind=record.kind, status="running", next=following)
        status = record.status
        following = f'Call resume_run with run_id "{record.run_id}"; nothing is paid for twice.'
        if status == "running":
            following = "It runs in another process; call get_run later."
        return RunView(
            run_id=record.run_id,
            kind=record.kind,
            status=status,
            next=following,
            progress=progress_view(self._state(record.run_id)),
            error=self._errors.get(record.run_id),
        )

    def _state(self, run_id: str) -> RunState:
        adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
        state = RunState()
        for event in map(adapter.validate_json, self.session.journal.events(run_id)):
            state = advance(RunState() if isinstance(event, RunStarted) else state, event)
        return state

    def record(self, run_id: str, owner: str | None) -> RunRecord:
        """Return the owner's run with exactly this id; raises JournalError, the same whatever is wrong."""
        unknown = JournalError("unknown run_id; list_runs shows the runs there are")
        try:
            record = self.session.journal.run(run_id)
        except JournalError:
            raise unknown from None
        if record.run_id != run_id or record.kind not in RESULTS or _owner(record) != owner:
            raise unknown
        return record

    def runs(self, owner: str | None, limit: int) -> RunList:
        """Return the owner's runs, newest first."""
        found = [r for r in self.session.journal.runs() if r.kind in RESULTS and _owner(r) == owner]
        return RunList(runs=[self._line(record) for record in found[:limit]], total=len(found))

    def _line(self, record: RunRecord) -> RunLine:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.started))
        verdict = None
        if record.result_json is not None and record.kind in {"optimize", "guided"}:
            verdict = RunResult.model_validate_json(record.result_json).verdict
        status = "running" if record.run_id in self._live else record.status
        return RunLine(run_id=record.run_id, kind=record.kind, status=status, started=started, verdict=verdict)

    async def cancel(self, run_id: str, owner: str | None) -> RunView:
        """Stop a run where it is; it can be resumed. Returns its view; one that has ended stays as it is."""
        self.record(run_id, owner)
        live = self._live.get(run_id)
        if live is not None:
            live.scope.cancel()
            while not live.over:
                await live.changed.wait()
        return self.view(run_id, owner)


def _owner(record: RunRecord) -> str | None:
    return read_request(record.spec_json).owner


def _total(state: RunState) -> float | None:
    return float(state.started.branches * state.started.steps) if state.started else None


def _told(state: RunState) -> str:
    best = "" if state.best_mean is None else f", best so far {state.best_mean:.2f}"
    return f"{state.phase}: {state.steps_done} steps done, {state.candidates} candidates{best}"
