"""Makes candidates from a marked parent: by filled spans, by edits of another prompt, and by demonstrations.

Every candidate stores its parent with the spans that were allowed to change, so its locality can be proved,
however it was made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core import demos, pool
from lpo_agent.core.diff import measure
from lpo_agent.core.edits import edits_between, mergeable_edits, moved_place
from lpo_agent.core.events import Proposed
from lpo_agent.core.text import MarkedPrompt, Replacement, splice
from lpo_agent.errors import EditRejected
from lpo_agent.search.candidates import Candidate, seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.guards import Guards
    from lpo_agent.core.messages import Proposals, Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.candidates import SearchHistory
    from lpo_agent.search.plan import Plan


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposal that is not checked yet: the spans, the texts to put there, and how it was made."""

    marked: MarkedPrompt
    replacements: Sequence[Replacement]
    note: str


@dataclass(frozen=True, slots=True)
class CandidateBuilder:
    """Makes candidates for one branch. ``shown``: rows that may be used as demonstrations; none is in the panel."""

    number: int
    seed: Candidate
    shown: Sequence[Row]
    guards: Guards
    plan: Plan
    emit: Callable[[Event], None]

    def children(
        self,
        step: int,
        marked: MarkedPrompt,
        proposals: Proposals,
        history: SearchHistory,
        scores: Sequence[Mapping[str, float]],
    ) -> list[Candidate]:
        """Return the candidates of a step, each text once; rejected ones are left out and reported as events.

        ``scores``: for each prompt of ``history.pool``, its scores by panel item.
        """
        rng = random.Random(seed_of(self.plan.seed, self.number, step, "children"))
        drafts = [Draft(marked, each.replacements, each.note) for each in proposals.proposals]
        drafts += [*self._crossed(marked.prompt, history, scores, rng), *self._demonstrated(marked.prompt, rng)]
        return list(self._admitted(step, drafts, known={marked.prompt.text, *history.tried}))

    def _crossed(
        self, parent: Prompt, history: SearchHistory, scores: Sequence[Mapping[str, float]], rng: random.Random
    ) -> Iterator[Draft]:
        """Yield the parent with the edits of another good prompt at other places (crossover)."""
        own = edits_between(self.seed.prompt, parent.text)
        weights = pool.front(scores)
        mates = [n for n, c in enumerate(history.pool) if weights[n] and c.prompt.text != parent.text]
        if not own or not mates:
            return
        mate = history.pool[mates[pool.draw(rng, [weights[n] for n in mates])]]
        new = mergeable_edits(own, edits_between(self.seed.prompt, mate.prompt.text))
        spans = [span for edit in new if (span := moved_place(own, edit.span)) is not None]
        if new and len(spans) == len(new):
            texts = [Replacement(number, edit.text) for number, edit in enumerate(new)]
            yield Draft(MarkedPrompt(prompt=parent, spans=tuple(spans)), texts, "crossover")

    def _demonstrated(self, parent: Prompt, rng: random.Random) -> Iterator[Draft]:
        """Yield the parent with one demonstration added, removed or swapped."""
        move = demos.draw_edit(parent, self.shown, self.plan.demos, rng) if self.plan.demos else None
        if move is not None:
            span, text, note = move
            yield Draft(MarkedPrompt(prompt=parent, spans=(span,)), [Replacement(0, text)], note)

    def _admitted(self, step: int, drafts: Iterable[Draft], known: set[str]) -> Iterator[Candidate]:
        for draft in drafts:
            try:
                prompt = splice(draft.marked, draft.replacements)
            except EditRejected as exc:
                self._tell(step, draft, None, str(exc))
                continue
            if refused := self._refuse(prompt, known):
                self._tell(step, draft, None, refused)
                continue
            known.add(prompt.text)
            self._tell(step, draft, prompt)
            yield Candidate(prompt, step, self.number, draft.marked, draft.note, tuple(draft.replacements))

    def _refuse(self, prompt: Prompt, known: set[str]) -> str | None:
        if not prompt.text.strip():
            return "the prompt would be empty"
        if prompt.text in known:
            return "the same text was tried before"
        return self.guards.refuse(prompt.text, frozenset(map(demos.block_text, self.shown)))

    def _tell(self, step: int, draft: Draft, child: Prompt | None, lost: str | None = None) -> None:
        marked = draft.marked
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
