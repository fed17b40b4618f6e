"""`lpo mark`: where would the next edit go, and why?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.budget import Ledger
from lpo_agent.environment import read_environment
from lpo_agent.journal import open_journal
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.probe import choose_method
from lpo_agent.runs.task import build_metric, load_task
from lpo_agent.runs.wiring import Account, marker_kind, open_models, serve_agents
from lpo_agent.search.candidates import SearchHistory
from lpo_agent.search.methods import plan_for
from lpo_agent.search.methods.local.analysis import PromptAnalyzer
from lpo_agent.search.scoring import Scoring

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.core.messages import Marks
    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.environment import Environment
    from lpo_agent.spec import RunSpec


LOOKED: Final = 16
"""Training rows that are scored to find failures."""


async def mark_prompt(
    spec: RunSpec,
    *,
    env: Environment | None = None,
    metric: object | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[MarkedPrompt, Marks]:
    """Return the prompt with the spans that a first step would edit, each with its reason.

    Raises what a run would raise; answers are cached like a run's.
    """
    env, task = env or read_environment(), load_task(spec)
    async with open_journal(env.journal) as journal:
        ledger, prices = Ledger(spec.budget), load_prices(spec.prices)
        account = Account(journal, ledger, prices, "mark", "", say)
        async with (
            open_models(spec, env, account) as models,
            MemoryBus() as bus,
            anyio.create_task_group() as agents,
        ):
            choice = await choose_method(models.optimizer, spec.method)
            judge = build_metric(task, metric, models.optimizer)
            await serve_agents(
                agents, bus, spec=spec, task=task, models=models, metric=judge, method=choice.method, branches=1
            )
            scoring = Scoring(bus, in_flight=spec.concurrency)
            plan = plan_for(choice.method, spec, marker_kind(spec, choice.method))
            looker = PromptAnalyzer(0, bus, scoring, task.seed, task.splits.train[:LOOKED], plan)
            marks = (await looker.analyze(1, task.seed, SearchHistory((task.seed,)))).marks
            agents.cancel_scope.cancel()
    return marks.on(task.prompt), marks
