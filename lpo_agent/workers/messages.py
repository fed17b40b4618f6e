"""The messages between runs and workers.

A request to a worker is for one model call. It contains the agent's request and the answers to the agent's earlier
calls. The worker executes the agent with these answers, makes the next call, and returns the answer. The run counts the
cost, stores the answer in the journal, and executes the agent itself. So budget, resume and results are the same as
without workers, and the run relies on a worker only for the answers of its models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic

from lpo_agent.core.messages import CRITIQUE, INDUCE, MARK, PROPOSE, SCORE, Message, Q, Topic
from lpo_agent.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLES: Final[Mapping[str, tuple[Topic[Any, Any], ...]]] = {
    "score": (SCORE,),
    "mark": (MARK,),
    "critique": (CRITIQUE,),
    "propose": (PROPOSE, INDUCE),
}
"""The roles of workers (``--serve``), with the topics that each role serves."""
WORKER_ROLES: Final[Mapping[str, str]] = {
    "score": "answer the items",
    "mark": "choose the words to edit",
    "critique": "say why answers are wrong",
    "propose": "write new words",
}
"""The roles of workers, each with a description."""


class CallRequest(Message, Generic[Q]):
    """Asks a worker for the next model call that the agent needs to answer ``ask``.

    ``known``: the answers to the agent's earlier calls. ``setting``: the name of the settings of the run's agents on
    the server.
    """

    setting: str
    ask: Q
    known: tuple[str, ...] = ()


class PaidAnswer(Message):
    """A model's answer and its tokens; the run that asked records the cost and stores the answer."""

    model: str
    text: str
    truncated: bool
    input_tokens: int
    output_tokens: int


class CallReply(Message):
    """The answer to the call, or its failure; both are None if the agent made no further call."""

    answer: PaidAnswer | None = None
    failed: Failure | None = None


def topic_at_workers(topic: Topic[Any, Any], model: str) -> Topic[CallRequest[Any], CallReply]:
    """Return the topic of the workers with this model, so that workers with different models can share a server."""
    from lpo_agent.bus.nats_connection import token  # noqa: PLC0415 - needs the extra

    return Topic(f"{topic.name}-{token(model)}", CallRequest[topic.request], CallReply)  # type: ignore[name-defined]
