"""A worker: a process that makes model calls for runs of other processes, within rate limits that all workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from lpo_agent.agents.base import AgentSetting
from lpo_agent.agents.team import Models, OwnAgents, Team
from lpo_agent.core.messages import SCORE
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, OutageError, ProviderError, UnreachableError
from lpo_agent.failure import Failure
from lpo_agent.metrics import Judgement
from lpo_agent.models.base import Completion
from lpo_agent.models.billing import Billing
from lpo_agent.models.middleware import FIRST_TRIES, PATIENCE, SHORTEST, Paced
from lpo_agent.models.pool import Rates, open_pool
from lpo_agent.models.prices import Prices
from lpo_agent.models.ratelimit.limiter import Limits
from lpo_agent.plugins import OWN
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.choosing import full
from lpo_agent.workers.connecting import open_network, server_of, shared_limiter
from lpo_agent.workers.messages import ROLES, CallReply, CallRequest, PaidAnswer, topic_at_workers
from lpo_agent.workers.worker_bus import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lpo_agent.bus.nats import NatsBus
    from lpo_agent.core.messages import Row, Topic
    from lpo_agent.environment import Environment
    from lpo_agent.models.base import Call
    from lpo_agent.models.middleware import SharedModel
    from lpo_agent.models.ratelimit.shared import SharedLimiter
    from lpo_agent.spec import RunSpec


@dataclass(slots=True)
class RequestState:
    """The state of one request: known answers are used for the first calls, the next call is made, then it ends.

    ``scope`` is cancelled as soon as there is an answer, because the run itself continues from there. ``at``: the
    number of calls so far.
    """

    known: tuple[str, ...]
    scope: anyio.CancelScope
    reply: CallReply = field(default_factory=CallReply)
    at: int = 0

    async def end(self, reply: CallReply) -> None:
        """End the request; does not return."""
        self.reply = reply
        self.scope.cancel()
        await anyio.sleep_forever()


@dataclass(frozen=True, slots=True)
class SingleCallModel:
    """The model that the agent of one request calls; it makes one call, because the run decides about retries."""

    paced: Paced
    state: RequestState

    @property
    def name(self) -> str:
        """The model's name."""
        return self.paced.adapter.name

    async def complete(self, call: Call) -> Completion:
        """Return a known answer, or make the call and end the request; raises OutageError."""
        state = self.state
        number, state.at = state.at, state.at + 1
        if number < len(state.known):
            return Completion(state.known[number])
        found = await self._once(call)
        if isinstance(found, Completion):
            answer = PaidAnswer(
                model=self.name,
                text=found.text,
                truncated=found.truncated,
                input_tokens=found.usage.input_tokens,
                output_tokens=found.usage.output_tokens,
            )
            await state.end(CallReply(answer=answer))
        else:
            await state.end(CallReply(failed=self._failure(found)))
        raise AssertionError("a request that has ended does not continue")

    async def _once(self, call: Call) -> Completion | ProviderError:
        """Make the call; a server that has never answered may be starting, so it is tried a few times."""
        for _ in range(FIRST_TRIES - 1):
            found = await self.paced.once(call)
            if isinstance(found, Completion) or not self._never_there(found):
                return found
            await anyio.sleep(SHORTEST)
        return await self.paced.once(call)

    def _never_there(self, found: ProviderError) -> bool:
        return isinstance(found, UnreachableError) and not self.paced.shared.answered

    def _failure(self, problem: ProviderError) -> Failure:
        """Describe the problem; raises OutageError if the service has not answered for too long."""
        out_for = self.paced.shared.limiter.outage_seconds if problem.retry is not None else 0.0
        if out_for > PATIENCE:
            raise OutageError(f"{problem}; it has been so for {out_for / 60:.0f} minutes") from None
        return Failure(
            kind=OUTAGE if out_for else type(problem).__name__,
            detail=str(problem),
            retryable=problem.retry is not None and not self._never_there(problem),
            unsure=problem.unsure,
        )


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Replaces the metric in a worker, because the run judges the answers; so no worker executes a metric."""

    name: str = "unjudged"

    async def judge(self, output: str, row: Row) -> Judgement:  # noqa: ARG002 - a metric's
        """Return a score that nobody uses."""
        return Judgement(0.0)


@dataclass(slots=True)
class Worker:
    """Answers the requests of all runs that have their settings on the server."""

    network: NatsBus
    task: Paced
    optimizer: Paced
    _settings: dict[str, AgentSetting] = field(init=False, default_factory=dict)
    _lock: anyio.Lock = field(init=False, default_factory=anyio.Lock)

    async def answer(self, topic: Topic[Any, Any], work: CallRequest[Any]) -> CallReply:
        """Make the next call of a request; raises errors that all other requests would have too."""
        setting = await self._setting(work.setting)
        with anyio.CancelScope() as scope:
            state = RequestState(work.known, scope)
            models = Models(SingleCallModel(self.task, state), SingleCallModel(self.optimizer, state))
            own = OwnAgents(metric=None if setting.metric == "judge" else Unjudged())
            method = full(METHODS.load("lpo" if setting.method == OWN else setting.method))
            await Team(setting, method.writers, own).handler(topic.name, models)(work.ask)
        return state.reply

    async def _setting(self, name: str) -> AgentSetting:
        async with self._lock:
            if name not in self._settings:
                text = await self.network.run_settings.get(name)
                if text is None:
                    raise ConfigError(f"the server has no setting {name}; has its run ended?")
                self._settings[name] = setting = AgentSetting.model_validate_json(text)
                for paced in (self.task, self.optimizer):
                    paced.shared.limiter.restrict(Limits(*setting.limits))
        return self._settings[name]


async def serve_worker(
    spec: RunSpec,
    *,
    serve: Collection[str] = tuple(ROLES),
    most_at_once: int | None = None,
    env: Environment | None = None,
    ready: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Make model calls for runs on other machines until cancelled, with the models, bus and limits of ``spec``.

    ``serve``: names of :data:`WORKER_ROLES`. ``most_at_once``: the highest number of requests of a topic in progress at
    all workers together. ``ready`` is called with the server's address when the worker is ready. Raises ConfigError.
    """
    if not serve:
        raise ConfigError(f"--serve: name at least one of {', '.join(ROLES)}")
    if unknown := [role for role in serve if role not in ROLES]:
        raise ConfigError(f"--serve: {unknown[0]!r} is none of {', '.join(ROLES)}")
    limiter = partial(_limiter, spec.bus)
    rates = Rates(Limits(spec.rpm, spec.tpm, spec.input_tpm, spec.output_tpm), spec.concurrency, spec.timeout)
    async with (
        open_pool(env or read_environment(), rates, say=say, open_limiter=limiter) as pool,
        open_network(spec.bus, run="worker", most_at_once=most_at_once) as network,
        anyio.create_task_group() as tasks,
    ):
        task = _unpaid(await pool.named(spec.model, spec.base_url))
        optimizer = task
        if spec.optimizer_model is not None:
            optimizer = _unpaid(await pool.named(spec.optimizer_model, spec.optimizer_base_url or spec.base_url))
        worker = Worker(network, task, optimizer)
        for topic in [topic for role in serve for topic in ROLES[role]]:
            model = task if topic is SCORE else optimizer
            handler = partial(worker.answer, topic)
            name = topic_at_workers(topic, model.adapter.name)
            await tasks.start(partial(network.serve, name, handler, concurrency=spec.concurrency))
        ready(server_of(spec.bus).redacted_url)


def _unpaid(shared: SharedModel) -> Paced:
    """Return a model whose calls are not counted here: the run that asked for them records the cost."""
    return Paced(shared.adapter, shared, Billing((), Prices({})))


async def _limiter(url: str, *args: Any, **options: Any) -> SharedLimiter:
    stack, account, limits = args
    return await shared_limiter(stack, url, account, limits, **options)
