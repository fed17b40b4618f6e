"""Models under their layers, and agents on the bus."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from lpo_agent.agents.critic import CountingCritic, Critic
from lpo_agent.agents.marker import InfluenceMarker, ManualMarker, RandomMarker, TokenMarker
from lpo_agent.agents.operators import OperatorProposer
from lpo_agent.agents.proposer import Proposer
from lpo_agent.agents.rewriting import Inducer, ReasoningCritic, RewritingProposer, Setting, TaggingMarker
from lpo_agent.agents.scorer import Scorer
from lpo_agent.core.beam_options import BEAM_METHODS, beam_options_for
from lpo_agent.core.messages import CRITIQUE, INDUCE, MARK, PROPOSE, SCORE
from lpo_agent.core.task_facts import task_facts
from lpo_agent.models.middleware import Budgeted, Durable, Paced, Recorded
from lpo_agent.models.ratelimit.limiter import Limiter, Limits
from lpo_agent.spec import split_model
from lpo_agent.workers.connecting import account_of, shared_limiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.messages import MarkAsk, Marks, Q, R, Topic
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model
    from lpo_agent.models.prices import Prices
    from lpo_agent.runs.task import Task
    from lpo_agent.spec import RunSpec
    from lpo_agent.workers.connecting import Score

LOCAL_SLOTS = 16


@dataclass(frozen=True, slots=True)
class Models:
    """The two roles, under all layers; one object where both are the same model."""

    task: Model
    optimizer: Model


@dataclass(frozen=True, slots=True)
class Account:
    """What every call of a run goes through besides the model itself."""

    journal: Journal
    ledger: Ledger
    prices: Prices
    run_id: str
    namespace: str
    say: Callable[[str], None]


@asynccontextmanager
async def open_models(spec: RunSpec, env: Environment, account: Account) -> AsyncIterator[Models]:
    """Open both models; raises ConfigError or AuthError for what is wrong before any call."""
    async with AsyncExitStack() as stack:
        yield await ModelPool(stack, spec, env, account).models(spec)


@dataclass(slots=True)
class ModelPool:
    """Opens models when they are first asked for, each once, with the limits of ``spec``; ``stack`` closes them.

    For who ``works`` for others, models are only paced: whose run it is books, and keeps the answers.
    """

    stack: AsyncExitStack
    spec: RunSpec
    env: Environment
    account: Account
    works: bool = False
    opened: dict[tuple[str, str | None], Model] = field(default_factory=dict)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def models(self, spec: RunSpec) -> Models:
        """Return the models of a run; raises ConfigError or AuthError for what is wrong before any call."""
        name, base_url = spec.optimizer_model or spec.model, spec.optimizer_base_url
        if base_url is None and split_model(name)[0] == split_model(spec.model)[0]:
            base_url = spec.base_url
        async with self.lock:
            return Models(await self._shared(spec.model, spec.base_url), await self._shared(name, base_url))

    async def _shared(self, name: str, base_url: str | None) -> Model:
        key = (name, base_url)
        if key not in self.opened:
            self.opened[key] = await self._open(name, base_url)
        return self.opened[key]

    async def _open(self, name: str, base_url: str | None) -> Model:
        """Return the model under all its layers, each with its own limiter and one shared ledger."""
        account = self.account
        provider, rest = split_model(name)
        local = provider == "local"
        limiter = await self._limiter(name, base_url)
        adapter = await (self._local(rest) if local else self._adapter(name, base_url, limiter))
        if self.works:
            return Paced(adapter, limiter)
        book = partial(account.journal.book, account.run_id)
        paid = Budgeted(adapter, account.ledger, account.prices, book)
        paced = Paced(Durable(paid, account.journal, account.run_id), limiter)
        return Recorded(paced, account.journal, account.ledger, account.namespace)

    async def _limiter(self, name: str, base_url: str | None) -> Limiter:
        """Return the model's limiter; over NATS, one whose limits hold together with other processes'."""
        spec, (provider, _) = self.spec, split_model(name)
        limits = Limits(spec.rpm, spec.tpm, spec.input_tpm, spec.output_tpm)
        most = min(LOCAL_SLOTS, spec.concurrency) if provider == "local" else spec.concurrency
        gentle = provider in {"openai", "anthropic"}

        def say(text: str) -> None:
            self.account.say(f"{name}: {text}")

        if spec.bus == "memory":
            return Limiter(limits, concurrency=most, slow_start=gentle, say=say)
        who = account_of(name, base_url or self.env.base_urls.get(provider), self.env.keys.get(provider))
        return await shared_limiter(self.stack, spec.bus, who, limits, concurrency=most, gentle=gentle, say=say)

    async def _adapter(self, name: str, base_url: str | None, limiter: Limiter) -> Model:
        provider, rest = split_model(name)
        if provider == "scripted":
            from lpo_agent.models.providers.scripted import load_scripted  # noqa: PLC0415 - for tests and examples only

            return load_scripted(name)
        key, url, timeout = self.env.keys.get(provider), base_url or self.env.base_urls.get(provider), self.spec.timeout
        observe = None if self.spec.rpm and self.spec.tpm else limiter.observe  # nothing is left to learn
        if provider == "anthropic":
            from lpo_agent.models.providers.anthropic import AnthropicModel  # noqa: PLC0415 - its SDK is slow to import

            anthropic = AnthropicModel(rest, api_key=key, base_url=url, on_headers=observe, timeout=timeout)
            return await self.stack.enter_async_context(anthropic)
        from lpo_agent.models.providers.openai import OpenAIModel  # noqa: PLC0415 - its SDK is slow to import

        openai = OpenAIModel(rest, api_key=key, base_url=url, on_headers=observe, timeout=timeout)
        return await self.stack.enter_async_context(openai)

    async def _local(self, name: str) -> Model:
        from lpo_agent.models.providers.local import open_local  # noqa: PLC0415 - needs the extra
        from lpo_agent.models.providers.weights import pull_smollm2  # noqa: PLC0415 - beside its only use

        if name == "smollm2":
            pull = partial(pull_smollm2, self.env.home, say=self.account.say, progress=False)
            path = await to_thread.run_sync(pull)
        else:
            path = Path(os.path.expanduser(name))  # noqa: ASYNC240, PTH111 - touches no disk
        slots = min(LOCAL_SLOTS, self.spec.concurrency)
        return await self.stack.enter_async_context(open_local(path, name=name, slots=slots))


async def serve_agents(
    tasks: TaskGroup,
    bus: Bus,
    *,
    spec: RunSpec,
    task: Task,
    models: Models,
    metric: Metric,
    method: str,
    branches: int,
    through: Callable[[Scorer], Score] = lambda scorer: scorer.score,
) -> None:
    """Start the agents on the bus; method and marker decide which kind of each. ``through``: who scores."""
    scorer = Scorer(
        models.task,
        metric,
        spec.placement,
        task.max_tokens,
        spec.temperature,
        extract=spec.extract,
        extract_tokens=spec.extract_tokens,
    )
    await _start(tasks, bus, SCORE, through(scorer), spec.concurrency)
    if method in BEAM_METHODS:
        await _serve_host(tasks, bus, spec=spec, task=task, model=models.optimizer, method=method)
        return
    critic: Critic | CountingCritic = CountingCritic(task.labels)
    proposer: Proposer | OperatorProposer = OperatorProposer(
        task_facts(task.splits.train, task.labels), models.optimizer
    )
    if proposer_kind(spec, method) == "llm":
        critic = Critic(models.optimizer, spec.optimizer_temperature)
        proposer = Proposer(models.optimizer, spec.optimizer_temperature)
    kind = marker_kind(spec, method)
    llm = TokenMarker(models.optimizer, spec.optimizer_temperature).mark
    await _start(tasks, bus, CRITIQUE, critic.critique, branches)
    await _start(tasks, bus, MARK, llm if kind in {"llm", "auto"} else _marker(kind), branches)
    await _start(tasks, bus, PROPOSE, proposer.propose, branches)


async def _serve_host(tasks: TaskGroup, bus: Bus, *, spec: RunSpec, task: Task, model: Model, method: str) -> None:
    """Start the agents of a host; how many work at a time is the limiter's business."""
    setting = Setting(
        method, beam_options_for(method, spec.host), _full(spec, task), cold=spec.optimizer_temperature is None
    )
    kind, many = marker_kind(spec, method), spec.concurrency
    mark = TaggingMarker(model, setting).mark if kind in {"llm", "auto"} else _marker(kind)
    await _start(tasks, bus, CRITIQUE, ReasoningCritic(model, setting).critique, many)
    await _start(tasks, bus, MARK, mark, many)
    await _start(tasks, bus, PROPOSE, RewritingProposer(model, setting).propose, many)
    await _start(tasks, bus, INDUCE, Inducer(model, setting).induce, many)


