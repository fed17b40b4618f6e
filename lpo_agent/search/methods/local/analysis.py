"""Analyzes a prompt before it is edited: examples that fail, a critique, and the spans to edit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core import credit, influence, policy
from lpo_agent.core.messages import CRITIQUE, MARK, CritiqueAsk, MarkAsk, Marks, Trace
from lpo_agent.core.scores import Scored
from lpo_agent.search.ablation import MeasuredEffects, measure_effects
from lpo_agent.search.candidates import seed_of
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.messages import Critique, Mark, Reach, Row
    from lpo_agent.search.candidates import Candidate, Pairs, SearchHistory
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Scoring

SPARE: Final = 2
"""How many more spans a model marks than are kept after they were measured."""


class PromptAnalysis(NamedTuple):
    """The analysis of a prompt, with the scored ``pairs`` and the number of optimizer calls (``asked``) it took."""

    marks: Marks
    critique: Critique
    failures: list[Trace]
    reach: Reach
    pairs: Pairs
    asked: int


@dataclass(frozen=True, slots=True)
class PromptAnalyzer:
    """Analyzes prompts for one branch. ``panel``: the training items that all prompts are compared on."""

    number: int
    bus: Bus
    scoring: Scoring
    seed: Candidate
    panel: Sequence[Row]
    plan: Plan

    async def analyze(self, step: int, parent: Candidate, history: SearchHistory) -> PromptAnalysis:
        """Return why ``parent`` fails and which spans to edit; raises RequestFailed."""
        seed, reach = seed_of(self.plan.seed, self.number, step), history.reach(self.plan)
        failures, passes = await self._evidence(parent, seed)
        critique = await self._ask_critic(parent, failures, passes, seed)
        rows = [trace.row for trace in (*failures, *passes)]
        # without a right answer, removing a phrase cannot lower the score
        measured = await self._measure(parent, rows, seed) if passes else MeasuredEffects()
        ask = MarkAsk(
            prompt=parent.prompt,
            critique=critique,
            effects=measured.effects,
            credits=tuple(credit.learned(self.seed.prompt, parent.prompt, history.tries)),
            budget=self._budget(reach) + SPARE * self.plan.reranks,
            seed=seed,
            reach=reach,
        )
        marks = await self.bus.request(MARK, ask, timeout=TIMEOUT)
        asked = critique.calls + marks.calls
        if self.plan.reranks and reach != "all":
            marks, measured = await self._rerank(parent, marks, rows, history, self._budget(reach))
        return PromptAnalysis(marks, critique, failures, reach, measured.pairs, asked)

    def _budget(self, reach: Reach) -> int:
        return self.plan.marks * (1 if reach == "near" else 2)

    async def _evidence(self, parent: Candidate, seed: int) -> tuple[list[Trace], list[Trace]]:
        """Return failures and passes in a seeded random order, so that branches see different items."""
        outcomes = await self.scoring.score(parent.prompt.text, self.panel)
        traces = [Trace(row=row, result=o) for row in self.panel if isinstance(o := outcomes.get(row.id), Scored)]
        random.Random(seed).shuffle(traces)
        return policy.failures_and_passes(traces, self.plan.failures, self.plan.passes)

    async def _ask_critic(
        self, parent: Candidate, failures: Sequence[Trace], passes: Sequence[Trace], seed: int
    ) -> Critique:
        ask = CritiqueAsk(prompt=parent.prompt, failures=tuple(failures), passes=tuple(passes[:2]), replicate=seed)
        return await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)

    async def _measure(self, parent: Candidate, rows: Sequence[Row], seed: int) -> MeasuredEffects:
        """Measure the influence of phrases by ablation, of a random sample if there are many."""
        if not self.plan.measures:
            return MeasuredEffects()
        spans = influence.phrases(parent.prompt)
        probed = sorted(random.Random(seed).sample(spans, min(self.plan.probes, len(spans))))
        return await measure_effects(self.scoring, parent.prompt, probed, rows)

    async def _rerank(
        self, parent: Candidate, marks: Marks, rows: Sequence[Row], history: SearchHistory, budget: int
    ) -> tuple[Marks, MeasuredEffects]:
        """Keep the ``budget`` best of a model's marks, by measured influence and the credit of earlier edits."""
        spans = [mark.span for mark in marks.marks]
        measured = await measure_effects(self.scoring, parent.prompt, spans, rows)
        known = {c.span: c for c in credit.learned(self.seed.prompt, parent.prompt, history.tries, spans)}
        rng = random.Random(seed_of(self.plan.seed, self.number, parent.prompt.text, len(history.tried)))

        def drawn(mark: Mark) -> float:
            return credit.drawn(rng, known.get(mark.span), mark.influence)

        kept = influence.reranked(marks.marks, measured.effects, budget, drawn)
        return marks.model_copy(update={"marks": kept}), measured
