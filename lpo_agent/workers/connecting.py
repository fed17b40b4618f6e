"""Which bus a run's scoring goes by: in this process, or over NATS to workers."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.core.messages import ScoreAsk, ScoreReply, Topic
from lpo_agent.errors import ConfigError
from lpo_agent.metrics import comes_with_us
from lpo_agent.models.billing import Purse, layers_of
from lpo_agent.models.middleware import Capped, Paced, Recorded
from lpo_agent.models.ratelimit.limiter import Limits
from lpo_agent.models.ratelimit.shared import Quota, SharedLimiter
from lpo_agent.runs.task import calls_each
from lpo_agent.workers.gateway import Gateway, Recipe, knowing
from lpo_agent.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection
    from contextlib import AsyncExitStack

    from lpo_agent.agents.scorer import Scorer
    from lpo_agent.bus.nats import NatsBus
    from lpo_agent.bus.nats_connection import NatsAddress
    from lpo_agent.models.base import Model
    from lpo_agent.runs.kinds import Context
    from lpo_agent.runs.task import Task
    from lpo_agent.spec import RunSpec

    Score = Callable[[ScoreAsk], Awaitable[ScoreReply]]

MISSED: Final = 3.0
"""Seconds without a worker until the user is told."""


@asynccontextmanager
async def open_scoring(context: Context, task: Task) -> AsyncIterator[Callable[[Scorer], Score]]:
    """Yield what turns the run's scorer into the handler that its bus is served by."""
    spec = context.spec
    if spec.bus == "memory":
        yield lambda scorer: scorer.score
        return
    if context.metric is not None and not isinstance(context.metric, str):
        raise ConfigError("workers cannot be sent a metric object; name it as FILE.py:FUNCTION or MODULE:FUNCTION")
    model = context.models.task
    layers = list(layers_of(model))
    if calls_each(task) > 1 and any(isinstance(layer, Capped) for layer in layers):
        raise ConfigError("search calls cannot be counted at workers where an item takes several; use --bus memory")
    (recorded,) = [layer for layer in layers if isinstance(layer, Recorded)]
    topic = scoring_topic(model.name)
    async with open_network(spec.bus, run=context.run_id) as network, anyio.create_task_group() as tasks:
        await network.run_settings.put(context.run_id, recipe_of(spec, task).model_dump_json())
        tasks.start_soon(
            _watch, network, topic.name, f"--bus {wire_of(spec.bus).redacted_url} --model {model.name}", context.say
        )

        def through(scorer: Scorer) -> Score:
            known = replace(scorer, model=knowing(model))
            purse, each = Purse.of(model), calls_each(task)
            return Gateway(network, topic, known, recorded, purse, context.run_id, each).score

        try:
            yield through
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(MISSED):
                await network.run_settings.remove(context.run_id)
        tasks.cancel_scope.cancel()


async def _watch(network: NatsBus, topic: str, options: str, say: Callable[[str], None]) -> None:
    """Tell the user where no worker is there to score, and when one is there again."""
    missed = False
    while True:
        await anyio.sleep(MISSED)
        staffed = await network.has_workers(topic)
        if staffed is not None and staffed == missed:
            missed = not staffed
            say(f"waiting for a worker: start one with lpo worker {options}" if missed else "a worker is there")


def scoring_topic(model: str) -> Topic[ScoreAsk, ScoreReply]:
    """Return where the items for a model go, so that workers with other models may share the server."""
    from lpo_agent.bus.nats_connection import token  # noqa: PLC0415 - needs the extra

    return Topic(f"score-{token(model)}", ScoreAsk, ScoreReply)


@asynccontextmanager
async def open_network(url: str, *, run: str, most_at_once: int | None = None) -> AsyncIterator[NatsBus]:
    """Connect to the NATS server at ``url``; raises ConfigError without the extra, or a server."""
    try:
        from lpo_agent.bus.nats import open_nats  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError("the bus over NATS needs the extra: pip install 'lpo-agent[nats]'") from None
    async with open_nats(wire_of(url), run=run, max_in_flight=most_at_once) as bus:
        yield bus


