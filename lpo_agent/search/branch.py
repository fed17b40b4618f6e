"""One branch of the search. A step reads top to bottom: evidence, critique, marks, edits, race."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core import influence, policy
from lpo_agent.core.events import CandidateRaced, Marked, Proposed, StepStarted
from lpo_agent.core.measures import measure
from lpo_agent.core.messages import (
    CRITIQUE,
    MARK,
    PROPOSE,
    CritiqueAsk,
    MarkAsk,
    Marks,
    ProposeAsk,
    Trace,
)
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import splice
from lpo_agent.errors import EditRejected, RequestFailed
from lpo_agent.search.measuring import measure_effects
from lpo_agent.search.plan import Candidate, StepReport
from lpo_agent.search.race import race

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Critique, Effect, Proposals, Row
    from lpo_agent.core.text import MarkedPrompt, Prompt
    from lpo_agent.search.plan import Locality, Plan
    from lpo_agent.search.race import Standing
    from lpo_agent.search.scoring import Scoring

TIMEOUT = 24 * 3600.0  # see search.scoring


@dataclass(frozen=True, slots=True)
class Branch:
    """Improves one prompt by local edits, step by step; knows nothing of other branches."""

    number: int
    bus: Bus
    scoring: Scoring
    rows: Sequence[Row]
    plan: Plan
    locality: Locality
    emit: Callable[[Event], None]

    async def step(self, step: int, parent: Candidate, tried: Sequence[str]) -> StepReport:
        """Try to better ``parent``; ``tried`` are texts that must not be proposed again.

        A step whose agents reply with nothing usable is skipped and says why.
        """
        self.emit(StepStarted(branch=self.number, step=step, parent=parent.id))
        try:
            marks, critique, failures = await self.look(step, parent)
            marked = marks.on(parent.prompt)
            self._show(step, marked)
            proposals = await self._ask_proposer(step, marked, marks, critique, failures=failures, tried=tried)
        except RequestFailed as failed:
            if not failed.single:
                raise
            return StepReport(self.number, step, skipped=failed.failure.detail)
        children = self._children(step, marked, proposals)
        standings = await race(self.scoring, parent, children, self.rows, self.plan)
        return self._report(step, parent, standings)

    async def look(self, step: int, parent: Candidate) -> tuple[Marks, Critique, list[Trace]]:
        """Find out what is wrong with ``parent`` and where to edit it; return marks, critique, failures."""
        failures, passes = await self._evidence(parent)
        critique = await self._ask_critic(step, parent, failures, passes)
        effects = await self._measure(step, parent, [*failures, *passes])
        ask = MarkAsk(
            prompt=parent.prompt,
            critique=critique,
            effects=effects,
            budget=self.plan.marks * (2 if self.plan.reranks else 1),
            seed=self._seed(step),
        )
        marks = await self.bus.request(MARK, ask, timeout=TIMEOUT)
        if self.plan.reranks:
            rows = [trace.row for trace in (*failures, *passes)]
            spans = [mark.span for mark in marks.marks]
            measured = await measure_effects(self.scoring, parent.prompt, spans, rows)
            marks = Marks(marks=influence.reranked(marks.marks, measured.effects, self.plan.marks))
        return marks, critique, failures

    async def _evidence(self, parent: Candidate) -> tuple[list[Trace], list[Trace]]:
        """Score the parent where races start, and show what went wrong and what went right."""
        first = max(self.plan.first_rung, self.plan.failures + self.plan.passes)
        traces = await self._traces(parent, self.rows[:first])
        if all(trace.result.value >= 0.5 for trace in traces):
            traces = await self._traces(parent, self.rows[: self.plan.last_rung])
        return policy.telling(traces, self.plan.failures, self.plan.passes)

    async def _traces(self, parent: Candidate, rows: Sequence[Row]) -> list[Trace]:
        outcomes = await self.scoring.score(parent.prompt.text, rows)
        return [Trace(row=row, result=o) for row in rows if isinstance(o := outcomes.get(row.id), Scored)]

    async def _ask_critic(
        self, step: int, parent: Candidate, failures: Sequence[Trace], passes: Sequence[Trace]
    ) -> Critique:
        ask = CritiqueAsk(
            prompt=parent.prompt, failures=tuple(failures), passes=tuple(passes[:2]), replicate=self._seed(step)
        )
        return await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)

    async def _measure(self, step: int, parent: Candidate, traces: Sequence[Trace]) -> tuple[Effect, ...]:
        """Measure what phrases are worth by leaving each out; which ones is drawn where there are many."""
        if not self.plan.measures:
            return ()
        spans = influence.phrases(parent.prompt)
        drawn = sorted(random.Random(self._seed(step)).sample(spans, min(self.plan.probes, len(spans))))
        return (await measure_effects(self.scoring, parent.prompt, drawn, [trace.row for trace in traces])).effects

    async def _ask_proposer(
        self,
        step: int,
        marked: MarkedPrompt,
        marks: Marks,
        critique: Critique,
        *,
        failures: Sequence[Trace],
        tried: Sequence[str],
    ) -> Proposals:
        ask = ProposeAsk(
            marked=marked,
            critique=critique,
            influences=tuple(mark.influence for mark in marks.marks),
            failures=tuple(failures),
            tried=tuple(tried),
            n=self.plan.proposals,
            seed=self._seed(step),
        )
        return await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)

    def _children(self, step: int, marked: MarkedPrompt, proposals: Proposals) -> list[Candidate]:
        """Splice the proposals in; those that would break the prompt are dropped."""
        children: dict[str, Candidate] = {}
        for proposal in proposals.proposals:
            try:
                prompt = splice(marked, proposal.replacements)
            except EditRejected as exc:
                self._tell(step, marked, None, lost=str(exc))
                continue
            self._tell(step, marked, prompt)
            if prompt.text != marked.prompt.text and prompt.text.strip():
                child = Candidate(prompt, step, self.number, marked, proposal.note)
                children.setdefault(child.id, child)
        return list(children.values())

    def _report(self, step: int, parent: Candidate, standings: Sequence[Standing]) -> StepReport:
        tried = tuple(s.candidate.prompt.text for s in standings)
        report = StepReport(self.number, step, tried=tried)
        for s in standings:
            child, wins = s.candidate, s.survived
            wins = wins and policy.accepts(s.differences, parent.prompt.text, child.prompt.text)
            self.emit(_raced(self.number, step, s, wins=wins))
            if wins and self.locality.admits(child):
                report = StepReport(self.number, step, child, s.mean, s.parent_mean, s.items, tried)
        return report

    def _tell(self, step: int, marked: MarkedPrompt, child: Prompt | None, lost: str | None = None) -> None:
        self.emit(
            Proposed(
                step=step,
                branch=self.number,
                parent=marked.prompt.id,
                candidate=None if child is None else child.id,
                purpose="mend",
                locality="enforce",
                fallback=False,
                replies=0,
                malformed=0,
                measures=None if child is None else measure(marked.prompt.text, child.text, marked),
                lost=lost,
            )
        )

    def _show(self, step: int, marked: MarkedPrompt) -> None:
        fraction = marked.tagged_fraction
        self.emit(
            Marked(
                branch=self.number,
                step=step,
                rendered=marked.render(),
                spans=len(marked.spans),
                tagged_fraction=fraction,
            )
        )

    def _seed(self, step: int) -> int:
        """Return this step's own seed, so that timing never changes what is drawn."""
        text = f"{self.plan.seed}:{self.number}:{step}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def _raced(branch: int, step: int, standing: Standing, *, wins: bool) -> CandidateRaced:
    return CandidateRaced(
        branch=branch,
        step=step,
        candidate=standing.candidate.id,
        mean=standing.mean,
        parent_mean=standing.parent_mean,
        items=standing.items,
        survived=wins,
    )
