"""The interfaces of agents, which answer typed requests; the marker and the proposer may be objects of the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import Field

from lpo_agent import plugins
from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.messages import (
    CRITIQUE,
    INDUCE,
    MARK,
    PROPOSE,
    SCORE,
    Critique,
    CritiqueAsk,
    InduceAsk,
    Induced,
    MarkAsk,
    Marks,
    Message,
    Placement,
    Proposals,
    ProposeAsk,
    ScoreAsk,
    ScoreReply,
)
from lpo_agent.core.task_facts import TaskFacts

if TYPE_CHECKING:
    from lpo_agent.core.messages import Topic
    from lpo_agent.models.base import Model
    from lpo_agent.plugins import Table


class Marker(Protocol):
    """Chooses the parts of a prompt that the next edit may change."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return the chosen spans; raises ReplyError if a model's reply is unusable, and ProviderError."""
        ...


class Proposer(Protocol):
    """Writes new text for the marked parts of a prompt."""

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return at most ``ask.n`` proposals; raises ReplyError and ProviderError."""
        ...


REPLY_TOKENS: Final = 4_000
"""Tokens of a reply of the optimizer model: several thousand, because many models reason before they reply."""


class AgentSetting(Message):
    """The settings of a run's agents; with them, any process can create the agents.

    ``method``, ``method_options``, ``locality``, ``marker`` and ``proposer`` select the agents. The scorer uses
    ``placement``, ``max_tokens``, ``temperature`` and ``extract`` (see :class:`lpo_agent.agents.scorer.Scorer`) for its
    calls, and ``metric`` and ``labels`` to judge the answers. ``facts``: facts about the training rows. ``full``: the
    text that the task model gets, with "{prompt}" in place of the prompt. ``limits``: the run's limits per minute:
    requests, tokens, input tokens, output tokens. ``reply_tokens``: the longest reply of the optimizer model, in
    tokens.
    """

    method: str
    method_options: Mapping[str, bool | int | float | str] = Field(default_factory=dict)
    locality: LocalityMode = "enforce"
    marker: str = "llm"
    proposer: str = "llm"
    metric: str = "exact"
    labels: tuple[str, ...] = ()
    placement: Placement = "before"
    max_tokens: int = 256
    temperature: float | None = 0.0
    extract: str | None = None
    extract_tokens: int = 10
    optimizer_temperature: float | None = 0.7
    reply_tokens: int = REPLY_TOKENS
    facts: TaskFacts = TaskFacts()
    full: str = "{prompt}"
    limits: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Writers:
    """The handlers of the agents that work on prompts: critic, marker and proposer."""

    critique: Callable[[CritiqueAsk], Awaitable[Critique]]
    mark: Callable[[MarkAsk], Awaitable[Marks]]
    propose: Callable[[ProposeAsk], Awaitable[Proposals]]
    induce: Callable[[InduceAsk], Awaitable[Induced]] | None = None


@dataclass(frozen=True, slots=True)
class Agents:
    """The handlers of all agents of a run."""

    score: Callable[[ScoreAsk], Awaitable[ScoreReply]]
    writers: Writers

    def handlers(self) -> list[tuple[Topic[Any, Any], Callable[[Any], Awaitable[Any]]]]:
        """Return each topic with the handler that serves it."""
        writers = self.writers
        found: list[tuple[Topic[Any, Any], Callable[[Any], Awaitable[Any]] | None]] = [
            (SCORE, self.score),
            (CRITIQUE, writers.critique),
            (MARK, writers.mark),
            (PROPOSE, writers.propose),
            (INDUCE, writers.induce),
        ]
        return [(topic, handler) for topic, handler in found if handler is not None]


MakeMarker = Callable[[AgentSetting, "Model"], Marker]
MakeProposer = Callable[[AgentSetting, "Model"], Proposer]

MARKERS: Final[Table[MakeMarker]] = plugins.MARKERS
PROPOSERS: Final[Table[MakeProposer]] = plugins.PROPOSERS
