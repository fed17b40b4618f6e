"""Edits by a model: the critic explains failures of a prompt, the marker marks spans, and the proposer fills them.

Each new prompt is taken apart into edits of the seed prompt by comparing the two texts. So a filled span, a rewritten
sentence and a new prompt as a whole all become edits of the pool, which other sets may hold too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core import policy
from lpo_agent.core.editpool import PoolEdit, compose, joined
from lpo_agent.core.edits import edits_between, moved_place, origin
from lpo_agent.core.messages import (
    CRITIQUE,
    MARK,
    PROPOSE,
    Credit,
    CritiqueAsk,
    Effect,
    MarkAsk,
    ProposeAsk,
    Rejected,
)
from lpo_agent.core.text import splice
from lpo_agent.errors import EditRejected, RequestFailed
from lpo_agent.search.candidates import seed_of
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.messages import Critique, Marks, Proposals, Trace
    from lpo_agent.core.text import MarkedPrompt, Prompt, Span
    from lpo_agent.search.plan import Plan


class Written(NamedTuple):
    """What the agents wrote: the marked prompt, the new prompts with notes, and how often a model was called.

    ``skipped``: why there is nothing, if a reply was unusable.
    """

    marked: MarkedPrompt | None
    children: Sequence[tuple[Prompt, str]]
    asked: int
    lost: Sequence[str] = ()
    skipped: str | None = None


@dataclass(slots=True)
class EditWriter:
    """Asks the agents for edits, and rests for longer and longer while their edits bring nothing.

    ``rest``: rounds to wait; ``due``: the next round that asks.
    """

    bus: Bus
    plan: Plan
    seed: Prompt
    due: int = 1
    rest: int = 1

    def heard(self, step: int, *, useful: bool) -> None:
        """Set when to ask again: in the next round after useful edits, otherwise after twice the rest of before."""
        self.rest = 1 if useful else min(16, 2 * self.rest)
        self.due = step + self.rest

    async def write(self, step: int, parent: Prompt, traces: Sequence[Trace], known: Known) -> Written:
        """Return new prompts made from ``parent``; raises RequestFailed if the budget is spent.

        ``traces``: the answers with ``parent`` that are known.
        """
        seed = seed_of(self.plan.seed, "write", step)
        mixed = random.Random(seed).sample(traces, len(traces))
        failures, passes = policy.failures_and_passes(mixed, self.plan.failures, self.plan.passes)
        asked = 0
        try:
            critique = await self._criticize(parent, failures, passes, seed)
            asked += critique.calls
            marks = await self._mark(parent, critique, known, seed)
            asked += marks.calls
            proposals = await self._propose(marks.on(parent), critique, (marks, failures), known, seed)
        except RequestFailed as failed:
            if not failed.single:
                raise
            return Written(None, (), asked, skipped=failed.failure.detail)
        children, lost = _filled(marks.on(parent), proposals)
        return Written(marks.on(parent), children, asked + proposals.calls, lost)

    async def _criticize(
        self, parent: Prompt, failures: Sequence[Trace], passes: Sequence[Trace], seed: int
    ) -> Critique:
        ask = CritiqueAsk(prompt=parent, failures=tuple(failures), passes=tuple(passes), replicate=seed)
        return await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)

    async def _mark(self, parent: Prompt, critique: Critique, known: Known, seed: int) -> Marks:
        ask = MarkAsk(
            prompt=parent,
            critique=critique,
            effects=known.effects(),
            credits=known.credits(),
            budget=self.plan.marks,
            seed=seed,
        )
        return await self.bus.request(MARK, ask, timeout=TIMEOUT)

    async def _propose(
        self,
        marked: MarkedPrompt,
        critique: Critique,
        shown: tuple[Marks, Sequence[Trace]],
        known: Known,
        seed: int,
    ) -> Proposals:
        marks, failures = shown
        ask = ProposeAsk(
            marked=marked,
            critique=critique,
            influences=tuple(each.influence for each in marks.marks),
            failures=tuple(failures),
            tried=known.tried(),
            rejected=known.rejected(marked),
            n=self.plan.proposals,
            seed=seed,
        )
        return await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)


def _filled(marked: MarkedPrompt, proposals: Proposals) -> tuple[list[tuple[Prompt, str]], list[str]]:
    """Return the prompts that the proposals make, with their notes, and why others make none."""
    children, lost = [], []
    for each in proposals.proposals:
        try:
            children.append((splice(marked, each.replacements), each.note))
        except EditRejected as exc:
            lost.append(str(exc))
    return children, lost


@dataclass(frozen=True, slots=True)
class Known:
    """What the search knows about edits, in the words of the requests to the agents.

    ``chosen``: the set of edits of the prompt that is asked about.
    """

    seed: Prompt
    chosen: EditSet
    model: Factorial

    def _places(self) -> Iterator[tuple[int, PoolEdit]]:
        """Yield the edits that were scored."""
        scored = {number for each in self.model.scores for number in each}
        yield from ((number, self.model.pool[number]) for number in sorted(scored))

    def effects(self) -> tuple[Effect, ...]:
        """Return the influence of the phrases that were left out in some prompts."""
        own, found = joined(self.model.pool[n] for n in self.chosen), []
        for number, edit in self._places():
            if edit.text or (span := moved_place(own, edit.span)) is None:
                continue
            n = sum(len(scores) for each, scores in self.model.scores.items() if number in each)
            influence = -self.model.worth(frozenset({number}))
            found.append(Effect(span=span, influence=min(1.0, max(-1.0, influence)), n=n))
        return tuple(found)

    def credits(self) -> tuple[Credit, ...]:
        """Return for each place that was edited how many of its edits are thought to pay."""
        own = joined(self.model.pool[n] for n in self.chosen)
        paid: dict[Span, list[float]] = {}
        for number, edit in self._places():
            paid.setdefault(edit.span, []).append(self.model.chance(number))
        found = []
        for place, chances in paid.items():
            span = moved_place(own, place)
            if span is not None:
                total = sum(chances)
                found.append(Credit(span=span, paid=total, barren=len(chances) - total))
        return tuple(found)

    def tried(self) -> tuple[str, ...]:
        """Return the prompts that were scored and are not better than the seed prompt, the worst last."""
        scored = [each for each in self.model.scores if each and self.model.worth(each) <= 0]
        ranked = sorted(scored, key=lambda each: (-self.model.worth(each), sorted(each)))
        return tuple(compose(self.seed, [self.model.pool[n] for n in each]).text for each in ranked)

    def rejected(self, marked: MarkedPrompt) -> tuple[Rejected, ...]:
        """Return the texts that were put at the marked places and are not thought to pay."""
        own = joined(self.model.pool[n] for n in self.chosen)
        places = {origin(own, span): number for number, span in enumerate(marked.spans)}
        return tuple(
            Rejected(span=places[edit.span], text=edit.text)
            for number, edit in self._places()
            if edit.span in places and number not in self.chosen and self.model.worth(frozenset({number})) <= 0
        )


def taken_apart(seed: Prompt, child: Prompt, chosen: EditSet, model: Factorial, source: str) -> list[PoolEdit] | None:
    """Return the edits whose composition is ``child``, those of the set ``chosen`` where they are in it unchanged.

    None if ``child`` cannot be composed from edits of the seed prompt.
    """
    members: dict[tuple[int, int, str], list[PoolEdit]] = {}
    for one in joined(model.pool[n] for n in chosen):
        members[(*one.span, one.text)] = [model.pool[n] for n in chosen if model.pool[n].span == one.span]
    found: list[PoolEdit] = []
    try:
        for edit in edits_between(seed, child.text):
            new = [PoolEdit(edit.span, edit.text, source, core=edit.text.strip())]
            found += members.get((*edit.span, edit.text), new)
        return found if compose(seed, found).text == child.text else None
    except (EditRejected, ValueError):
        return None
