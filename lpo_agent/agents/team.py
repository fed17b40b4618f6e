"""Creates the agents of a run from its settings and models, in the process of the run or in a worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lpo_agent.agents.base import Agents
from lpo_agent.agents.own import OwnMarker, OwnProposer
from lpo_agent.agents.scorer import Scorer
from lpo_agent.core.messages import SCORE, ScoreAsk, ScoreReply
from lpo_agent.metrics import as_metric

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lpo_agent.agents.base import AgentSetting, Marker, Proposer, Writers
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model


@dataclass(frozen=True, slots=True)
class Models:
    """The two roles: the task model answers the examples, the optimizer model marks, critiques and proposes."""

    task: Model
    optimizer: Model


@dataclass(frozen=True, slots=True)
class OwnAgents:
    """Objects of the caller that replace those of the settings; None for parts that the caller does not replace."""

    metric: Metric | None = None
    marker: Marker | None = None
    proposer: Proposer | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """Creates the agents of a run for a pair of models.

    ``writers_of`` creates the agents of the run's method for the optimizer model. ``own``: objects of the caller.
    """

    setting: AgentSetting
    writers_of: Callable[[AgentSetting, Model], Writers]
    own: OwnAgents = OwnAgents()

    def agents(self, models: Models) -> Agents:
        """Return all agents; raises ConfigError."""
        return Agents(self.scorer(models).score, self._writers(models))

    def handler(self, topic: str, models: Models) -> Callable[[Any], Awaitable[Any]]:
        """Return the handler of one topic."""
        if topic == SCORE.name:
            return self.scorer(models).score
        found = {each.name: handler for each, handler in Agents(_no_scorer, self._writers(models)).handlers()}
        return found[topic]

    def scorer(self, models: Models) -> Scorer:
        """Return the scorer; raises ConfigError."""
        setting = self.setting
        return Scorer(
            models.task,
            self.own.metric or as_metric(setting.metric, labels=setting.labels, judge=models.optimizer),
            setting.placement,
            setting.max_tokens,
            setting.temperature,
            extract=setting.extract,
            extract_tokens=setting.extract_tokens,
        )

    def _writers(self, models: Models) -> Writers:
        writers, own = self.writers_of(self.setting, models.optimizer), self.own
        if own.marker is not None:
            writers = replace(writers, mark=OwnMarker(own.marker).mark)
        return writers if own.proposer is None else replace(writers, propose=OwnProposer(own.proposer).propose)


async def _no_scorer(ask: ScoreAsk) -> ScoreReply:
    raise AssertionError(f"no scorer was made for row {ask.row.id}")
