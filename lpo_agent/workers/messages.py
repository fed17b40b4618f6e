"""What a run asks of workers, and what they answer.

A worker does one model call at a time for a request: it is told the answers to the calls before, repeats what the
agent does with these, makes the next call and returns its answer. The run pays for it, files it, and goes on from there
itself. So caps, resume and results are those of a run without workers, and no worker is believed about anything but
what its model said.
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
"""What a worker may be started for (``--serve``), with the topics that it then serves."""
WORKER_ROLES: Final[Mapping[str, str]] = {
    "score": "answer the items",
    "mark": "choose the words to edit",
    "critique": "say why answers are wrong",
    "propose": "write new words",
}
"""What each role of a worker does, by its name."""


class Work(Message, Generic[Q]):
    """Make the next model call that answering ``ask`` takes; ``known`` are the answers to the calls before it.

    ``setting`` is the name of the agents' setting at the server.
    """

    setting: str
    ask: Q
    known: tuple[str, ...] = ()


class PaidAnswer(Message):
    """A model's answer, to be booked and filed by the run that asked."""

    model: str
    text: str
    truncated: bool
    input_tokens: int
    output_tokens: int


class Answered(Message):
    """The answer to the next call, or why there is none. Neither: no further call is needed."""

    answer: PaidAnswer | None = None
    failed: Failure | None = None


def topic_at_workers(topic: Topic[Any, Any], model: str) -> Topic[Work[Any], Answered]:
    """Return where requests of a topic go, so that workers with other models may share the server."""
    from lpo_agent.bus.nats_connection import token  # noqa: PLC0415 - needs the extra

    return Topic(f"{topic.name}-{token(model)}", Work[topic.request], Answered)  # type: ignore[name-defined]
