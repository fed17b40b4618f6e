"""The Tasks extension (`io.modelcontextprotocol/tasks`, SEP-2663): the client polls a long call instead of waiting.

A client that declares the extension gets a task as the answer to a long call, and polls it with ``tasks/get``. A task
executes the tool like a normal call. Tasks end with this process; the runs that they started are in the journal.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
from mcp.server.mcpserver import Extension, MethodBinding, require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ElicitResult,
    InputRequiredResult,
    RequestParams,
)
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.types import CallToolRequestParams

IDENTIFIER: Final = "io.modelcontextprotocol/tasks"
MODERN: Final = frozenset({"2026-07-28"})
GRACE: Final = 0.2
"""Seconds in which a call may end without becoming a task."""

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
Mode = Literal["optional", "required"]
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class TaskParams(RequestParams):
    """The parameters of a request about a task."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    task_id: str


class UpdateParams(TaskParams):
    """The parameters of ``tasks/update``: answers to a task's questions."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


@dataclass(slots=True)
class Question:
    """A question of a task to its client."""

    request: dict[str, Any]
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Any = None


@dataclass(slots=True)
class Job:
    """A call that became a task. ``ended``: its end by the extension's clock, None while it is in progress."""

    id: str
    owner: str | None
    status: TaskStatus = "working"
    message: str | None = None
    created: str = ""
    updated: str = ""
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    reply: HandlerResult = None
    raised: MCPError | None = None
    questions: dict[str, Question] = field(default_factory=dict)
    asked: int = 0
    ended: float | None = None
    done: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def change(self, status: TaskStatus | None = None, message: str | None = None) -> None:
        """Change the status or the message; a task that has ended is not changed."""
        if self.ended is None:
            self.status, self.message = status or self.status, message or self.message
            self.updated = _now()


class TaskSession:
    """Replaces the session in a task: progress becomes the status message, and ``tasks/get`` returns the questions."""

    def __init__(self, inner: Any, job: Job) -> None:
        self._inner, self._job = inner, job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Store the progress as the task's status message."""
        share = f"{progress:g}" if total is None else f"{progress:g}/{total:g}"
        self._job.change(message=f"{share} {message}" if message else share)

    async def elicit_form(
        self,
        message: str,
        requested_schema: dict[str, Any],
        related_request_id: Any = None,  # noqa: ARG002 - the SDK passes it
    ) -> ElicitResult:
        """Ask the client and wait for ``tasks/update``; raises MCPError if the client cannot be asked."""
        job, capabilities = self._job, self._inner.client_capabilities
        if capabilities is None or capabilities.elicitation is None:
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "the client did not declare elicitation")
        job.asked += 1
        params = {"mode": "form", "message": message, "requestedSchema": requested_schema}
        question = job.questions[f"input-{job.asked}"] = Question({"method": "elicitation/create", "params": params})
        job.change("input_required")
        await question.answered.wait()
        return ElicitResult.model_validate(question.answer)