def wire_of(url: str) -> NatsAddress:
    """Return how to reach a server: ``nats://[USER:PASSWORD@]HOST:PORT`` or ``tls://...``, ?creds= and ?ca=."""
    from urllib.parse import parse_qs, urlsplit, urlunsplit  # noqa: PLC0415 - beside its only use

    from lpo_agent.bus.nats_connection import NatsAddress  # noqa: PLC0415 - needs the extra

    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := given.keys() - {"creds", "ca"}:
        raise ConfigError(f"--bus: {min(unknown)!r} is not known; creds=FILE and ca=FILE are")
    for name, path in given.items():
        if not Path(path).is_file():
            raise ConfigError(f"--bus: {name}={path}: there is no such file")
    return NatsAddress(urlunsplit(parts._replace(query="")), given.get("creds"), given.get("ca"))


def recipe_of(spec: RunSpec, task: Task) -> Recipe:
    """Return the run's rules of scoring."""
    return Recipe(
        metric=task.metric_name,
        labels=task.labels,
        placement=spec.placement,
        max_tokens=task.max_tokens,
        temperature=spec.temperature,
        extract=spec.extract,
        extract_tokens=spec.extract_tokens,
        rpm=spec.rpm,
        tpm=spec.tpm,
        input_tpm=spec.input_tpm,
        output_tpm=spec.output_tpm,
    )


def account_of(name: str, base_url: str | None, key: str | None) -> str:
    """Return a name for what a service counts together; it tells nothing about the key."""
    digest = hashlib.blake2b((key or "").encode(), digest_size=8).hexdigest()
    return f"{name} {base_url or ''} {digest}"


async def shared_limiter(
    stack: AsyncExitStack,
    url: str,
    account: str,
    limits: Limits,
    *,
    concurrency: int,
    gentle: bool,
    say: Callable[[str], None],
) -> SharedLimiter:
    """Return a limiter whose limits hold together with all other processes of the account at this server."""
    try:
        from lpo_agent.bus.nats_connection import open_clock  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError("the bus over NATS needs the extra: pip install 'lpo-agent[nats]'") from None
    lease = await stack.enter_async_context(open_clock(wire_of(url), account))
    return SharedLimiter(limits, concurrency=concurrency, slow_start=gentle, say=say, quota=Quota(limits, lease))


async def work(
    network: NatsBus,
    task: Model,
    judge: Model,
    *,
    metrics: Collection[str],
    concurrency: int,
    ready: Callable[[], None],
) -> None:
    """Serve scoring until cancelled; ``task`` and ``judge`` are paced models.

    Only the package's metrics and those of ``metrics`` are run: no request can have a worker load other code.
    """
    assert isinstance(task, Paced) and isinstance(judge, Paced)  # noqa: S101, PT018 - opened for a worker

    async def find(run: str) -> Recipe:
        text = await network.run_settings.get(run)
        if text is None:
            raise ConfigError(f"run {run} has told no rules of scoring")
        recipe = Recipe.model_validate_json(text)
        if not comes_with_us(recipe.metric) and recipe.metric not in metrics:
            raise ConfigError(f"a worker runs code of others only if told so; start it with --metric {recipe.metric}")
        if isinstance(task.limiter, SharedLimiter):
            task.limiter.restrict(Limits(recipe.rpm, recipe.tpm, recipe.input_tpm, recipe.output_tpm))
        return recipe

    topic, worker = scoring_topic(task.name), Worker(task, judge, find)
    async with anyio.create_task_group() as tasks:
        await tasks.start(
            lambda *, task_status: network.serve(topic, worker.score, concurrency=concurrency, task_status=task_status)
        )
        ready()
