"""The methods ``lpo`` and ``local-search``: concurrent branches make small edits and race them against their parents.

They are the same search with different agents. In ``lpo`` a model explains failures, marks spans and writes new text.
``local-search`` counts, measures influence and applies edit operators, so the model need not follow instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent.agents.base import MARKERS, PROPOSERS, Writers
from lpo_agent.agents.critic import CountingCritic, Critic
from lpo_agent.core import demos, policy
from lpo_agent.core.guards import Guards
from lpo_agent.core.influence import phrases
from lpo_agent.plugins import OWN
from lpo_agent.search.finalists import Finals
from lpo_agent.search.methods.local.analysis import PromptAnalyzer
from lpo_agent.search.methods.local.branch import Branch
from lpo_agent.search.methods.local.branches import Branches
from lpo_agent.search.methods.local.building import CandidateBuilder
from lpo_agent.search.methods.options import checked
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
class LocalMethod:
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
            first = min(plan.first_rung, max(1, spec.race_items // 4))
            plan = replace(plan, look=first, first_rung=first, last_rung=spec.race_items)
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
            demos=spec.demos,
            seed=spec.seed,
        )

    def _proposer(self, spec: RunSpec) -> str:
        return self.proposer if spec.proposer in {None, "auto"} else str(spec.proposer)

    def _marker(self, spec: RunSpec, proposer: str) -> str:
        """Return the marker's name. With edit operators, "auto" is "influence": the model probably cannot mark."""
        if spec.marker in {None, "auto"}:
            return "influence" if proposer == "operators" else "auto"
        return str(spec.marker)

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:  # noqa: ARG002 - a method's
        """Return the lowest and the highest number of calls of a run."""
        splits, each = task.splits, calls_each(task)
        dev, test, panel = len(splits.dev), len(splits.test), len(panel_of(task, plan)[0])
        end = choosing_items(task, plan) + 2 * test
        return each * (dev + test + panel), each * (end + search_calls(plan, panel, len(phrases(task.prompt))))

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the critic, and the marker and proposer that the setting names."""
        proposer = self.proposer if setting.proposer == OWN else setting.proposer
        marker = "influence" if setting.marker == OWN else setting.marker
        critic: Critic | CountingCritic = Critic(model, setting.optimizer_temperature)
        if proposer == "operators":
            critic = CountingCritic(setting.labels)
        mark, propose = MARKERS.load(marker)(setting, model), PROPOSERS.load(proposer)(setting, model)
        return Writers(critic.critique, mark.mark, propose.propose)

    def start(self, search: Search) -> Branches:
        """Return the search, which has not begun yet."""
        task, plan, seed, emit = search.task, search.plan, search.outcome.seed, search.emit
        panel, shown = panel_of(task, plan)
        shown = demos.usable(shown)
        guards = Guards.of(task.prompt, panel)
        branches = []
        for number in range(plan.branches):
            analyzer = PromptAnalyzer(number, search.bus, search.scoring, seed, panel, plan)
            builder = CandidateBuilder(number, seed, shown, guards, plan, emit)
            branches.append(Branch(number, search.bus, search.scoring, analyzer, builder, plan, search.checks, emit))
        finals = Finals(search.scoring, search.rows, search.outcome, panel, emit)
        return Branches(
            branches,
            search.scoring,
            finals,
            panel=panel,
            plan=plan,
            task=search.rows,
            outcome=search.outcome,
            locality=search.checks,
            emit=emit,
        )


def search_calls(plan: Plan, panel: int, spans: int) -> int:
    """Return the highest number of task and optimizer calls of the search and of the explanation.

    ``panel``: the number of training items of a race; ``spans``: the number of phrases of the prompt.
    """
    field, done, race = plan.proposals + 1 + (plan.demos > 0), 0, 0
    for count in policy.rungs(plan.first_rung, panel):
        race += (count - done) * field
        field, done = (field + 1) // 2, count
    shown = plan.failures + plan.passes
    measuring = (min(spans, plan.probes) * plan.measures + (2 * plan.marks + 2) * plan.reranks) * shown
    agents = 2 * (3 if plan.reranks else plan.proposals)
    explaining = (3 * plan.explained + 2) * min(plan.explained_on, panel) + panel
    return panel + plan.branches * plan.steps * (race + measuring + agents) + explaining


LOCAL_SEARCH: Final = LocalMethod("local-search", Plan(branches=4, steps=3, proposals=4, marks=4), "operators")
LPO: Final = LocalMethod("lpo", Plan(branches=4, steps=4, proposals=4, marks=4), "llm")