class Tasks(Extension):
    """Turns calls of ``tools`` into tasks; see the module's docstring.

    ``owner`` returns the owner of the current request; ``spawn`` starts work that continues after the request;
    ``clock`` counts seconds. Ended tasks are kept for ``ttl`` seconds, and at most ``most`` tasks of one owner.
    """

    identifier = IDENTIFIER

    def __init__(
        self,
        tools: dict[str, Mode],
        *,
        owner: Callable[[], str | None],
        spawn: Spawn,
        ttl: float = 3_600.0,
        poll: float = 1.0,
        most: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools, self._owner, self._spawn = tools, owner, spawn
        self._ttl, self._poll, self._most, self._clock = ttl, poll, most, clock
        self._jobs: dict[str, Job] = {}

    def methods(self) -> Sequence[MethodBinding]:
        """Return the requests that the extension adds."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, MODERN),
            MethodBinding("tasks/update", UpdateParams, self._update, MODERN),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, MODERN),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Make the call a task if tool, protocol and client allow it; a short call is answered directly."""
        mode = self._tools.get(params.name)
        if mode is None or ctx.protocol_version not in MODERN or self._crowded():
            return await call_next(ctx)
        if not _declared(ctx):
            if mode == "required":
                require_client_extension(ctx, IDENTIFIER)
            return await call_next(ctx)
        job = Job(f"task_{secrets.token_urlsafe(24)}", self._owner(), created=_now(), updated=_now())
        inner: Any = TaskSession(ctx.session, job)
        self._spawn(partial(self._drive, job, replace(ctx, session=inner), call_next))
        try:
            with anyio.move_on_after(GRACE):
                await job.done.wait()
        except anyio.get_cancelled_exc_class():
            job.scope.cancel()
            raise
        if not job.done.is_set():
            self._keep(job)
            return {"resultType": "task", **self._base(job), "status": "working"}
        if job.raised is not None:
            raise job.raised
        return job.reply

    async def _drive(self, job: Job, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> None:
        """Call the tool and store its result or exception."""
        try:
            with job.scope:
                reply = await call_next(ctx)
                self._end(job, reply)
        except MCPError as problem:
            job.raised, job.error = problem, {"code": problem.error.code, "message": problem.error.message}
            job.change("failed", problem.error.message)
        except Exception:  # noqa: BLE001 - the boundary of the tools
            job.error = {"code": INTERNAL_ERROR, "message": "Internal error"}
            job.raised = MCPError(INTERNAL_ERROR, "Internal error")
            job.change("failed")
        if job.scope.cancelled_caught:
            job.raised = MCPError(INTERNAL_ERROR, "cancelled")
            job.change("cancelled", "cancelled by the client")
        job.ended = self._clock()
        job.done.set()

    def _end(self, job: Job, reply: HandlerResult) -> None:
        job.reply = reply
        if isinstance(reply, InputRequiredResult):
            if job.id in self._jobs:
                job.error = {"code": INTERNAL_ERROR, "message": "input was needed after the task had begun"}
                job.change("failed")
            return
        if isinstance(reply, BaseModel):
            reply = reply.model_dump(by_alias=True, mode="json", exclude_none=True)
        job.result = {key: value for key, value in (reply or {}).items() if key != "resultType"}
        job.change("completed")

    def _keep(self, job: Job) -> None:
        self._sweep()
        ended = [j for j in self._jobs.values() if j.owner == job.owner and j.ended is not None]
        for old in sorted(ended, key=lambda each: each.ended or 0.0)[: max(0, self._count(job.owner) + 1 - self._most)]:
            del self._jobs[old.id]
        self._jobs[job.id] = job

    def _crowded(self) -> bool:
        """Return whether the caller has the highest allowed number of tasks; further calls then do not become tasks."""
        owner = self._owner()
        return sum(job.owner == owner and job.ended is None for job in self._jobs.values()) >= self._most

    def _count(self, owner: str | None) -> int:
        return sum(job.owner == owner for job in self._jobs.values())

    def _sweep(self) -> None:
        """Remove the tasks that ended more than ``ttl`` seconds ago."""
        limit = self._clock() - self._ttl
        self._jobs = {key: job for key, job in self._jobs.items() if job.ended is None or job.ended > limit}

    def _found(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> Job:
        """Return the owner's task; raises the same error if it is unknown, expired, or another owner's."""
        require_client_extension(ctx, IDENTIFIER)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and headers.get("mcp-name") != params.task_id:
            raise MCPError(HEADER_MISMATCH, "the Mcp-Name header is not the task's id")
        self._sweep()
        job = self._jobs.get(params.task_id)
        if job is None or job.owner != self._owner():
            raise MCPError(INVALID_PARAMS, "task not found")
        return job

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        job = self._found(ctx, params)
        more: dict[str, Any] = {}
        if job.status == "completed":
            more = {"result": job.result}
        elif job.status == "failed":
            more = {"error": job.error}
        elif job.status == "input_required":
            more = {"inputRequests": {key: question.request for key, question in job.questions.items()}}
        return self._base(job) | more

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> dict[str, Any]:
        job = self._found(ctx, params)
        for key, answer in params.input_responses.items():
            question = job.questions.pop(key, None)
            if question is not None:
                question.answer = answer
                question.answered.set()
        if job.status == "input_required" and not job.questions:
            job.change("working")
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> dict[str, Any]:
        self._found(ctx, params).scope.cancel()
        return {}

    def _base(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = {
            "taskId": job.id,
            "status": job.status,
            "createdAt": job.created,
            "lastUpdatedAt": job.updated,
            "ttlMs": int(1_000 * self._ttl),
            "pollIntervalMs": int(1_000 * self._poll),
        }
        return found | ({"statusMessage": job.message} if job.message else {})


def _declared(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and IDENTIFIER in (capabilities.extensions or {})


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
