"""One branch of the local search. A step chooses a parent, analyzes it, makes candidates, and races them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core import credit, policy, pool
from lpo_agent.core.events import CandidateRaced, Marked, StepStarted
from lpo_agent.core.evidence import ItemOrder, draw_item_order, item_discrimination
from lpo_agent.core.messages import PROPOSE, ProposeAsk
from lpo_agent.core.scores import paired, values
from lpo_agent.errors import RequestFailed
from lpo_agent.search.candidates import StepReport, seed_of
from lpo_agent.search.methods.local.race import race
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Proposals
    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.search.candidates import Candidate, LocalityChecks, Pairs, SearchHistory
    from lpo_agent.search.methods.local.analysis import PromptAnalysis, PromptAnalyzer
    from lpo_agent.search.methods.local.building import CandidateBuilder
    from lpo_agent.search.methods.local.race import Standing
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Scoring


@dataclass(frozen=True, slots=True)
class Branch:
    """Improves prompts by local edits, step by step; results of other branches reach it through the history."""

    number: int
    bus: Bus
    scoring: Scoring
    analyzer: PromptAnalyzer
    builder: CandidateBuilder
    plan: Plan
    locality: LocalityChecks
    emit: Callable[[Event], None]

    async def step(self, step: int, history: SearchHistory) -> StepReport:
        """Try to improve a prompt of the pool, and return the report of the step.

        If an agent gives no usable reply, the step is skipped and the report says why.
        """
        scores = [values(self.scoring.known(c.prompt.text, self.analyzer.panel)) for c in history.pool]
        parent = self._parent(step, history, scores)
        self.emit(StepStarted(branch=self.number, step=step, parent=parent.id))
        try:
            analysis = await self.analyzer.analyze(step, parent, history)
            marked = self._show(step, analysis.marks.on(parent.prompt))
            proposals = await self._ask_proposer(step, marked, analysis, history)
        except RequestFailed as failed:
            if not failed.single:
                raise
            return StepReport(self.number, step, skipped=failed.failure.detail)
        children = self.builder.children(step, marked, proposals, history, scores)
        item_order = self._item_order(step, scores)
        standings = await race(self.scoring, parent, children, item_order, rows=self.analyzer.panel, plan=self.plan)
        accepted = await self._accept(parent, standings)
        return self._report(step, standings, accepted, pairs=analysis.pairs, asked=analysis.asked + proposals.calls)

    def _parent(self, step: int, history: SearchHistory, scores: Sequence[Mapping[str, float]]) -> Candidate:
        """Return the prompt to edit: the leader for branch 0 unless it is stuck, otherwise one of the Pareto front."""
        if self.number == 0 and history.reach(self.plan) != "all":
            return history.pool[pool.leader(scores, [len(c.prompt.text) for c in history.pool])]
        rng = random.Random(seed_of(self.plan.seed, self.number, step, "parent"))
        return history.pool[pool.draw(rng, pool.front(scores))]

    async def _ask_proposer(
        self, step: int, marked: MarkedPrompt, analysis: PromptAnalysis, history: SearchHistory
    ) -> Proposals:
        ask = ProposeAsk(
            marked=marked,
            critique=analysis.critique,
            influences=tuple(mark.influence for mark in analysis.marks.marks),
            failures=tuple(analysis.failures),
            tried=history.tried,
            rejected=credit.rejected(self.analyzer.seed.prompt, marked, history.tries),
            reach=analysis.reach,
            n=self.plan.proposals,
            seed=seed_of(self.plan.seed, self.number, step),
        )
        return await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)

    def _item_order(self, step: int, scores: Sequence[Mapping[str, float]]) -> ItemOrder:
        """Return the item order of this step's race; items that discriminate between prompts tend to come first."""
        items = [row.id for row in self.analyzer.panel]
        answered = {item: [found[item] for found in scores if item in found] for item in items}
        discrimination = item_discrimination(answered) if len(scores) > 1 else {}
        return draw_item_order(items, discrimination, f"{self.plan.seed}:{self.number}:{step}")

    async def _accept(self, parent: Candidate, standings: Sequence[Standing]) -> Candidate | None:
        """Return the best candidate that was not eliminated, if it is better than its parent on the whole panel."""
        best = standings[0] if standings and standings[0].fate in {"finished", "promoted"} else None
        if best is None or best.gain < 0:
            return None
        panel, child = self.analyzer.panel, best.candidate
        new = await self.scoring.score(child.prompt.text, panel)
        old = await self.scoring.score(parent.prompt.text, panel)
        better = policy.accepts(paired(new, old, [row.id for row in panel]), parent.prompt.text, child.prompt.text)
        return child if better and self.locality.admits(child) else None

    def _report(
        self, step: int, standings: Sequence[Standing], accepted: Candidate | None, *, pairs: Pairs, asked: int
    ) -> StepReport:
        scored, tries, mean = set(pairs), [], 0.0
        for standing in standings:
            child = standing.candidate
            self._tell(step, standing, wins=child is accepted)
            scored |= standing.pairs
            if child.marked is not None:
                gain, items, seed = standing.gain, len(standing.differences), self.analyzer.seed.prompt
                tries += credit.tries_of(seed, child.marked, child.filled, gain=gain, items=items)
        if accepted is not None:
            text, panel = accepted.prompt.text, self.analyzer.panel
            found = values(self.scoring.known(text, panel))
            mean = sum(found.values()) / len(found)
            scored |= {(text, row.id) for row in panel}
        tried = tuple(standing.candidate.prompt.text for standing in standings)
        return StepReport(
            self.number, step, accepted, mean, tried, tries=tuple(tries), pairs=frozenset(scored), asked=asked
        )

    def _tell(self, step: int, standing: Standing, *, wins: bool) -> None:
        child, panel = standing.candidate, self.analyzer.panel
        raced = [row for row in panel if row.id in set(standing.items)]
        found = values(self.scoring.known(child.prompt.text, raced))
        mean = sum(found.values()) / len(found) if found else 0.0
        self.emit(
            CandidateRaced(
                branch=self.number,
                step=step,
                candidate=child.id,
                mean=mean,
                parent_mean=mean - standing.gain,
                items=len(standing.differences),
                survived=wins,
                parent=child.marked.prompt.id if child.marked else "",
                text=child.prompt.text,
                fate=standing.fate,
                log_e=standing.log_e,
                note=child.note,
            )
        )

    def _show(self, step: int, marked: MarkedPrompt) -> MarkedPrompt:
        self.emit(
            Marked(
                branch=self.number,
                step=step,
                rendered=marked.render(),
                spans=len(marked.spans),
                tagged_fraction=marked.tagged_fraction,
            )
        )
        return marked
