"""The counting endpoint: the HTTP server on the loopback interface that a peer's process gets all of its answers from.

A request must have the endpoint's token, as ``Authorization: Bearer TOKEN``. Bodies are JSON. The paths:

* ``/v1/chat/completions``: the OpenAI protocol, without streaming; ``model`` is "task" or "optimizer". ``n`` choices
  count as ``n`` calls.
* ``/answer``: ``{"prompt", "row"}`` has the task model answer a row with a prompt, as in a search of ours, and returns
  ``{"output", "score", "feedback"}``.
* ``/judge``: ``{"row", "output"}`` judges an answer and returns ``{"score", "feedback"}``.
* ``/report``: ``{"prompt", "score", "state", "seed"}`` tells the best prompt so far. ``state``: what the peer's program
  needs to answer items with it, if the prompt alone does not suffice. ``seed``: it is the seed prompt.
* ``/outputs``: ``{"outputs": {row: text}}`` returns answers to test items.

A call beyond the cap gets status 403. A call that the model cannot answer gets 400, because the layers below have
repeated it already.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lpo_agent.bench.peers.http_server import Reply, Request, serve_json
from lpo_agent.core.messages import ScoreAsk
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import with_literal_names
from lpo_agent.errors import BudgetExceeded, MetricError, ProviderError
from lpo_agent.models.base import Call, Completion, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from lpo_agent.agents.scorer import Scorer
    from lpo_agent.bench.peers.metering import Meter
    from lpo_agent.core.messages import Row
    from lpo_agent.errors import LpoError
    from lpo_agent.models.base import Model

TASK: Final = "task"
OPTIMIZER: Final = "optimizer"
OPTIMIZER_TOKENS: Final = 1024
"""The limit of an answer of the optimizer model, if a peer gives none."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Message(_Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]

    def turn(self) -> Turn:
        parts = [{"text": self.content}] if isinstance(self.content, str) else self.content
        role = "system" if self.role == "developer" else self.role
        return Turn(role, "".join(str(part.get("text", "")) for part in parts))


class _Chat(_Body):
    model: Literal["task", "optimizer"]
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    n: int | None = Field(default=None, ge=1, le=64)
    stream: bool | None = None


class _Answer(_Body):
    prompt: str
    row: str


class _Judge(_Body):
    row: str
    output: str


class Report(_Body):
    """The best prompt of a peer; ``calls``: after so many calls. See the module for the other fields."""

    prompt: str
    score: float | None = None
    state: dict[str, Any] | None = None
    seed: bool = False
    calls: int = 0


class _Outputs(_Body):
    outputs: dict[str, str]