def _full(spec: RunSpec, task: Task) -> str:
    """Return how the task model sees prompt and input, for PE2: "{prompt}" stands for the prompt."""
    if task.prompt.placeholders:
        return "{prompt}"
    return {"before": "{prompt}\n\n<input>", "after": "Q: <input>\nA: {prompt}", "system": "{prompt}\n\n<input>"}[
        spec.placement
    ]


async def _start(
    tasks: TaskGroup, bus: Bus, topic: Topic[Q, R], handler: Callable[[Q], Awaitable[R]], concurrency: int
) -> None:
    await tasks.start(partial(bus.serve, topic, handler, concurrency=concurrency))


def marker_kind(spec: RunSpec, method: str) -> str:
    """Return the marker that was asked for, or the method's own.

    A model that cannot write cannot mark either: with edit operators, measurement alone is "auto".
    """
    if method in BEAM_METHODS:
        return spec.marker or "llm"
    if spec.marker in {None, "auto"}:
        return "auto" if proposer_kind(spec, method) == "llm" else "influence"
    return spec.marker or "auto"


def proposer_kind(spec: RunSpec, method: str) -> str:
    """Return who writes: "llm" or "operators"."""
    if spec.proposer in {None, "auto"}:
        return "llm" if method == "lpo" else "operators"
    return spec.proposer or "operators"


def _marker(kind: str) -> Callable[[MarkAsk], Awaitable[Marks]]:
    """Return the handler of a marker that asks no model."""
    by_kind: dict[str, InfluenceMarker | RandomMarker | ManualMarker] = {
        "influence": InfluenceMarker(),
        "random": RandomMarker(),
        "manual": ManualMarker(),
    }
    return by_kind[kind].mark
