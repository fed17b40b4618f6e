"""Which bus a run's scoring goes by: in this process, or over NATS to workers."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from lpo_agent.core.messages import SCORE
from lpo_agent.errors import ConfigError
from lpo_agent.metrics import as_metric
from lpo_agent.models.layers import Paced, Recorded
from lpo_agent.models.quota import Quota, SharedLimiter
from lpo_agent.runtime.remote import Gateway, Known, Recipe
from lpo_agent.runtime.task import calls_each
from lpo_agent.runtime.working import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lpo_agent.agents.scorer import Scorer
    from lpo_agent.bus.nats import NatsBus, Wire
    from lpo_agent.config import RunSpec
    from lpo_agent.core.messages import ScoreAsk, ScoreReply
    from lpo_agent.models.base import Model
    from lpo_agent.models.limits import Limits
    from lpo_agent.runtime.jobs import Context
    from lpo_agent.runtime.task import Task

    Score = Callable[[ScoreAsk], Awaitable[ScoreReply]]


@asynccontextmanager
async def open_scoring(context: Context, task: Task) -> AsyncIterator[Callable[[Scorer], Score]]:
    """Yield what turns the run's scorer into the handler that its bus is served by."""
    spec = context.spec
    if spec.bus == "memory":
        yield lambda scorer: scorer.score
        return
    if context.metric is not None and not isinstance(context.metric, str):
        raise ConfigError("workers cannot be sent a metric object; name it as FILE.py:FUNCTION or MODULE:FUNCTION")
    recorded = context.models.task
    if not isinstance(recorded, Recorded):
        raise ConfigError("a session shares models in one process; use --bus memory there")
    async with open_network(spec.bus, run=context.run_id) as network:
        await network.post(context.run_id, recipe_of(spec, task).model_dump_json())

        def through(scorer: Scorer) -> Score:
            return Gateway(
                network,
                replace(scorer, model=Known(recorded)),
                recorded,
                recorded.journal,
                context.ledger,
                context.prices,
                context.run_id,
                calls_each(task),
            ).score

        yield through


@asynccontextmanager
async def open_network(url: str, *, run: str, most_at_once: int | None = None) -> AsyncIterator[NatsBus]:
    """Connect to the NATS server at ``url``; raises ConfigError without the extra, or a server."""
    try:
        from lpo_agent.bus.nats import open_nats  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError("the bus over NATS needs the extra: pip install 'lpo-agent[nats]'") from None
    async with open_nats(wire_of(url), run=run, most_at_once=most_at_once) as bus:
        yield bus


def wire_of(url: str) -> Wire:
    """Return how to reach a server: ``nats://[USER:PASSWORD@]HOST:PORT`` or ``tls://...``, ?creds= and ?ca=."""
    from urllib.parse import parse_qs, urlsplit, urlunsplit  # noqa: PLC0415 - beside its only use

    from lpo_agent.bus.nats import Wire  # noqa: PLC0415 - needs the extra

    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := given.keys() - {"creds", "ca"}:
        raise ConfigError(f"--bus: {min(unknown)!r} is not known; creds=FILE and ca=FILE are")
    return Wire(urlunsplit(parts._replace(query="")), given.get("creds"), given.get("ca"))


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
    quota = None
    if any((limits.rpm, limits.tpm, limits.input_tpm, limits.output_tpm)):
        from lpo_agent.bus.nats import open_clock  # noqa: PLC0415 - needs the extra

        lease = await stack.enter_async_context(open_clock(wire_of(url), account))
        quota = Quota(limits, lease)
    return SharedLimiter(limits, concurrency=concurrency, gentle=gentle, say=say, quota=quota)


async def work(network: NatsBus, task: Model, judge: Model, *, concurrency: int, ready: Callable[[], None]) -> None:
    """Serve scoring until cancelled; ``task`` and ``judge`` are paced models."""
    assert isinstance(task, Paced) and isinstance(judge, Paced)  # noqa: S101, PT018 - opened for a worker

    async def find(run: str) -> Recipe:
        text = await network.posted(run)
        if text is None:
            raise ConfigError(f"run {run} has told no rules of scoring")
        recipe = Recipe.model_validate_json(text)
        as_metric(recipe.metric, labels=recipe.labels, judge=judge)
        return recipe

    worker = Worker(task, judge, find)
    async with anyio.create_task_group() as tasks:
        await tasks.start(
            lambda *, task_status: network.serve(SCORE, worker.score, concurrency=concurrency, task_status=task_status)
        )
        ready()