@dataclass(slots=True)
class Endpoint:
    """What the endpoint answers with, and what it was told.

    ``models``: the metered models by role. ``scorer``: answers and judges rows with the metered models. ``rows``: the
    rows that a peer may name, by id. ``tokens``: the limit of an answer by role. ``failure``: an error that ends all
    searches, such as a refused key.
    """

    models: Mapping[str, Model]
    scorer: Scorer
    meter: Meter
    rows: Mapping[str, Row]
    tokens: Mapping[str, int]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    reports: list[Report] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    failure: LpoError | None = None
    _asked: dict[str, int] = field(default_factory=dict)

    async def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if not secrets.compare_digest(
            request.headers.get("authorization", "").encode(), f"Bearer {self.token}".encode()
        ):
            return _refused(401, "the token is missing or wrong")
        paths: Mapping[str, tuple[type[_Body], Callable[[Any], Awaitable[Reply]]]] = {
            "/v1/chat/completions": (_Chat, self._chat),
            "/answer": (_Answer, self._answer),
            "/judge": (_Judge, self._judge),
            "/report": (Report, self._report),
            "/outputs": (_Outputs, self._outputs),
        }
        if request.path not in paths or request.method != "POST":
            return _refused(404, f"there is no {request.method} {request.path}")
        shape, act = paths[request.path]
        try:
            return await act(shape.model_validate(request.body))
        except ValidationError as exc:
            error = exc.errors()[0]
            return _refused(400, f"{'.'.join(map(str, error['loc']))}: {error['msg']}")
        except BudgetExceeded as exc:
            return self._ended(exc)
        except ProviderError as exc:
            return self._ended(exc) if exc.fatal else _refused(400, f"{type(exc).__name__}: {exc}")

    def _ended(self, exc: BudgetExceeded | ProviderError) -> Reply:
        """Refuse a call after which no other can succeed; the process will be ended."""
        if not self.meter.spent.is_set():  # it is not the cap of this search
            self.failure = exc
            self.meter.spent.set()
        return _refused(403, str(exc))

    async def _chat(self, chat: _Chat) -> Reply:
        if chat.stream:
            return _refused(400, "stream: answers are not streamed; leave it out")
        calls = [self._call(chat) for _ in range(chat.n or 1)]
        return Reply(200, _completion(chat.model, [await self.models[chat.model].complete(call) for call in calls]))

    def _call(self, chat: _Chat) -> Call:
        """Return the call; a repeated request is another sample unless its temperature is 0."""
        limit = chat.max_completion_tokens or chat.max_tokens or self.tokens[chat.model]
        call = Call(tuple(message.turn() for message in chat.messages), limit, chat.temperature)
        if chat.temperature == 0:
            return call
        key = call.key(chat.model).hex()
        self._asked[key] = self._asked.get(key, -1) + 1
        return Call(call.turns, limit, chat.temperature, self._asked[key])

    async def _answer(self, asked: _Answer) -> Reply:
        row = self.rows.get(asked.row)
        if row is None:
            return _refused(400, f"row: there is no row {asked.row!r}")
        prompt = with_literal_names(asked.prompt, row.variables)
        outcome = (await self.scorer.score(ScoreAsk(text=prompt, row=row))).outcome
        if isinstance(outcome, Scored):
            return Reply(200, {"output": outcome.output, "score": outcome.value, "feedback": outcome.feedback})
        return Reply(200, {"output": "", "score": None, "feedback": outcome.reason})

    async def _judge(self, asked: _Judge) -> Reply:
        row = self.rows.get(asked.row)
        if row is None:
            return _refused(400, f"row: there is no row {asked.row!r}")
        try:
            judged = await self.scorer.metric.judge(asked.output, row)
        except MetricError as exc:
            return Reply(200, {"score": None, "feedback": str(exc)})
        return Reply(200, {"score": judged.value, "feedback": judged.feedback})

    async def _report(self, told: Report) -> Reply:
        """Keep a prompt; a model may have put names in braces into it that no row has a value for."""
        names = {name for row in self.rows.values() for name in row.variables}
        prompt = with_literal_names(told.prompt, names)
        self.reports.append(told.model_copy(update={"calls": self.meter.taken, "prompt": prompt}))
        return Reply(200, {"calls": self.meter.taken})

    async def _outputs(self, told: _Outputs) -> Reply:
        self.outputs |= told.outputs
        return Reply(200, {})


@asynccontextmanager
async def open_endpoint(endpoint: Endpoint) -> AsyncIterator[str]:
    """Serve the endpoint until the block ends; yield its address."""
    async with serve_json(endpoint.handle) as address:
        yield address


def _refused(status: int, message: str) -> Reply:
    """Return an error as the OpenAI protocol has it."""
    kind = "insufficient_quota" if status == 403 else "invalid_request_error"
    return Reply(status, {"error": {"message": message, "type": kind, "code": None, "param": None}})


def _completion(model: str, replies: list[Completion]) -> dict[str, Any]:
    used = (sum(r.usage.input_tokens for r in replies), sum(r.usage.output_tokens for r in replies))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": index,
                "finish_reason": "length" if reply.truncated else "stop",
                "message": {"role": "assistant", "content": reply.text},
            }
            for index, reply in enumerate(replies)
        ],
        "usage": {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)},
    }
