"""One proposal of a host method: tag, or think, or neither; write; measure what was done.

This is the step that Local Prompt Optimization puts into APE, APO and PE2 (Jain and Chowdhary 2025,
section 2.2), with its controls: "off" (the host alone), "think" (as much reasoning, no tags),
"nudge" (the paper: tags are advice) and "enforce" (only tagged words can change).
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
from lpo_agent.search.ablation import Measured, measure_effects
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
"""Phrases that the influence marker measures for each tagging."""
UNCAPPED: Final = 4
"""Spans for a marker that asks no model, where there is no cap."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """What tagging gave: marks, or None and why there are none.

    ``replies`` and ``malformed`` count what the marker's model replied, ``calls`` what it was asked;
    ``pairs`` of prompt and row id were scored for it.
    """

    marks: Marks | None
    replies: int = 0
    malformed: int = 0
    calls: int = 0
    pairs: frozenset[tuple[str, str]] = frozenset()
    why: str = ""


@dataclass(frozen=True, slots=True)
class ProposalRequest:
    """What is known when a proposal is asked for.

    ``failures`` are shown to the models; influence is measured on ``rows``. ``tagged``: where that
    was done before, for a parent.
    """

    step: int
    branch: int
    parent: Candidate
    purpose: Purpose
    numbers: BeamOptions
    seed: int
    critique: Critique
    failures: tuple[Trace, ...] = ()
    rows: tuple[Row, ...] = ()
    history: str = ""
    n: int = 1
    tagged: Tagged | None = None


@dataclass(slots=True)
class ProposalOutcome:
    """What came of an edit. ``replies`` and ``malformed`` count tagged prompts and filled slots only.

    ``locality`` is what was done; ``fallback``: tags were wanted and could not be had. ``calls``:
    what the optimizer model was asked; ``pairs`` of prompt and row id were scored beside that.
    ``lost`` says why nothing came.
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
    """Makes proposals in one kind of locality, with one kind of marker.

    ``max_words`` caps new prompts (said to the model, 0: no cap).
    """

    bus: Bus
    scoring: Scoring
    locality: LocalityMode
    marker: str
    checks: LocalityChecks
    emit: Callable[[Event], None]
    max_words: int

    async def edit(self, edit: ProposalRequest) -> ProposalOutcome:
        """Return the proposals that ``edit`` leads to; none, and why, where nothing usable comes.

        Where tags or slots come back malformed, the proposal is made without tags, and counted so.
        Raises RequestFailed for a spent budget and for what no later call could mend.
        """
        draft = ProposalOutcome(self.locality)
        if self.locality in {"nudge", "enforce"}:
            tagged = edit.tagged or await self.tag(edit)
            draft.replies, draft.malformed = tagged.replies, tagged.malformed
            draft.calls, draft.pairs = tagged.calls, tagged.pairs
            done = tagged.marks is not None and await self._write(edit, draft, tagged.marks)
            if not done and (tagged.marks is None or self.locality == "enforce"):
                await self._fall_back(edit, draft, tagged.why)
        else:
            await self._write(edit, draft, None)
        self._tell(edit, draft)
        return draft

    def lose(self, edit: ProposalRequest, why: str) -> ProposalOutcome:
        """Return the draft of a proposal that could not be made, and report it."""
        draft = ProposalOutcome(self.locality, lost=why)
        self._tell(edit, draft)
        return draft

    async def _fall_back(self, edit: ProposalRequest, draft: ProposalOutcome, why: str) -> None:
        """Propose without tags, or not at all; either way there is no local proposal."""
        if edit.numbers.tag_fallback == "drop":
            draft.lost = draft.lost or why
            return
        draft.locality, draft.fallback = "off", True
        await self._write(edit, draft, None)

    async def tag(self, edit: ProposalRequest) -> Tagged:
        """Mark the parent: by a model, by measurement, by both, at random, or as its author did."""
        numbers, reranks = edit.numbers, self.marker == "auto"
        prompt, rows = edit.parent.prompt, edit.rows
        measured = Measured()
        if self.marker == "influence":
            measured = await measure_effects(self.scoring, prompt, _drawn(prompt, edit.seed), rows)
        ask = MarkAsk(
            prompt=prompt,
            critique=edit.critique,
            effects=measured.effects,
            budget=_budget(self.marker, numbers.tags),
            seed=edit.seed,
            words=numbers.tag_words,
            purpose=edit.purpose,
            failures=edit.failures,
            history=edit.history,
        )
        try:
            marks = await self.bus.request(MARK, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            tries = numbers.tag_reasks + 1
            return Tagged(None, tries, tries, tries, why=_unusable(failed))
        if reranks:
            spans = [mark.span for mark in marks.marks]
            measured = await measure_effects(self.scoring, prompt, spans, rows)
            marks = marks.model_copy(update={"marks": influence.reranked(marks.marks, measured.effects, numbers.tags)})
        replies = marks.malformed + 1 if marks.calls else 0
        return Tagged(marks, replies, marks.malformed, marks.calls, measured.pairs)

    async def _write(self, edit: ProposalRequest, draft: ProposalOutcome, marks: Marks | None) -> bool:
        """Ask for the new prompts and take them in; return whether any came."""
        prompt, numbers = edit.parent.prompt, edit.numbers
        marked = MarkedPrompt(prompt=prompt, spans=()) if marks is None else marks.on(prompt)
        together = (numbers.tag_conversation, numbers.tag_when, numbers.tag_per) == ("shared", "after", "proposal")
        shared, said = together and self.marker == "llm", "" if marks is None else marks.said
        scoped = draft.locality == "enforce"
        ask = ProposeAsk(
            marked=marked,
            critique=edit.critique,
            failures=edit.failures,
            n=edit.n,
            seed=edit.seed,
            purpose=edit.purpose,
            locality=draft.locality,
            said=said if shared else "",
            tagged="" if shared or marks is None or marks.marks else said,
            tag_budget=(numbers.tags, numbers.tag_words),
            history=edit.history,
            max_words=self.max_words,
            step_size=numbers.step_size,
            growth=numbers.tag_growth if marks is not None else 0,
        )
        try:
            reply = await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            draft.lost, tries = _unusable(failed), numbers.tag_reasks + 1
            draft.calls += tries + (draft.locality == "think")
            draft.replies += scoped * tries
            draft.malformed += scoped * tries
            return False
        draft.calls += reply.calls
        draft.replies += scoped * (reply.malformed + 1)
        draft.malformed += scoped * reply.malformed
        located = marked if marks is not None and marks.marks else None
        found = [_candidate(edit, located, proposal) for proposal in reply.proposals]
        draft.candidates = [child for child in found if self.checks.admits(child) or not scoped]
        draft.lost = None
        if located is not None:
            self.emit(
                Marked(
                    branch=edit.branch,
                    step=edit.step,
                    rendered=located.render(),
                    spans=len(located.spans),
                    tagged_fraction=located.tagged_fraction,
                )
            )
        return True

    def _tell(self, edit: ProposalRequest, draft: ProposalOutcome) -> None:
        """Measure and report each proposal; the counts of an edit stand in the first one's report."""
        counts = (draft.replies, draft.malformed)
        made: Sequence[Candidate | None] = draft.candidates or [None]
        for child in made:
            measures = None
            if child is not None:
                measures = measure(edit.parent.prompt.text, child.prompt.text, child.marked)
            self.emit(
                Proposed(
                    step=edit.step,
                    branch=edit.branch,
                    parent=edit.parent.id,
                    candidate=None if child is None else child.id,
                    purpose=edit.purpose,
                    locality=draft.locality,
                    fallback=draft.fallback,
                    replies=counts[0],
                    malformed=counts[1],
                    measures=measures,
                    lost=draft.lost,
                )
            )
            counts = (0, 0)


def _budget(marker: str, tags: int) -> int:
    """Return how many spans to mark: twice as many where some are left out again; 0 is no cap for a model."""
    if marker == "llm":
        return tags
    return 2 * tags if marker == "auto" else tags or UNCAPPED


def _drawn(prompt: Prompt, seed: int) -> list[Span]:
    spans = influence.phrases(prompt)
    return sorted(random.Random(seed).sample(spans, min(PROBES, len(spans))))


def _candidate(edit: ProposalRequest, marked: MarkedPrompt | None, proposal: Proposal) -> Candidate:
    prompt = edit.parent.prompt
    if proposal.text is not None:
        child = rewritten(prompt, proposal.text)
    else:
        child = splice(MarkedPrompt(prompt=prompt, spans=()) if marked is None else marked, proposal.replacements)
    return Candidate(child, edit.step, edit.branch, marked, proposal.note)


def _unusable(failed: RequestFailed) -> str:
    """Return why a request gave nothing usable; raises what concerns other requests too."""
    if not failed.single:
        raise failed
    return failed.failure.detail
