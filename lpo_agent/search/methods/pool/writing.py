"""Edits by a model, from several sources that each rest for longer and longer while they bring nothing.

The first source is the critic and the marker: the critic sorts failures into classes, and the marker quotes places and
writes texts for them. A marker that only chooses places is followed by the proposer, which fills them. The others are
for models that cannot mark, but can write: a new prompt as a whole, taken apart into edits by comparing the texts; an
instruction induced from examples; and other words for a phrase. All of them become edits of the seed prompt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.evidence import LEAST_ROOM, ROOM, Evidence, evidence
from lpo_agent.core.influence import phrases
from lpo_agent.core.messages import (
    CRITIQUE,
    INDUCE,
    MARK,
    PROPOSE,
    Critique,
    CritiqueAsk,
    InduceAsk,
    Mark,
    MarkAsk,
    Marks,
    ProposeAsk,
)
from lpo_agent.core.text import MarkedPrompt, rewritten, splice
from lpo_agent.errors import EditRejected, RequestFailed, RequestRejected
from lpo_agent.search.candidates import seed_of
from lpo_agent.search.methods.pool.taking_apart import INDUCED, groups_of, induced_edits
from lpo_agent.search.scoring import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.editpool import PoolEdit
    from lpo_agent.core.messages import Proposals, Trace
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.methods.pool.known import Known
    from lpo_agent.search.plan import Plan

QUOTED: Final = "marks"
REWRITE: Final = "rewrite"
PARAPHRASE: Final = "paraphrase"
LONGEST_REST: Final = 16
"""Steps that a source rests at most."""
EXAMPLES: Final = (8, 4)
"""Wrong and right examples that are shown with a request for edits; the critic has seen more."""
UNTRIED: Final = 0.04
"""What the best edit of a source is thought to be worth before any was scored, in points of score."""
INDUCED_FROM: Final = (8, 4_000)
"""Examples from which an instruction is induced, and how many characters they have at most."""
PHRASE: Final = 3
"""Words that a phrase needs, to be said in other words."""
NEW_PROMPTS: Final = 2
"""New prompts that are asked for at once."""


class Written(NamedTuple):
    """What a source wrote: ``groups`` of edits that are to be scored together, and new prompts with their source.

    ``asked``: how often a model was called. ``marked``: the prompt with the places that were marked. ``lost``: why some
    edits cannot be used. ``skipped``: why there is nothing, if a reply was unusable.
    """

    source: str
    asked: int
    groups: Sequence[Sequence[PoolEdit]] = ()
    children: Sequence[tuple[Prompt, str]] = ()
    marked: MarkedPrompt | None = None
    lost: Sequence[str] = ()
    skipped: str | None = None


@dataclass(slots=True)
class Rest:
    """When a source is asked again: ``due``, a step; after a reply without edits, ``steps`` later.

    ``last``: the edits that it brought last.
    """

    due: int = 1
    steps: int = 1
    last: Sequence[PoolEdit] = ()


@dataclass(slots=True)
class Asking:
    """One request for edits: the step, the prompt to edit, what is known of edits, and the evidence in its answers."""

    step: int
    parent: Prompt
    known: Known
    seen: Evidence
    seed: int
    calls: int = 0


@dataclass(slots=True)
class EditWriter:
    """Asks the agents for edits. ``labels``: the possible answers, if few. ``room``: characters of examples."""

    bus: Bus
    plan: Plan
    seed: Prompt
    labels: Sequence[str] = ()
    room: int = ROOM
    rests: dict[str, Rest] = field(default_factory=dict)
    _asked: int = 0
    _critique: Critique | None = None

    def __post_init__(self) -> None:
        """List the sources; the weaker ones are not for agents of the caller."""
        models = self.plan.marker in {"llm", "auto"} and self.plan.proposer == "llm"
        self.rests = {name: Rest() for name in (QUOTED, *((REWRITE, INDUCED, PARAPHRASE) if models else ()))}

    @property
    def due(self) -> int:
        """The step in which a source is to be asked next."""
        return min(rest.due for rest in self.rests.values())

    def rests_long(self, steps: int) -> bool:
        """Return whether each source rests for so many steps or more, as its last edits brought nothing."""
        return all(rest.steps >= steps for rest in self.rests.values())

    def heard(self, step: int, source: str, new: Sequence[PoolEdit]) -> None:
        """Set when to ask a source again: soon after new edits, otherwise after twice the rest of before."""
        rest = self.rests[source]
        rest.steps = 1 if new else min(LONGEST_REST, 2 * rest.steps)
        rest.due = step if new else step + rest.steps
        rest.last = tuple(new) or rest.last

    async def write(self, step: int, parent: Prompt, traces: Sequence[Trace], known: Known) -> Written:
        """Return edits of ``parent`` from the source that is due; raises RequestFailed if the budget is spent.

        ``traces``: the answers with ``parent`` that are known.
        """
        self._asked += 1
        seed = seed_of(self.plan.seed, "write", self._asked)
        seen = evidence(traces, self.labels, random.Random(seed), self.room)
        source = self._source(step, known)
        if not seen.failures:
            return Written(source, 0)
        asking = Asking(step, parent, known, seen, seed)
        write = {QUOTED: self._quoted, REWRITE: self._rewrite, INDUCED: self._induce, PARAPHRASE: self._paraphrase}
        try:
            return await write[source](asking)
        except RequestFailed as failed:
            if not failed.single:
                raise
            if failed.failure.kind == RequestRejected.__name__:
                self.room = max(LEAST_ROOM, self.room // 4)  # it may have been too long for the model
            return Written(source, asking.calls, skipped=failed.failure.detail)

    def _source(self, step: int, known: Known) -> str:
        """Return the most promising source of those that are due: by the best of the edits that it brought last.

        So a model whose marks are well formed but senseless is asked for other things as well.
        """
        due = [name for name, rest in self.rests.items() if rest.due <= step] or list(self.rests)
        return max(due, key=lambda name: known.best(self.rests[name].last, UNTRIED))

    async def _quoted(self, asking: Asking) -> Written:
        critique = self._critique = await self._criticize(asking)
        marks = await self._mark(asking, critique)
        if marks.written:
            return Written(
                QUOTED,
                asking.calls,
                self._groups(marks, asking),
                marked=marks.on(asking.parent),
                lost=marks.lost,
            )
        marked = marks.on(asking.parent)
        proposals = await self._propose(marked, critique, marks, asking)
        children, lost = _filled(marked, proposals)
        return Written(QUOTED, asking.calls, children=children, marked=marked, lost=lost)

    def _groups(self, marks: Marks, asking: Asking) -> list[list[PoolEdit]]:
        return groups_of(marks.marks, asking.parent.text, asking.known.members(), f"written {self._asked}")

    async def _criticize(self, asking: Asking) -> Critique:
        seen = asking.seen
        ask = CritiqueAsk(
            prompt=asking.parent,
            failures=seen.failures,
            passes=seen.passes,
            report=seen.report,
            replicate=asking.seed,
        )
        critique: Critique = await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)
        asking.calls += critique.calls
        return critique

    async def _mark(self, asking: Asking, critique: Critique) -> Marks:
        known, seen = asking.known, asking.seen
        ask = MarkAsk(
            prompt=asking.parent,
            critique=critique,
            effects=known.effects(),
            credits=known.credits(),
            budget=self.plan.marks,
            seed=asking.seed,
            failures=seen.failures[: EXAMPLES[0]],
            passes=seen.passes[: EXAMPLES[1]],
            history=known.history(),
            report=seen.report,
            strategies=known.missing(),
        )
        marks: Marks = await self.bus.request(MARK, ask, timeout=TIMEOUT)
        asking.calls += marks.calls
        return marks

    async def _propose(self, marked: MarkedPrompt, critique: Critique, marks: Marks, asking: Asking) -> Proposals:
        ask = ProposeAsk(
            marked=marked,
            critique=critique,
            influences=tuple(each.influence for each in marks.marks),
            failures=asking.seen.failures[: EXAMPLES[0]],
            tried=asking.known.tried(),
            rejected=asking.known.rejected(marked),
            history=asking.known.history(),
            n=self.plan.proposals,
            seed=asking.seed,
        )
        return await self._proposals(ask, asking)

    async def _proposals(self, ask: ProposeAsk, asking: Asking) -> Proposals:
        proposals: Proposals = await self.bus.request(PROPOSE, ask, timeout=TIMEOUT)
        asking.calls += proposals.calls
        return proposals

    async def _rewrite(self, asking: Asking) -> Written:
        """Ask for new prompts; what the critic said last, or else the counts, says what is wrong with the old one."""
        parent, seen = asking.parent, asking.seen
        ask = ProposeAsk(
            marked=MarkedPrompt(prompt=parent, spans=tuple(parent.free_spans())),
            critique=self._critique or Critique(text=seen.report),
            failures=seen.failures[: EXAMPLES[0]],
            locality="off",
            n=NEW_PROMPTS,
            seed=asking.seed,
        )
        proposals = await self._proposals(ask, asking)
        children, lost = _filled(ask.marked, proposals)
        return Written(REWRITE, asking.calls, children=[(child, REWRITE) for child, _ in children], lost=lost)

    async def _induce(self, asking: Asking) -> Written:
        """Ask which instruction fits the examples, and put it in the place of the longest text, or beside it."""
        most, room = INDUCED_FROM
        rows = [trace.row for trace in (*asking.seen.passes, *asking.seen.failures)]
        rows = random.Random(asking.seed).sample(rows, min(most, len(rows)))
        shown = [row for row in rows if len(str(row.variables)) + len(row.target) <= room // most] or rows[:1]
        induced = await self.bus.request(INDUCE, InduceAsk(rows=tuple(shown), replicate=asking.seed), timeout=TIMEOUT)
        asking.calls += induced.calls
        found = induced_edits(self.seed, induced.text.strip())
        return Written(INDUCED, asking.calls, [[each] for each in found])

    async def _paraphrase(self, asking: Asking) -> Written:
        """Ask for other words for a phrase."""
        parent, rng = asking.parent, random.Random(asking.seed)
        longer = [span for span in phrases(parent) if len(span.of(parent.text).split()) >= PHRASE]
        if not longer:
            return Written(PARAPHRASE, 0)
        marked = MarkedPrompt(prompt=parent, spans=(rng.choice(longer),))
        ask = ProposeAsk(marked=marked, critique=Critique(text=""), purpose="vary", n=3, seed=asking.seed)
        proposals = await self._proposals(ask, asking)
        texts = tuple(new.text for each in proposals.proposals for new in each.replacements[:1])
        mark = Mark(span=marked.spans[0], reason="other words", options=texts, strategy=PARAPHRASE)
        marks = Marks(marks=(mark,) if texts else ())
        return Written(PARAPHRASE, asking.calls, self._groups(marks, asking), marked=marked)


def _filled(marked: MarkedPrompt, proposals: Proposals) -> tuple[list[tuple[Prompt, str]], list[str]]:
    """Return the prompts that the proposals make, with their notes, and why others make none."""
    children, lost = [], []
    for each in proposals.proposals:
        try:
            whole = each.text is not None
            child = rewritten(marked.prompt, each.text) if each.text is not None else splice(marked, each.replacements)
            children.append((child, each.note or (REWRITE if whole else "")))
        except EditRejected as exc:
            lost.append(str(exc))
    return children, lost
