"""Beam search over prompts with backtracking: the loop that APE, APO and PE2 share.

PE2's Algorithm 1 (Ye et al. 2024): score the new prompts, keep the best of all prompts so far, expand each of
them, and remove duplicates. ProTeGi's loop (Pryzant et al. 2023, Algorithm 1) differs only in the pool and in
the selection. Among prompts with equal scores, the oldest is preferred.

Within a step there is no waiting: a prompt is scored while others are still being written. Between steps all
scores are needed, as in the original methods.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.core.events import (
    BeamSelected,
    CandidateScored,
    FinalistScored,
    PhaseStarted,
    Proposed,
    StepFinished,
    StepStarted,
)
from lpo_agent.core.messages import INDUCE, InduceAsk
from lpo_agent.core.scores import summarize
from lpo_agent.core.text import MarkedPrompt, Replacement, Span, splice
from lpo_agent.errors import EditRejected, RequestFailed
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.methods.beam.bandits import Arms, choose
from lpo_agent.search.methods.beam.expanding import Ancestry
from lpo_agent.search.outcome import score_seed, settle
from lpo_agent.search.scoring import TIMEOUT, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.methods.beam.expanding import Expander, Family
    from lpo_agent.search.outcome import SearchOutcome, SearchTask
    from lpo_agent.search.scoring import Scoring

INDUCE_TRIES: Final = 2
"""The calls of an induction that gave no usable instruction: the question, and one repetition."""


@dataclass(slots=True)
class Beam:
    """The search of a beam method; implements :class:`lpo_agent.search.methods.base.PhasedSearch`.

    ``nodes``: all prompts so far, in the order in which they were made, beginning with the seed. ``asked``: the
    number of calls of the optimizer model; ``seen``: the scored pairs of prompt text and row id. Both are
    updated in a fixed order, so that the curve over them does not depend on timing.
    """

    options: BeamOptions
    steps: int
    expander: Expander
    scoring: Scoring
    bus: Bus
    task: SearchTask
    outcome: SearchOutcome
    emit: Callable[[Event], None]
    nodes: list[Candidate] = field(default_factory=list)
    beam: list[Candidate] = field(default_factory=list)
    asked: int = 0
    parents: dict[str, Candidate] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def search(self) -> None:
        """Alternate expansion and selection of the beam for the planned number of steps."""
        self.emit(PhaseStarted(phase="search", total=self.steps))
        self.nodes = [self.outcome.seed]
        await score_seed(self.scoring, self.task, self.outcome, self.emit)
        self._count_scored(self.nodes[0], self.task.dev)
        self._note_best(self.nodes[0])
        if self.expander.rules.induced(self.options):
            self.nodes += self._fresh(await self._induce())
        self.beam = await self._select(0, self.nodes, new=self.nodes[1:])
        for step in range(1, self.steps + 1):
            if self.options.stop_at_perfect and self._is_perfect(self.beam[0]):
                break
            children = await self._expand(step)
            self.beam = await self._select(step, self._pool(children), new=children)

    async def _expand(self, step: int) -> list[Candidate]:
        """Expand all prompts of the beam concurrently; children are scored as soon as they exist, and become nodes.

        If the budget is spent meanwhile, the children so far become nodes too, so no score is lost.
        """
        options = self.options.shrunk(step, self.steps)
        families: list[Family | None] = [None] * len(self.beam)

        async def one(number: int, parent: Candidate) -> None:
            self.emit(StepStarted(branch=number, step=step, parent=parent.id))
            at = Ancestry(step, number, options, self._history(parent) if options.history else "")
            family = families[number] = await self.expander.expand(parent, at)
            if options.selection == "all":
                await self.scoring.score_all([child.prompt.text for child in family.successors], self._rows())

        try:
            await together(partial(one, number, parent) for number, parent in enumerate(self.beam))
        finally:
            children = self._taken_in([family for family in families if family is not None])
        return children

    def _taken_in(self, families: Sequence[Family]) -> list[Candidate]:
        """Count the calls and scorings of families, add new children to the nodes, and return these children."""
        for family in families:
            looked = [row for row in self.expander.train if row.id in family.looked]
            self._count_scored(family.parent, looked)
            self.seen |= family.pairs
            self.asked += family.calls
            self.parents |= {child.id: family.parent for child in family.successors if child.id not in self.parents}
        fresh = self._fresh([child for family in families for child in family.successors])
        self.nodes += fresh
        return fresh

    def _fresh(self, children: Sequence[Candidate]) -> list[Candidate]:
        """Return the children without duplicates and without prompts that are nodes already."""
        fresh = {child.prompt.text: child for child in reversed(children)}
        for node in self.nodes:
            fresh.pop(node.prompt.text, None)
        kept = [child for child in children if fresh.pop(child.prompt.text, None) is not None]
        self.outcome.candidates += len(kept)
        return kept

    def _pool(self, children: Sequence[Candidate]) -> list[Candidate]:
        if self.options.pool == "all":
            return self.nodes
        if self.options.pool == "beam":
            return [*self.beam, *children]
        return list(children) or self.beam

    async def _select(self, step: int, pool: Sequence[Candidate], *, new: Sequence[Candidate]) -> list[Candidate]:
        """Choose the beam from the pool, and report the scores."""
        if self.options.selection == "all":
            order = await self._by_all(step, pool, new)
        elif len(pool) <= self.options.beam:
            order = list(pool)
        else:
            order = await self._by_parts(step, pool)
        beam = order[: self.options.beam]
        self.emit(BeamSelected(step=step, candidates=tuple(node.id for node in beam)))
        if step:
            self._tell_step(step, beam[0])
        return beam

    async def _by_all(self, step: int, pool: Sequence[Candidate], new: Sequence[Candidate]) -> list[Candidate]:
        rows = self._rows()
        await self.scoring.score_all([node.prompt.text for node in pool], rows)
        for node in [node for node in pool if node not in new]:
            self._count_scored(node, rows)
        for node in new:
            self._count_scored(node, rows)
            self._note_best(node)
            self._tell_scored(step, node, rows)
        means = {node.id: self._mean(node) for node in pool}
        return sorted(pool, key=lambda node: -means[node.id])

    async def _by_parts(self, step: int, pool: Sequence[Candidate]) -> list[Candidate]:
        rng = random.Random(f"{self.expander.seed}:{step}:selection")
        arms = Arms([node.prompt.text for node in pool], self.scoring, self._rows(), rng)
        order = await choose(arms, self.options)
        for number, node in enumerate(pool):
            self._count_scored(node, [row for row in self._rows() if (number, row.id) in arms.asked])
            mean, count = arms.mean(number), arms.count[number]
            self._report(step, node, mean if count else None, count)
        return [pool[number] for number in order]

    async def explain(self) -> None:
        """Do nothing: the worth of single edits is not measured for prompts that are rewritten as a whole."""

    async def confirm(self) -> None:
        """Choose the best prompt on dev; a beam that was selected by partial scores is scored on all of dev first."""
        candidates = self.nodes[1:]
        if self.options.selection != "all" or self.options.select_on != "dev":
            candidates = [node for node in self.beam if node is not self.outcome.seed]
            self.emit(PhaseStarted(phase="confirm", total=len(self.task.dev) * len(candidates)))
            await self.scoring.score_all([node.prompt.text for node in candidates], self.task.dev)
            for node in candidates:
                self._count_scored(node, self.task.dev)
                self._note_best(node)
                score = summarize(self.scoring.known(node.prompt.text, self.task.dev).values())
                self.emit(FinalistScored(candidate=node.id, score=score))
        await score_seed(self.scoring, self.task, self.outcome, self.emit)
        settle(self.scoring, self.task, self.outcome, candidates)
        if self.outcome.curve and self.outcome.curve[-1][0] < self.spent:
            self.outcome.curve.append((self.spent, self.outcome.curve[-1][1]))
        self.outcome.scorings, self.outcome.optimizer_calls = len(self.seen), self.asked

    async def _induce(self) -> list[Candidate]:
        """Return prompts with instructions induced from sets of examples (APE: Zhou et al. 2022, section 3.1)."""
        options = self.options
        rng = random.Random(f"{self.expander.seed}:induce")
        size = min(options.induce_items, len(self.expander.train))
        sets = [tuple(rng.sample(list(self.expander.train), size)) for _ in range(options.induce)]
        asks = [InduceAsk(rows=rows, replicate=n) for rows in sets for n in range(options.induce_each)]
        found: list[Candidate | None] = [None] * len(asks)

        async def one(number: int, ask: InduceAsk) -> None:
            try:
                reply = await self.bus.request(INDUCE, ask, timeout=TIMEOUT)
                self.asked += reply.calls
                found[number] = Candidate(framed(self.outcome.seed.prompt, reply.text))
            except EditRejected:
                return
            except RequestFailed as failed:
                if not failed.single:
                    raise
                self.asked += INDUCE_TRIES

        await together(partial(one, number, ask) for number, ask in enumerate(asks))
        for child in found:
            self.emit(_induced(self.outcome.seed, child))
        return [child for child in found if child is not None]

    # events and counts

    def _rows(self) -> Sequence[Row]:
        return self.task.dev if self.options.select_on == "dev" else self.expander.train

    def _mean(self, node: Candidate) -> float:
        return summarize(self.scoring.known(node.prompt.text, self._rows()).values()).mean or 0.0

    def _is_perfect(self, node: Candidate) -> bool:
        known = self.scoring.known(node.prompt.text, self._rows())
        return len(known) == len(self._rows()) and self._mean(node) == 1.0

    def _count_scored(self, node: Candidate, rows: Sequence[Row]) -> None:
        """Count these rows as scored; each pair of prompt and row counts once."""
        self.seen |= {(node.prompt.text, row.id) for row in rows}

    @property
    def spent(self) -> int:
        """The number of calls so far, counted as if they were made one after another."""
        return self.asked + len(self.seen) * self.task.calls_each

    def _note_best(self, node: Candidate) -> None:
        known = self.scoring.known(node.prompt.text, self.task.dev)
        if len(known) == len(self.task.dev):
            best = self.outcome.curve[-1][1] if self.outcome.curve else 0.0
            self.outcome.curve.append((self.spent, max(best, summarize(known.values()).mean or 0.0)))

    def _tell_scored(self, step: int, node: Candidate, rows: Sequence[Row]) -> None:
        score = summarize(self.scoring.known(node.prompt.text, rows).values())
        self._report(step, node, score.mean, score.n)

    def _report(self, step: int, node: Candidate, mean: float | None, items: int) -> None:
        self.emit(CandidateScored(step=step, candidate=node.id, mean=mean, items=items, calls=self.spent))

    def _tell_step(self, step: int, best: Candidate) -> None:
        known = self.options.selection == "all"
        accepted = best is not self.outcome.seed
        self.emit(
            StepFinished(
                branch=0,
                step=step,
                accepted=best.id if accepted else None,
                text=best.prompt.text if accepted else None,
                mean=self._mean(best) if accepted and known else None,
            )
        )

    def _history(self, node: Candidate) -> str:
        """Return the ancestors of a node as text, the seed first, with their scores on training rows so far."""
        line = []
        while (parent := self.parents.get(node.id)) is not None:
            node = parent
            looked = [row for row in self.expander.train if (node.prompt.text, row.id) in self.seen]
            score = summarize(self.scoring.known(node.prompt.text, looked).values())
            line.append(f"{score.mean or 0.0:.2f} of {score.n}: {node.prompt.text}")
        return "\n".join(reversed(line))


def framed(seed: Prompt, instruction: str) -> Prompt:
    """Return the seed prompt with its largest region that may change replaced by an induced instruction.

    White space at the ends of the region is kept. Raises EditRejected if the instruction is not allowed there.
    """
    largest = max(seed.free_spans(), key=lambda span: (span.end - span.start, -span.start))
    old = largest.of(seed.text)
    inner = old.strip()
    start = largest.start + (old.index(inner) if inner else 0)
    marked = MarkedPrompt(prompt=seed, spans=(Span(start, start + len(inner)),))
    return splice(marked, [Replacement(0, instruction)])


def _induced(seed: Candidate, child: Candidate | None) -> Proposed:
    return Proposed(
        step=0,
        branch=0,
        parent=seed.id,
        candidate=None if child is None else child.id,
        purpose="induce",
        locality="off",
        fallback=False,
        replies=0,
        malformed=0,
        measures=None,
        lost=None if child is not None else "no usable instruction",
    )
