"""The run's side of working with workers: a bus that executes agents here and lets workers make the model calls.

For each request, the agent is executed with the answers that are in the journal. If an answer is missing, a worker is
asked to make this model call, within the budget; the answer is written to the journal, and the agent is executed again.
So the process of the run judges every answer, and a worker only makes model calls.
"""

from __future__ import annotations

import hashlib
import math
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent.agents.team import Models
from lpo_agent.bus.base import TOO_LARGE, failure_from
from lpo_agent.errors import (
    DeadlineExceeded,
    LpoError,
    NotKnown,
    ProviderError,
    RateLimited,
    RequestFailed,
    RequestRejected,
    TransientError,
    worst,
)
from lpo_agent.failure import Failure, Retry
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.middleware import SHORTEST, Tries
from lpo_agent.workers.connecting import open_network, server_of
from lpo_agent.workers.messages import ROLES, CallRequest, topic_at_workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskStatus

    from lpo_agent.agents.team import Team
    from lpo_agent.bus.nats import NatsBus
    from lpo_agent.core.messages import Message, Q, R, Topic
    from lpo_agent.models.base import Call
    from lpo_agent.models.billing import Charge
    from lpo_agent.models.middleware import RunModel
    from lpo_agent.workers.messages import CallReply

LOST: Final = frozenset({"Unavailable", "WorkersLost"})
"""Kinds of bus failures after which it is not known whether a worker made the call."""
OUTAGE: Final = "Outage"
"""The kind of a failure of a call whose service answers no calls at the moment."""
MISSED: Final = 3.0
"""Seconds without a worker until the user gets a message."""


@asynccontextmanager
async def open_worker_bus(
    url: str,
    run_id: str,
    team: Team,
    task: RunModel,
    optimizer: RunModel,
    *,
    concurrency: int,
    say: Callable[[str], None],
) -> AsyncIterator[WorkerBus]:
    """Yield the bus, and publish the settings of the run's agents to the workers until the block ends."""
    setting = team.setting.model_dump_json()
    name = f"{run_id}.{hashlib.blake2b(setting.encode(), digest_size=6).hexdigest()}"
    async with open_network(url, run=run_id) as network, anyio.create_task_group() as tasks:
        await network.run_settings.put(name, setting)
        bus = WorkerBus(network, run_id, name, team, task, optimizer, anyio.CapacityLimiter(concurrency))
        tasks.start_soon(bus.watch, server_of(url).redacted_url, say)
        try:
            yield bus
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(MISSED):
                await network.run_settings.remove(name)
        tasks.cancel_scope.cancel()


class Missing(NotKnown):
    """The journal lacks the answer to ``call`` of ``model``; ``key`` is the key of the answer in the journal."""

    def __init__(self, model: RunModel, call: Call, key: bytes) -> None:
        super().__init__(f"{model.name} was not asked yet")
        self.model, self.call, self.key = model, call, key


@dataclass(slots=True)
class Replay:
    """The model calls of one request: the answers so far, in order, and the error of the next call if it failed.

    ``at``: the number of calls in the current execution of the agent.
    """

    answers: list[Completion] = field(default_factory=list)
    failed: ProviderError | None = None
    at: int = 0

    def answer(self, model: RunModel, call: Call) -> Completion:
        """Return the answer to the next call; raises Missing if it is not known, or the error of the call."""
        number, self.at = self.at, self.at + 1
        if number < len(self.answers):
            return self.answers[number]
        if self.failed is not None:
            raise self.failed
        if model.allowance is not None:
            model.allowance.take()
        key = model.record.key(call)
        if not self.recorded(model, key):
            raise Missing(model, call, key)
        return self.answers[number]

    def recorded(self, model: RunModel, key: bytes) -> bool:
        """Append the answer from the journal, and return whether it is there."""
        found = model.record.journal.get(key)
        if found is not None:
            model.billing.cached()
            self.answers.append(replace(found, cached=True))
        return found is not None


@dataclass(frozen=True, slots=True)
class ReplayedModel:
    """A model that answers with the known answers of a replay."""

    model: RunModel
    replay: Replay

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    async def complete(self, call: Call) -> Completion:
        """Return the next answer; raises Missing and ProviderError."""
        return self.replay.answer(self.model, call)


