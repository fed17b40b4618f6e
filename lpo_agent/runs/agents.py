"""Starts the agents of a run on the bus that its spec names: in memory, a bus of the caller, or NATS with workers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.agents.base import REPLY_TOKENS, AgentSetting
from lpo_agent.agents.team import Models, OwnAgents, Team
from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.task_facts import task_facts
from lpo_agent.metrics import as_metric
from lpo_agent.models.providers.base import split_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.agents.base import Agents
    from lpo_agent.bus.base import Bus
    from lpo_agent.runs.context import RunContext
    from lpo_agent.runs.request import OwnParts
    from lpo_agent.search.methods.base import FullMethod
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec

MEMORY = "memory"
LOCAL_REPLY_TOKENS: Final = 600
"""The longest reply of an embedded model that optimizes; small models tend to repeat themselves up to the limit."""


def setting_of(spec: RunSpec, task: Task, plan: Plan, method: str) -> AgentSetting:
    """Return the settings of the run's agents."""
    return AgentSetting(
        method=method,
        method_options=spec.method_options,
        locality=spec.locality,
        marker=plan.marker,
        proposer=plan.proposer,
        metric=task.metric_name,
        labels=task.labels,
        placement=spec.placement,
        max_tokens=task.max_tokens,
        temperature=spec.temperature,
        extract=spec.extract,
        extract_tokens=spec.extract_tokens,
        optimizer_temperature=spec.optimizer_temperature,
        reply_tokens=spec.optimizer_max_tokens or (LOCAL_REPLY_TOKENS if is_embedded(spec) else REPLY_TOKENS),
        facts=task_facts(task.splits.train, task.labels),
        full=_full(spec, task),
        limits=(spec.rpm, spec.tpm, spec.input_tpm, spec.output_tpm),
    )


def is_embedded(spec: RunSpec) -> bool:
    """Return whether the optimizer model runs on this machine, where each token of a reply takes time."""
    name = spec.optimizer_model or spec.model
    return isinstance(name, str) and split_model(name)[0] == "local"


def _full(spec: RunSpec, task: Task) -> str:
    """Return the text that the task model gets, with "{prompt}" in place of the prompt."""
    if task.prompt.placeholders:
        return "{prompt}"
    return {"before": "{prompt}\n\n<input>", "after": "Q: <input>\nA: {prompt}", "system": "{prompt}\n\n<input>"}[
        spec.placement
    ]


@asynccontextmanager
async def open_agents(
    context: RunContext, setting: AgentSetting, method: FullMethod, *, built_in: bool = False
) -> AsyncIterator[Bus]:
    """Start the run's agents and yield the bus on which they answer; they end with the block.

    ``built_in``: use the package's marker and proposer even if the caller brought some.
    """
    spec, own = context.spec, context.prepared.own
    agents = replace(own.agents(), marker=None, proposer=None) if built_in else own.agents()
    team = Team(setting, method.writers, _with_metric(setting, agents))
    models = Models(context.models.task, context.models.optimizer)
    if own.bus is not None:
        async with serving(own.bus, team.agents(models), spec.concurrency):
            yield own.bus
    elif spec.bus == MEMORY:
        async with MemoryBus() as memory, serving(memory, team.agents(models), spec.concurrency):
            yield memory
    else:
        from lpo_agent.workers.worker_bus import open_worker_bus  # noqa: PLC0415 - needs the extra

        task, optimizer = context.models.task, context.models.optimizer
        async with open_worker_bus(
            spec.bus, context.run_id, team, task, optimizer, concurrency=spec.concurrency, say=context.say
        ) as bus:
            yield bus


async def check_bus(spec: RunSpec, own: OwnParts) -> None:
    """Raise ConfigError if the bus of a run cannot be reached, before the run is in the journal."""
    if own.bus is None and spec.bus != MEMORY:
        from lpo_agent.workers.connecting import check_address  # noqa: PLC0415 - needs the extra

        await check_address(spec.bus)


def _with_metric(setting: AgentSetting, own: OwnAgents) -> OwnAgents:
    """Return the caller's agents with the run's metric, created once, because loading it executes a user's file."""
    if own.metric is not None or setting.metric == "judge":
        return own
    return replace(own, metric=as_metric(setting.metric, labels=setting.labels))


@asynccontextmanager
async def serving(bus: Bus, agents: Agents, concurrency: int) -> AsyncIterator[None]:
    """Serve the topics of the agents on the bus until the block ends, each with ``concurrency`` requests at a time."""
    async with anyio.create_task_group() as tasks:
        for topic, handler in agents.handlers():
            await tasks.start(partial(bus.serve, topic, handler, concurrency=concurrency))
        yield
        tasks.cancel_scope.cancel()
