"""The messages between the search and its agents: requests, replies, and the typed topics that connect them.

A topic pairs one request type with one reply type, so the type checker finds a wrong message. All messages
are frozen and can be written to JSON and read back without loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as slim

from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.scores import Outcome, Scored
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span, merge


class Message(BaseModel):
    """Base of all messages that are sent over the bus."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Topic(Generic[Q, R]):
    """A topic of the bus: its name, and the types of its requests and replies."""

    name: str
    request: type[Q]
    reply: type[R]


@slim(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Row:
    """One example: an id that is unique in the run, the values of the prompt's variables, and the wanted answer."""

    id: str
    variables: dict[str, str]
    target: str


class ScoreAsk(Message):
    """Answer ``row`` with the prompt ``text`` and judge the answer.

    ``replicate``: a number that makes another ask of the same row a new call.
    """

    text: str
    row: Row
    replicate: int = 0


class ScoreReply(Message):
    """The judgement, or why there is none."""

    outcome: Outcome


class Trace(Message):
    """One example with the task model's answer and its score."""

    row: Row
    result: Scored


Placement = Literal["before", "after", "system"]
"""Where a prompt without a placeholder stands: before the input, after it, or as the system message."""

Purpose = Literal["mend", "vary"]
"""The purpose of an edit: to fix what a critique found, or to say the same in other words."""


STRATEGIES: Final = ("format", "rule", "fact", "example", "deletion", "order", "role")
"""How edits help: the form of answers, how to decide, knowledge, an example, fewer words, their order, who answers."""


class CritiqueAsk(Message):
    """Asks to explain why ``prompt`` fails on ``failures`` but not on ``passes``.

    ``reasons``: how many reasons to give. ``history``: the prompt's ancestors with their scores, as text. ``report``:
    what was counted in all answers, as text (see :mod:`lpo_agent.core.evidence`).
    """

    prompt: Prompt
    failures: tuple[Trace, ...]
    passes: tuple[Trace, ...] = ()
    replicate: int = 0
    reasons: int = 1
    history: str = ""
    report: str = ""


class ErrorClass(Message):
    """A kind of error: its name, in how many of the failures it occurs, and what in the prompt causes it."""

    name: str
    count: int = 0
    cause: str = ""


class Critique(Message):
    """The critic's explanation (a "textual gradient" in ProTeGi's terms).

    ``offtopic``: the share of the failed answers that name none of the possible answers; if it is high, the
    form of the answers is wrong rather than their content. ``reasons``: the single reasons in the text, if
    they were asked for. ``classes``: the kinds of errors, if the critic told them apart. ``calls``: how often a model
    was called.
    """

    text: str
    reasons: tuple[str, ...] = ()
    classes: tuple[ErrorClass, ...] = ()
    offtopic: float = Field(default=0.0, ge=0.0, le=1.0)
    calls: int = 0


class Effect(Message):
    """The measured influence of a phrase: mean score with it minus mean score without it, on ``n`` items.

    In [-1, 1]; positive if the phrase helps.
    """

    span: Span
    influence: float
    n: int


class Credit(Message):
    """What earlier edits at a span showed: expected number of edits that paid, and that did not (``barren``)."""

    span: Span
    paid: float
    barren: float


class Rejected(Message):
    """A text that was put into the span with index ``span`` before and did not help."""

    span: int
    text: str


Reach = Literal["near", "wide", "all"]
"""How much of a prompt an edit may change: the planned number of spans, twice as many, or all that may change."""


class Mark(Message):
    """A span to edit, the reason, and the measured influence of its words, if it was measured.

    ``options``: new texts for the span, with the white space that they need, if the marker writes them itself; each is
    an edit of its own. ``strategy``: how these texts help, such as "format" or "rule". ``aim``: the class of errors
    that they should mend.
    """

    span: Span
    reason: str
    influence: float | None = None
    options: tuple[str, ...] = ()
    strategy: str = ""
    aim: str = ""


class MarkAsk(Message):
    """Asks for the spans of ``prompt`` to edit next, at most ``budget`` of them (0: no limit).

    ``words``: the highest number of words in a span. ``purpose``, ``failures`` and ``history`` are the same as
    in the request to the proposer. ``passes``: right answers to protect. ``report``: the same as in the request to the
    critic. ``strategies``: those to prefer, by name.

    ``credits``: what earlier edits of the prompt's spans showed. With the
    reach "all", all text that may change is marked.
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
    passes: tuple[Trace, ...] = ()
    history: str = ""
    report: str = ""
    strategies: tuple[str, ...] = ()


class Marks(Message):
    """The chosen spans, sorted by position. Only marks with new texts may overlap: each of them stands for itself.

    ``said``: the reply of the model that placed the tags, empty if no model was used. ``malformed``: the number
    of earlier replies that could not be used. ``calls``: how often the model was called. ``lost``: why edits of a
    reply could not be used.
    """

    marks: tuple[Mark, ...]
    said: str = ""
    malformed: int = 0
    calls: int = 0
    lost: tuple[str, ...] = ()

    @property
    def written(self) -> bool:
        """Whether the marks bring their new texts, so that no proposer is needed."""
        return bool(self.marks) and all(mark.options for mark in self.marks)

    def on(self, prompt: Prompt) -> MarkedPrompt:
        """Return ``prompt`` with these spans marked; spans of marks with new texts are joined where they overlap."""
        spans = [mark.span for mark in self.marks]
        return MarkedPrompt(prompt=prompt, spans=tuple(merge(spans) if self.written else spans))


class Proposal(Message):
    """New text for some of the marked spans or, if ``text`` is given, for the whole prompt."""

    replacements: tuple[Replacement, ...] = ()
    note: str = ""
    text: str | None = None


class ProposeAsk(Message):
    """Asks for ``n`` different fillings of the marked spans, or for ``n`` new prompts.

    ``influences``: the measured influence of each span, None where it was not measured. ``tried``: texts that
    were scored before and must not be proposed again. ``rejected``: texts that were in these spans before and
    did not help. With a wider ``reach``, more spans change at once. ``locality``: how binding the spans are;
    with "off" and "think" there are none.

    ``said``: the reply that placed the tags, if the conversation continues from it, and ``tag_budget`` the
    highest numbers of tags and of words in a tag that it was told. ``tagged``: that reply, if it is quoted in a
    new conversation because its tags could not be located. ``max_words``, ``step_size`` and ``growth`` limit
    numbers of words; 0 means no limit.
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
    """The proposals, best first; there may be fewer than requested.

    ``malformed``: the number of replies that could not be used. ``calls``: how often the model was called.
    """

    proposals: tuple[Proposal, ...]
    malformed: int = 0
    calls: int = 0


class InduceAsk(Message):
    """Asks for an instruction that could have led from the inputs of ``rows`` to their targets."""

    rows: tuple[Row, ...]
    replicate: int = 0


class Induced(Message):
    """The induced instruction. ``calls``: how often the model was called."""

    text: str
    calls: int = 1


SCORE = Topic("score", ScoreAsk, ScoreReply)
CRITIQUE = Topic("critique", CritiqueAsk, Critique)
MARK = Topic("mark", MarkAsk, Marks)
PROPOSE = Topic("propose", ProposeAsk, Proposals)
INDUCE = Topic("induce", InduceAsk, Induced)