@dataclass(slots=True)
class WorkerBus:
    """Implements :class:`lpo_agent.bus.base.Bus` for a run whose model calls are made by workers behind ``network``.

    ``setting``: the name under which workers find the settings of the run's agents.
    """

    network: NatsBus
    run_id: str
    setting: str
    team: Team
    task: RunModel
    optimizer: RunModel
    places: anyio.CapacityLimiter
    rng: random.Random = field(default_factory=random.Random)
    _asking: dict[str, tuple[int, str]] = field(init=False, default_factory=dict)

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - see Bus
        """Return the reply; see :meth:`lpo_agent.bus.base.Bus.request`."""
        try:
            with anyio.fail_after(None if math.isinf(timeout) else timeout):
                async with self.places:
                    reply: R = await self._answer(topic, message)
                    return reply
        except TimeoutError:
            raise DeadlineExceeded(f"no reply on topic {topic.name!r} within {timeout:g} s") from None
        except LpoError as exc:
            raise RequestFailed(failure_from(exc)) from exc

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve a topic of the network; a run does not use this."""
        await self.network.serve(topic, handler, concurrency=concurrency, task_status=task_status)

    async def _answer(self, topic: Topic[Any, Any], message: Message) -> Any:
        """Execute the agent again and again, until it has all answers that it needs."""
        replay = Replay()
        handler = self.team.handler(
            topic.name, Models(ReplayedModel(self.task, replay), ReplayedModel(self.optimizer, replay))
        )
        while True:
            replay.at = 0
            try:
                return await handler(message)
            except Missing as missing:
                await self._fetch(topic, message, replay, missing)

    async def _fetch(self, topic: Topic[Any, Any], message: Message, replay: Replay, missing: Missing) -> None:
        """Let a worker make a call; retry until there is an answer, or a failure that is not retried."""
        model, tries = missing.model, Tries()
        async with model.record.in_flight.exclusive(missing.key):
            if replay.recorded(model, missing.key):
                return
            while True:
                found = await self._try(topic, message, replay, missing)
                if isinstance(found, Completion):
                    replay.answers.append(found)
                    return
                pause = self._pause(found, tries)
                if pause is None:
                    problem = worst(RequestFailed(found))
                    replay.failed = problem if isinstance(problem, ProviderError) else RequestRejected(str(problem))
                    return
                await anyio.sleep(pause)

    def _pause(self, failed: Failure, tries: Tries) -> float | None:
        """Return the seconds until the next try, None if the call is not retried."""
        if not failed.retryable:
            return None
        if failed.kind == OUTAGE:
            return SHORTEST  # the worker waits for the service
        return tries.pause(Retry(rate_limited=failed.kind == RateLimited.__name__), self.rng)

    async def _try(
        self, topic: Topic[Any, Any], message: Message, replay: Replay, missing: Missing
    ) -> Completion | Failure:
        """Ask a worker once; record the cost, and store the answer. Raises RequestFailed for fatal failures."""
        model = missing.model
        charge = await model.billing.reserve(model.name, missing.call.max_usage)
        try:
            await charge.announce()
            found = await self._ask(
                topic, CallRequest(setting=self.setting, ask=message, known=_texts(replay)), missing, charge
            )
        finally:
            charge.fail(unsure=True)  # a worker that was cut off may have made the call
        if isinstance(found, Completion):
            await model.record.journal.put(missing.key, self.run_id, model.name, found)
        return found

    async def _ask(
        self, topic: Topic[Any, Any], work: CallRequest[Any], missing: Missing, charge: Charge
    ) -> Completion | Failure:
        name = topic_at_workers(topic, missing.model.name)
        count, _ = self._asking.get(name.name, (0, ""))
        self._asking[name.name] = (count + 1, f"--serve {_role(topic.name)} --model {missing.model.name}")
        try:
            reply = await self.network.request(name, work, timeout=math.inf)
        except RequestFailed as exc:
            return _refused(exc, charge)
        finally:
            count, words = self._asking.pop(name.name)
            if count > 1:
                self._asking[name.name] = (count - 1, words)
        return _told(reply, charge)

    async def watch(self, address: str, say: Callable[[str], None]) -> None:
        """Tell the user if no worker serves the pending requests, and when there is one again."""
        missed: set[str] = set()
        while True:
            await anyio.sleep(MISSED)
            for name, (_, words) in sorted(self._asking.items()):
                has_workers = await self.network.has_workers(name)
                if has_workers is False and name not in missed:
                    missed.add(name)
                    say(f"waiting for a worker: start one with lpo worker --bus {address} {words}")
                elif has_workers and name in missed:
                    missed.discard(name)
                    say("a worker is there")


def _texts(replay: Replay) -> tuple[str, ...]:
    return tuple(each.text for each in replay.answers)


def _role(topic: str) -> str:
    return next(role for role, topics in ROLES.items() if topic in {each.name for each in topics})


def _refused(exc: RequestFailed, charge: Charge) -> Failure:
    """Record the cost of a request without a reply, and return the failure; raises a failure that is fatal."""
    failure = exc.failure
    if failure.kind in LOST:
        charge.fail(unsure=True)
        kind = TransientError.__name__
        return Failure(kind=kind, detail=f"{failure.kind}: {failure.detail}", retryable=True, unsure=True)
    if failure.kind == TOO_LARGE.kind:
        if failure.unsure:
            charge.fail(unsure=True)
        else:
            charge.release()  # no call was made
        return failure.model_copy(update={"kind": RequestRejected.__name__, "retryable": False})
    charge.fail(unsure=failure.unsure)
    raise exc


def _told(reply: CallReply, charge: Charge) -> Completion | Failure:
    """Record the cost of a call that a worker made, and return its answer or failure."""
    if reply.answer is not None:
        used = Usage(reply.answer.input_tokens, reply.answer.output_tokens)
        charge.settle(used)
        return Completion(reply.answer.text, used, reply.answer.truncated)
    if reply.failed is not None:
        charge.fail(unsure=reply.failed.unsure)
        return reply.failed
    charge.release()
    return Failure(kind=RequestRejected.__name__, detail="the worker made no call; is it of another version?")
