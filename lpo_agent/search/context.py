"""The interface between a search method and its run: the prompt and the rows, the agents, and scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core.evidence import divided, report
from lpo_agent.core.messages import CRITIQUE, MARK, PROPOSE, CritiqueAsk, MarkAsk, ProposeAsk, Trace
from lpo_agent.core.scores import Scored, summarize
from lpo_agent.core.text import MarkedPrompt, Prompt, splice
from lpo_agent.search.candidates import Candidate, seed_of
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Critique, Marks, Proposal, Row
    from lpo_agent.core.scores import Score
    from lpo_agent.search.candidates import LocalityChecks
    from lpo_agent.search.outcome import SearchOutcome, SearchTask
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Outcomes, Scoring
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Search:
    """The object that a search method gets for one run.

    A method of your own needs :attr:`prompt`, :attr:`train`, :meth:`score`, :meth:`mean`, :meth:`critique`,
    :meth:`mark`, :meth:`propose` and :meth:`edit`. The calls may raise RequestFailed: if the budget is spent (do not
    catch it; the run then ends with the best prompt so far), or if one reply was unusable (``exc.single``). The other
    attributes are for the methods of this package.
    """

    spec: RunSpec
    task: Task
    plan: Plan
    rows: SearchTask
    bus: Bus
    scoring: Scoring
    outcome: SearchOutcome
    checks: LocalityChecks
    emit: Callable[[Event], None]

    @property
    def prompt(self) -> Prompt:
        """The prompt that the search starts from."""
        return self.outcome.seed.prompt

    @property
    def train(self) -> Sequence[Row]:
        """The rows that the method may use. Dev rows choose among its finalists; test rows are for the final test."""
        return self.rows.train

    async def score(self, prompt: Prompt, rows: Sequence[Row]) -> Outcomes:
        """Return the outcome of each row with ``prompt``, by row id; each pair is scored only once in a run."""
        return await self.scoring.score(prompt.text, rows)

    async def mean(self, prompt: Prompt, rows: Sequence[Row]) -> Score:
        """Return the score of ``prompt`` on ``rows``: mean, items, 95 % interval."""
        return summarize((await self.score(prompt, rows)).values())

    async def critique(self, prompt: Prompt, rows: Sequence[Row], *, failures: int = 3, passes: int = 2) -> Critique:
        """Return the critic's explanation why ``prompt`` fails on some of ``rows``."""
        outcomes = await self.score(prompt, rows)
        traces = [Trace(row=row, result=o) for row in rows if isinstance(o := outcomes.get(row.id), Scored)]
        wrong, right = divided(traces)
        ask = CritiqueAsk(
            prompt=prompt,
            failures=tuple(wrong[:failures]),
            passes=tuple(right[:passes]),
            replicate=self.seed("critique", prompt.text),
            report=report(traces, self.task.labels),
        )
        return await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)

    async def mark(self, prompt: Prompt, critique: Critique, *, spans: int = 4) -> Marks:
        """Return the spans of ``prompt`` that the marker chooses for the next edit."""
        ask = MarkAsk(prompt=prompt, critique=critique, budget=spans, seed=self.seed("mark", prompt.text))
        return await self.bus.request(MARK, ask, timeout=TIMEOUT)

    async def propose(self, marked: MarkedPrompt, critique: Critique, *, n: int = 4) -> Sequence[Proposal]:
        """Return up to ``n`` proposals of the proposer: new texts for the marked spans."""
        ask = ProposeAsk(marked=marked, critique=critique, n=n, seed=self.seed("propose", marked.render()))
        return (await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)).proposals

    def edit(self, marked: MarkedPrompt, proposal: Proposal, *, step: int = 1) -> Candidate:
        """Apply a proposal to ``marked`` and return the new prompt; raises EditRejected if a placeholder is broken."""
        child = splice(marked, proposal.replacements)
        return Candidate(child, step, 0, marked, proposal.note, tuple(proposal.replacements))

    def seed(self, *parts: int | str) -> int:
        """Return a seed for a random choice; the same parts give the same seed in every run with this run's seed."""
        return seed_of(self.plan.seed, *parts)
