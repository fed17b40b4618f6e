"""APE, APO (ProTeGi) and PE2: beam search over whole prompts, with or without marked edits.

Their settings are :class:`lpo_agent.core.beam_options.BeamOptions`; the defaults are those of the original methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.agents.base import MARKERS, Writers
from lpo_agent.agents.rewriting import (
    Inducer,
    InspectingSetting,
    ReasoningCritic,
    RewritingProposer,
    RewritingSetting,
    TaggingMarker,
)
from lpo_agent.core.beam_options import DEFAULTS, PROPOSALS, STEPS, BeamOptions
from lpo_agent.errors import ConfigError
from lpo_agent.plugins import OWN
from lpo_agent.search.methods.beam.ape import Ape
from lpo_agent.search.methods.beam.apo import Apo
from lpo_agent.search.methods.beam.counting import most_calls
from lpo_agent.search.methods.beam.expanding import Expander
from lpo_agent.search.methods.beam.pe2 import Pe2
from lpo_agent.search.methods.beam.proposing import Editor
from lpo_agent.search.methods.beam.search import Beam
from lpo_agent.search.methods.options import checked
from lpo_agent.search.plan import Plan
from lpo_agent.search.task import calls_each

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.core.beam_options import LocalityMode
    from lpo_agent.models.base import Model
    from lpo_agent.search.context import Search
    from lpo_agent.search.methods.beam.expanding import Rules
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


@dataclass(frozen=True, slots=True)
class BeamMethod:
    """Implements :class:`lpo_agent.search.methods.base.FullMethod` for one of the three methods.

    ``rules``: how it proposes. ``conversation``: how its agents talk about a prompt.
    """

    name: str
    rules: Rules
    conversation: type[RewritingSetting]
    reads: Collection[str] = ("steps", "proposals", "locality", "method_options")

    def options(self, given: Mapping[str, bool | int | float | str], locality: LocalityMode) -> BeamOptions:
        """Return the method's defaults with the ``given`` options; raises ConfigError."""
        found = checked(BeamOptions, DEFAULTS[self.name] | dict(given), self.name).with_check(locality)
        if found.tag_check == "off" and locality == "enforce":
            raise ConfigError("--set tag_check=off cannot be enforced; use it with --locality nudge")
        return found

    def plan(self, spec: RunSpec) -> Plan:
        """Return the numbers of the beam; raises ConfigError."""
        options = self.options(spec.method_options, spec.locality)
        scored = options.selection == "all" and options.select_on == "dev"
        return Plan(
            branches=1,
            steps=spec.steps or STEPS[self.name],
            proposals=spec.proposals or PROPOSALS,
            beam=options.beam,
            finalists=0 if scored else options.beam,
            measures=False,
            marker=spec.marker or "llm",
            chosen_on=options.select_on,
            seed=spec.seed,
        )

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:
        """Return the lowest and the highest number of calls of a run; see ``counting.py``."""
        options, splits, each = self.options(spec.method_options, spec.locality), task.splits, calls_each(task)
        tags = spec.locality in {"nudge", "enforce"} and plan.marker in {"llm", "auto"}
        search = most_calls(
            self.rules,
            options,
            plan,
            tagged=tags or spec.locality == "think",
            train=len(splits.train),
            rows=len(splits.dev if options.select_on == "dev" else splits.train),
            calls_each=each,
        )
        dev, test = len(splits.dev), len(splits.test)
        return each * (dev + test), each * (2 * test + plan.finalists * dev) + search

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the agents; they use the method's form of conversation."""
        own_temperatures = setting.optimizer_temperature is None
        shared = self.conversation(
            self.options(setting.method_options, setting.locality), setting.full, own_temperatures
        )
        tagging = TaggingMarker(model, shared)
        marker = "llm" if setting.marker == OWN else setting.marker
        mark = MARKERS.load(marker, {"llm": lambda _s, _m: tagging, "auto": lambda _s, _m: tagging})(
            setting, model
        ).mark
        critic, proposer = ReasoningCritic(model, shared), RewritingProposer(model, shared)
        inducer = Inducer(model, shared.temperature(shared.options.induce_temperature))
        return Writers(critic.critique, mark, proposer.propose, inducer.induce)

    def start(self, search: Search) -> Beam:
        """Return the beam search, which has not begun yet."""
        spec, task, plan = search.spec, search.task, search.plan
        options = self.options(spec.method_options, spec.locality)
        editor = Editor(
            search.bus,
            search.scoring,
            spec.locality,
            plan.marker,
            search.checks,
            search.emit,
            options.word_cap(len(task.prompt.text.split())),
        )
        expander = Expander(self.rules, plan.proposals, plan.seed, search.train, search.bus, search.scoring, editor)
        return Beam(options, plan.steps, expander, search.scoring, search.bus, search.rows, search.outcome, search.emit)


APE: Final = BeamMethod("ape", Ape(), RewritingSetting)
APO: Final = BeamMethod("apo", Apo(), RewritingSetting)
PE2: Final = BeamMethod("pe2", Pe2(), InspectingSetting)
