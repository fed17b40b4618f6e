"""Analyzes a prompt before it is edited: examples that fail, a critique, and the spans to edit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core import influence, policy
from lpo_agent.core.evidence import report
from lpo_agent.core.messages import CRITIQUE, MARK, CritiqueAsk, MarkAsk, Marks, Trace
from lpo_agent.core.places import drawn
from lpo_agent.core.scores import Scored
from lpo_agent.search.ablation import MeasuredEffects, measure_effects
from lpo_agent.search.candidates import seed_of
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.messages import Critique, Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Scoring

SPARE: Final = 2
"""How many more spans a model marks than are kept after they were measured."""


@dataclass(frozen=True, slots=True)
class PromptAnalyzer:
    """Chooses the spans of one prompt to edit, by its answers on ``rows``."""

    bus: Bus
    scoring: Scoring
    rows: Sequence[Row]
    plan: Plan

    async def analyze(self, prompt: Prompt) -> Marks:
        """Return the spans to edit, with the measured influence of their words if the plan wants it measured."""
        plan, seed = self.plan, seed_of(self.plan.seed, 0, 1)
        traces = await self._traces(prompt, seed)
        failures, passes = policy.failures_and_passes(traces, plan.failures, plan.passes)
        ask = CritiqueAsk(
            prompt=prompt,
            failures=tuple(failures),
            passes=tuple(passes[:2]),
            replicate=seed,
            report=report(traces, ()),
        )
        critique: Critique = await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)
        rows = [trace.row for trace in (*failures, *passes)]
        # without a right answer, removing a phrase cannot lower the score
        measured = await self._measure(prompt, rows, seed) if passes and plan.measures else MeasuredEffects()
        budget = plan.marks + SPARE * plan.reranks
        mark = MarkAsk(prompt=prompt, critique=critique, effects=measured.effects, budget=budget, seed=seed)
        marks = await self.bus.request(MARK, mark, timeout=TIMEOUT)
        return await self._rerank(prompt, marks, rows) if plan.reranks else marks

    async def _traces(self, prompt: Prompt, seed: int) -> list[Trace]:
        """Return the answers in a seeded random order."""
        outcomes = await self.scoring.score(prompt.text, self.rows)
        traces = [Trace(row=row, result=o) for row in self.rows if isinstance(o := outcomes.get(row.id), Scored)]
        random.Random(seed).shuffle(traces)
        return traces

    async def _measure(self, prompt: Prompt, rows: Sequence[Row], seed: int) -> MeasuredEffects:
        """Measure the influence of phrases by ablation, of a random sample if there are many."""
        spans = influence.phrases(prompt)
        probed = sorted(random.Random(seed).sample(spans, min(self.plan.probes, len(spans))))
        return await measure_effects(self.scoring, prompt, probed, rows)

    async def _rerank(self, prompt: Prompt, marks: Marks, rows: Sequence[Row]) -> Marks:
        """Keep the best of a model's marks, by measured influence."""
        measured = await measure_effects(self.scoring, prompt, [mark.span for mark in marks.marks], rows)
        rng = random.Random(seed_of(self.plan.seed, 0, prompt.text, 0))
        kept = influence.reranked(
            marks.marks, measured.effects, self.plan.marks, lambda mark: drawn(rng, None, mark.influence)
        )
        return marks.model_copy(update={"marks": kept})
