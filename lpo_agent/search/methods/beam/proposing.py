"""Makes one proposal of a beam method: tag the parent, or think, or neither; write; measure the result.

Tagging is the step that Local Prompt Optimization adds to APE, APO and PE2 (Jain and Chowdhary 2025, section
2.2). The modes of locality are "off" (the method without changes), "think" (a control: as much reasoning, but
no tags), "nudge" (as in the paper: tags are advice) and "enforce" (only tagged words can change).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lpo_agent.core import influence
from lpo_agent.core.diff import measure
from lpo_agent.core.events import Marked, Proposed
from lpo_agent.core.messages import MARK, PROPOSE, Critique, MarkAsk, Marks, ProposeAsk
from lpo_agent.core.text import MarkedPrompt, rewritten, splice
from lpo_agent.errors import RequestFailed
from lpo_agent.search.ablation import MeasuredEffects, measure_effects
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.beam_options import BeamOptions, LocalityMode
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Proposal, Purpose, Row, Trace
    from lpo_agent.core.text import Prompt, Span
    from lpo_agent.search.candidates import LocalityChecks
    from lpo_agent.search.scoring import Scoring

PROBES: Final = 4
"""The number of phrases whose influence is measured for each tagging by the influence marker."""
UNCAPPED: Final = 4
"""The number of spans for a marker that uses no model, if the options set no limit."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """The result of tagging: marks, or None and the reason (``why``).

    ``replies`` and ``malformed`` count the replies of the marker's model, ``calls`` the calls to it. ``pairs``:
    pairs of prompt text and row id that were scored to measure influence.
    """

    marks: Marks | None
    replies: int = 0
    malformed: int = 0
    calls: int = 0
    pairs: frozenset[tuple[str, str]] = frozenset()
    why: str = ""


@dataclass(frozen=True, slots=True)
class ProposalRequest:
    """The data from which a proposal is made.

    ``failures``: examples that are shown to the models. ``rows``: rows on which influence is measured.
    ``tagged``: the result of tagging, if the parent was tagged before.
    """

    step: int
    branch: int
    parent: Candidate
    purpose: Purpose
    options: BeamOptions
    seed: int
    critique: Critique
    failures: tuple[Trace, ...] = ()
    rows: tuple[Row, ...] = ()
    history: str = ""
    n: int = 1
    tagged: Tagged | None = None


@dataclass(slots=True)
class ProposalOutcome:
    """The result of a proposal request.

    ``locality``: the mode that was really used; ``fallback``: whether tags were wanted but none were valid.
    ``replies`` and ``malformed`` count tagged prompts and filled slots only. ``calls``: calls of the optimizer
    model; ``pairs``: pairs of prompt text and row id that were scored to measure influence. ``lost``: why there
    is no candidate.
    """

    locality: LocalityMode
    candidates: list[Candidate] = field(default_factory=list)
    fallback: bool = False
    replies: int = 0
    malformed: int = 0
    calls: int = 0
    pairs: frozenset[tuple[str, str]] = frozenset()
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Editor:
    """Makes proposals in one mode of locality, with one kind of marker.

    ``max_words``: the length limit that the model is told for new prompts, 0 for no limit.
    """

    bus: Bus
    scoring: Scoring
    locality: LocalityMode
    marker: str
    checks: LocalityChecks
    emit: Callable[[Event], None]
    max_words: int

    async def propose(self, request: ProposalRequest) -> ProposalOutcome:
        """Return the candidates for ``request``, or none and the reason if no reply is usable.

        If tags or slots are malformed, the proposal is made without tags and counted as a fallback.
        Raises RequestFailed for a spent budget and for other fatal failures.
        """
        outcome = ProposalOutcome(self.locality)
        if self.locality in {"nudge", "enforce"}:
            tagged = request.tagged or await self.tag(request)
            outcome.replies, outcome.malformed = tagged.replies, tagged.malformed
            outcome.calls, outcome.pairs = tagged.calls, tagged.pairs
            done = tagged.marks is not None and await self._write(request, outcome, tagged.marks)
            if not done and (tagged.marks is None or self.locality == "enforce"):
                await self._fall_back(request, outcome, tagged.why)
        else:
            await self._write(request, outcome, None)
        self._tell(request, outcome)
        return outcome

    def lose(self, request: ProposalRequest, why: str) -> ProposalOutcome:
        """Return and report the outcome of a proposal that could not be made."""
        outcome = ProposalOutcome(self.locality, lost=why)
        self._tell(request, outcome)
        return outcome

    async def _fall_back(self, request: ProposalRequest, outcome: ProposalOutcome, why: str) -> None:
        """Propose without tags, or not at all, depending on the options."""
        if request.options.tag_fallback == "drop":
            outcome.lost = outcome.lost or why
            return
        outcome.locality, outcome.fallback = "off", True
        await self._write(request, outcome, None)

    async def tag(self, request: ProposalRequest) -> Tagged:
        """Mark spans of the parent: by a model, by influence, by both, at random, or as its author marked it."""
        options, reranks = request.options, self.marker == "auto"
        prompt, rows = request.parent.prompt, request.rows
        measured = MeasuredEffects()
        if self.marker == "influence":
            measured = await measure_effects(self.scoring, prompt, _drawn(prompt, request.seed), rows)
        ask = MarkAsk(
            prompt=prompt,
            critique=request.critique,
            effects=measured.effects,
            budget=_budget(self.marker, options.tags),
            seed=request.seed,
            words=options.tag_words,
            purpose=request.purpose,
            failures=request.failures,
            history=request.history,
        )
        try:
            marks = await self.bus.request(MARK, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            tries = options.tag_reasks + 1
            return Tagged(None, tries, tries, tries, why=_unusable(failed))
        if reranks:
            spans = [mark.span for mark in marks.marks]
            measured = await measure_effects(self.scoring, prompt, spans, rows)
            marks = marks.model_copy(update={"marks": influence.reranked(marks.marks, measured.effects, options.tags)})
        replies = marks.malformed + 1 if marks.calls else 0
        return Tagged(marks, replies, marks.malformed, marks.calls, measured.pairs)

    async def _write(self, request: ProposalRequest, outcome: ProposalOutcome, marks: Marks | None) -> bool:
        """Request new prompts and add them to the outcome; return whether the reply was usable."""
        prompt, options = request.parent.prompt, request.options
        marked = MarkedPrompt(prompt=prompt, spans=()) if marks is None else marks.on(prompt)
        together = (options.tag_conversation, options.tag_when, options.tag_per) == ("shared", "after", "proposal")
        shared, said = together and self.marker == "llm", "" if marks is None else marks.said
        scoped = outcome.locality == "enforce"
        ask = ProposeAsk(
            marked=marked,
            critique=request.critique,
            failures=request.failures,
            n=request.n,
            seed=request.seed,
            purpose=request.purpose,
            locality=outcome.locality,
            said=said if shared else "",
            tagged="" if shared or marks is None or marks.marks else said,
            tag_budget=(options.tags, options.tag_words),
            history=request.history,
            max_words=self.max_words,
            step_size=options.step_size,
            growth=options.tag_growth if marks is not None else 0,
        )
        try:
            reply = await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            outcome.lost, tries = _unusable(failed), options.tag_reasks + 1
            outcome.calls += tries + (outcome.locality == "think")
            outcome.replies += scoped * tries
            outcome.malformed += scoped * tries
            return False
        outcome.calls += reply.calls
        outcome.replies += scoped * (reply.malformed + 1)
        outcome.malformed += scoped * reply.malformed
        located = marked if marks is not None and marks.marks else None
        found = [_candidate(request, located, proposal) for proposal in reply.proposals]
        outcome.candidates = [child for child in found if self.checks.admits(child) or not scoped]
        outcome.lost = None
        if located is not None:
            self.emit(
                Marked(
                    branch=request.branch,
                    step=request.step,
                    rendered=located.render(),
                    spans=len(located.spans),
                    tagged_fraction=located.tagged_fraction,
                )
            )
        return True

    def _tell(self, request: ProposalRequest, outcome: ProposalOutcome) -> None:
        """Measure and report each candidate; the counts of the request are in the report of the first one."""
        counts = (outcome.replies, outcome.malformed)
        made: Sequence[Candidate | None] = outcome.candidates or [None]
        for child in made:
            measures = None
            if child is not None:
                measures = measure(request.parent.prompt.text, child.prompt.text, child.marked)
            self.emit(
                Proposed(
                    step=request.step,
                    branch=request.branch,
                    parent=request.parent.id,
                    candidate=None if child is None else child.id,
                    purpose=request.purpose,
                    locality=outcome.locality,
                    fallback=outcome.fallback,
                    replies=counts[0],
                    malformed=counts[1],
                    measures=measures,
                    lost=outcome.lost,
                )
            )
            counts = (0, 0)


def _budget(marker: str, tags: int) -> int:
    """Return the number of spans to mark, 0 for no limit; "auto" marks twice as many, as some are left out later."""
    if marker == "llm":
        return tags
    return 2 * tags if marker == "auto" else tags or UNCAPPED


def _drawn(prompt: Prompt, seed: int) -> list[Span]:
    spans = influence.phrases(prompt)
    return sorted(random.Random(seed).sample(spans, min(PROBES, len(spans))))


def _candidate(request: ProposalRequest, marked: MarkedPrompt | None, proposal: Proposal) -> Candidate:
    prompt = request.parent.prompt
    if proposal.text is not None:
        child = rewritten(prompt, proposal.text)
    else:
        child = splice(MarkedPrompt(prompt=prompt, spans=()) if marked is None else marked, proposal.replacements)
    return Candidate(child, request.step, request.branch, marked, proposal.note)


def _unusable(failed: RequestFailed) -> str:
    """Return why a request failed; raises failures that concern other requests too."""
    if not failed.single:
        raise failed
    return failed.failure.detail
