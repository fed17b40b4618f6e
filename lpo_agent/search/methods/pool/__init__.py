"""The methods ``lpo`` and ``local-search``: a search over a pool of local edits, fitted to its budget.

They are the same search with different sources of edits. In ``lpo`` a model explains failures, marks spans and writes
new text, beside the operators; ``local-search`` has the operators alone, so the model need not follow instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent.agents.base import MARKERS, PROPOSERS, Writers
from lpo_agent.agents.briefing import briefing
from lpo_agent.agents.critic import CountingCritic, Critic
from lpo_agent.agents.rewriting import Inducer
from lpo_agent.core import demos
from lpo_agent.core.factorial import Factorial
from lpo_agent.core.guards import Guards
from lpo_agent.core.task_facts import task_facts
from lpo_agent.plugins import OWN
from lpo_agent.search.finalists import Finals
from lpo_agent.search.methods.options import checked
from lpo_agent.search.methods.pool import operators
from lpo_agent.search.methods.pool.prompts import SetPrompts
from lpo_agent.search.methods.pool.quick import operators_rng, quick_edits
from lpo_agent.search.methods.pool.search import PoolSearch
from lpo_agent.search.methods.pool.telling import Teller
from lpo_agent.search.methods.pool.writing import EditWriter
from lpo_agent.search.plan import Plan
from lpo_agent.search.task import calls_each, choosing_items, panel_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.models.base import Model
    from lpo_agent.search.context import Search
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


class LocalOptions(BaseModel):
    """The options of these methods for ``--set``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tags: int | None = Field(default=None, ge=1, le=1000, description="most spans that are marked for one step")


@dataclass(frozen=True, slots=True)
class PoolMethod:
    """Implements :class:`lpo_agent.search.methods.base.FullMethod`; ``proposer``: the name of the default proposer."""

    name: str
    numbers: Plan
    proposer: str
    reads: Collection[str] = (
        *("branches", "steps", "proposals", "race_items", "demos", "must_pass", "class_gate"),
        *("proposer", "method_options"),
    )

    def plan(self, spec: RunSpec) -> Plan:
        """Return the method's default numbers with those of the spec; raises ConfigError."""
        options = checked(LocalOptions, spec.method_options, self.name)
        plan, proposer = self.numbers, self._proposer(spec)
        if spec.race_items is not None:
            plan = replace(plan, first_rung=min(plan.first_rung, spec.race_items), last_rung=spec.race_items)
        marker = self._marker(spec, proposer)
        return replace(
            plan,
            branches=spec.branches or plan.branches,
            steps=spec.steps or plan.steps,
            proposals=spec.proposals or plan.proposals,
            marks=options.tags or plan.marks,
            measures=marker == "influence",
            reranks=marker == "auto",
            marker=marker,
            proposer=proposer,
            demos=plan.demos if spec.demos is None else spec.demos,
            seed=spec.seed,
        )

    def _proposer(self, spec: RunSpec) -> str:
        return self.proposer if spec.proposer in {None, "auto"} else str(spec.proposer)

    def _marker(self, spec: RunSpec, proposer: str) -> str:
        """Return the marker's name. With edit operators, "auto" is "influence": the model probably cannot mark."""
        if spec.marker in {None, "auto"}:
            return "influence" if "operators" in {proposer, self.proposer} else "auto"
        return str(spec.marker)

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:  # noqa: ARG002 - a method's
        """Return the lowest and the highest number of calls of a run."""
        splits, each = task.splits, calls_each(task)
        low = len(splits.dev) + len(splits.test) + min(plan.first_rung, len(splits.train))
        explaining = (plan.explained + 1) * min(plan.explained_on, len(splits.train))
        high = choosing_items(task, plan) + 2 * len(splits.test) + explaining
        return each * low, each * high + plan.search

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the critic, and the marker and proposer that the setting names."""
        proposer = self.proposer if setting.proposer == OWN else setting.proposer
        marker = "influence" if setting.marker == OWN else setting.marker
        temperature, most = setting.optimizer_temperature, setting.reply_tokens
        critic: Critic | CountingCritic = Critic(model, temperature, briefing(setting), most)
        if proposer == "operators":
            critic = CountingCritic(setting.labels)
        mark, propose = MARKERS.load(marker)(setting, model), PROPOSERS.load(proposer)(setting, model)
        return Writers(critic.critique, mark.mark, propose.propose, Inducer(model, temperature, most).induce)

    def start(self, search: Search) -> PoolSearch:
        """Return the search, which has not begun yet."""
        task, plan, prompt = search.task, search.plan, search.task.prompt
        panel, shown = panel_of(task, plan)
        shown = demos.usable(shown)
        rng = operators_rng(plan.seed)
        facts = task_facts(task.splits.train, task.labels)
        quick = [each.edit for each in quick_edits(prompt, facts, shown, plan.demos, plan.seed)]
        deletions = operators.deletions(prompt, rng)
        first = operators.interleaved(
            operators.insertions(prompt, facts, 1),
            deletions,
            operators.demonstrations(prompt, shown, plan.demos, rng),
        )
        waiting = [*quick, *first, *operators.insertions(prompt, facts, 3), *operators.swaps(prompt, rng, 4)]
        finals = Finals(search.scoring, search.rows, search.outcome, panel, search.emit)
        alone = (plan.marker, plan.proposer) == ("influence", "operators")
        writer = None if alone else EditWriter(search.bus, plan, prompt, task.labels)
        teller = Teller(prompt, plan.branches, search.emit)
        model, blocks = Factorial(), frozenset(map(demos.block_text, shown))
        prompts = SetPrompts(prompt, model, Guards.of(prompt, panel), blocks, teller)
        room = sum(each.source == operators.SENTENCE for each in deletions)
        return PoolSearch(search, finals, panel, waiting, prompts, model, writer, teller, quick=len(quick), room=room)


NUMBERS: Final = Plan(
    branches=2,
    steps=0,
    proposals=4,
    marks=6,
    look=3,
    first_rung=12,
    last_rung=200,
    finalists=2,
    demos=4,
    search=600,
    fitted=True,
)
LOCAL_SEARCH: Final = PoolMethod("local-search", NUMBERS, "operators")
LPO: Final = PoolMethod("lpo", NUMBERS, "llm")
