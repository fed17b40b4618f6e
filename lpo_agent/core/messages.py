"""What agents are asked and what they answer: frozen messages and the typed topics they go by.

A topic pairs one request type with one reply type, so a wrong message is a type error, not a
surprise at run time. All messages survive a round trip through JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as slim

from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.scores import Outcome, Scored
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span


class Message(BaseModel):
    """Base of everything that crosses the bus."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Topic(Generic[Q, R]):
    """A name to send requests to, with the types of request and reply."""

    name: str
    request: type[Q]
    reply: type[R]


class Failure(Message):
    """Why a handler gave no reply.

    ``kind`` is the name of the error's class; ``retryable`` tells that the same request may
    succeed at another worker or at another time, ``unsure`` that a service may have charged for it.
    """

    kind: str
    detail: str
    retryable: bool = False
    unsure: bool = False


@slim(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Row:
    """One example: its id (unique in a run), the template's variables, and the wanted answer."""

    id: str
    variables: dict[str, str]
    target: str


class ScoreAsk(Message):
    """Answer ``row`` with the prompt ``text`` and judge the answer."""

    text: str
    row: Row


class ScoreReply(Message):
    """The judgement, or why there is none."""

    outcome: Outcome


class Trace(Message):
    """One example with what the task model made of it."""

    row: Row
    result: Scored


Placement = Literal["before", "after", "system"]
"""Where a prompt without a placeholder stands: before the input, after it, or as the system message."""

Purpose = Literal["mend", "vary"]
"""What an edit is for: to mend what a critique found, or to say the same in other words."""


class CritiqueAsk(Message):
    """Explain why ``prompt`` fails on ``failures`` and not on ``passes``.

    ``reasons``: how many to name. ``history`` tells how the prompt came about.
    """

    prompt: Prompt
    failures: tuple[Trace, ...]
    passes: tuple[Trace, ...] = ()
    replicate: int = 0
    reasons: int = 1
    history: str = ""


class Critique(Message):
    """The explanation (a "textual gradient" in ProTeGi's words).

    ``offtopic`` is the share of the failed answers that name none of the possible answers:
    high means that the form of the answers is wrong rather than their content. ``reasons`` are the
    single reasons in the text, where they were asked for. A model was asked ``calls`` times.
    """

    text: str
    reasons: tuple[str, ...] = ()
    offtopic: float = Field(default=0.0, ge=0.0, le=1.0)
    calls: int = 0


class Effect(Message):
    """The measured worth of a phrase: mean score with it minus mean score without it.

    Positive: the phrase helps. In [-1, 1]; ``n`` items were compared.
    """

    span: Span
    influence: float
    n: int


class Credit(Message):
    """What was learned of a span: edits there that paid and that did not, each as a sum of chances."""

    span: Span
    paid: float
    barren: float


class Rejected(Message):
    """A text that was put into the span with number ``span`` before, and did not help."""

    span: int
    text: str


Reach = Literal["near", "wide", "all"]
"""How much of a prompt an edit may take hold of: as planned, twice as much, or all that may change."""


class Mark(Message):
    """A span to edit and why."""

    span: Span
    reason: str
    influence: float | None = None


class MarkAsk(Message):
    """Choose the spans of ``prompt`` to edit next, at most ``budget`` of them (0: as many as are right).

    ``words``: the most words of a span. ``purpose``, ``failures`` and ``history`` are what the
    proposer will be told too. ``credits``: what earlier edits there were worth. With the reach "all",
    everything that may change is marked.
    """

    prompt: Prompt
    critique: Critique
    effects: tuple[Effect, ...] = ()
    credits: tuple[Credit, ...] = ()
    reach: Reach = "near"
    budget: int = Field(default=4, ge=0)
    seed: int = 0
    words: int = 5
    purpose: Purpose = "mend"
    failures: tuple[Trace, ...] = ()
    history: str = ""


class Marks(Message):
    """The chosen spans, sorted by position.

    ``said`` is the reply of the model that tagged, if one did, after ``malformed`` replies that
    could not be used; ``calls`` is how often it was asked.
    """

    marks: tuple[Mark, ...]
    said: str = ""
    malformed: int = 0
    calls: int = 0

    def on(self, prompt: Prompt) -> MarkedPrompt:
        """Return ``prompt`` with these spans marked."""
        return MarkedPrompt(prompt=prompt, spans=tuple(mark.span for mark in self.marks))


class Proposal(Message):
    """One way to fill the marked spans; or, where ``text`` is given, a new text for the whole prompt."""

    replacements: tuple[Replacement, ...] = ()
    note: str = ""
    text: str | None = None


class ProposeAsk(Message):
    """Write ``n`` different fillings for the marked spans, or ``n`` new prompts.

    ``influences`` gives, span by span, what was measured (None where nothing was).
    ``tried`` holds texts that were scored before and must not come again. ``locality`` says how
    binding the spans are; for "off" and "think" there are none. ``said`` is the reply that tagged,
    if proposing goes on in its conversation, and ``tag_budget`` what it was allowed. ``tagged``: that
    reply, where it is quoted instead and its tags could not be placed. Word counts of 0 are no cap.
    ``rejected`` texts were in these spans before. With a wider ``reach``, more spans change at once.
    """

    marked: MarkedPrompt
    critique: Critique
    influences: tuple[float | None, ...] = ()
    failures: tuple[Trace, ...] = ()
    tried: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    reach: Reach = "near"
    n: int = Field(default=4, ge=1)
    seed: int = 0
    purpose: Purpose = "mend"
    locality: LocalityMode = "enforce"
    said: str = ""
    tagged: str = ""
    tag_budget: tuple[int, int] = (4, 5)
    history: str = ""
    max_words: int = 0
    step_size: int = 0
    growth: int = 0


class Proposals(Message):
    """Fillings that the proposer believes in, best first; fewer than asked for is allowed.

    ``malformed`` replies came before; the model was asked ``calls`` times.
    """

    proposals: tuple[Proposal, ...]
    malformed: int = 0
    calls: int = 0


class InduceAsk(Message):
    """Guess an instruction that leads from the inputs of ``rows`` to their targets."""

    rows: tuple[Row, ...]
    replicate: int = 0


class Induced(Message):
    """The instruction."""

    text: str
    calls: int = 1


SCORE = Topic("score", ScoreAsk, ScoreReply)
CRITIQUE = Topic("critique", CritiqueAsk, Critique)
MARK = Topic("mark", MarkAsk, Marks)
PROPOSE = Topic("propose", ProposeAsk, Proposals)
INDUCE = Topic("induce", InduceAsk, Induced)
