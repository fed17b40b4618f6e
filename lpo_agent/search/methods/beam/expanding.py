"""Makes the successors of one parent by the rules of APE, APO or PE2 (see the modules of these names).

All random draws are seeded by step, parent and index, so the result does not depend on the order in which replies
arrive.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from lpo_agent.core.messages import CRITIQUE, Critique, CritiqueAsk, Trace
from lpo_agent.core.scores import Scored
from lpo_agent.errors import RequestFailed
from lpo_agent.search.methods.beam.proposing import ProposalOutcome, ProposalRequest
from lpo_agent.search.scoring import TIMEOUT, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.messages import Purpose, Row
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.methods.beam.proposing import Editor, Tagged
    from lpo_agent.search.scoring import Scoring

NOTHING: Final = Critique(text="")
PROBED: Final = 3
"""The number of wrong answers, and of right ones, on which influence is measured."""


@dataclass(slots=True)
class Family:
    """A parent and its successors, in an order that does not depend on timing.

    ``looked``: ids of the rows on which the parent was scored to find errors. ``calls``: calls of the optimizer
    model for critiques, tags and proposals. ``pairs``: pairs of prompt text and row id that were scored to
    measure influence.
    """

    parent: Candidate
    looked: set[str] = field(default_factory=set)
    successors: list[Candidate] = field(default_factory=list)
    calls: int = 0
    pairs: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The step and beam position of a parent, and the step's options; ``history``: its ancestors with their scores."""

    step: int
    branch: int
    options: BeamOptions
    history: str = ""


class Rules(ABC):
    """What one beam method does differently from the others: how it proposes, and how much that costs.

    ``purpose``: the purpose of its proposals.
    """

    purpose: ClassVar[Purpose] = "mend"

    def blind(self, options: BeamOptions) -> bool:
        """Return whether proposals are made without looking for wrong answers."""
        return False

    def induced(self, options: BeamOptions) -> int:
        """Return the number of prompts that are induced from examples before step 1."""
        return 0

    def successors(self, options: BeamOptions, proposals: int) -> int:
        """Return the highest number of successors of a parent."""
        return proposals

    @abstractmethod
    def asked(self, options: BeamOptions, proposals: int, each: int) -> int:
        """Return the number of calls of the optimizer model for one parent, ``each`` for one new prompt."""

    @abstractmethod
    async def propose(
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome], family: Family
    ) -> None:
        """Make one proposal, or one group of them, and add it to ``outcomes``."""

    async def vary(  # noqa: B027 - only one method does it
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome]
    ) -> None:
        """Paraphrase the parent itself, if the method does that."""


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands parents by the rules of one beam method."""

    rules: Rules
    proposals: int
    seed: int
    train: Sequence[Row]
    bus: Bus
    scoring: Scoring
    editor: Editor

    async def expand(self, parent: Candidate, at: Ancestry) -> Family:
        """Return the parent's family; raises RequestFailed for a spent budget and for other fatal failures."""
        family = Family(parent)
        blind = self.rules.blind(at.options)
        measures = self.editor.marker in {"influence", "auto"} and self.editor.locality in {"nudge", "enforce"}
        wrong, right = ([], []) if blind and not measures else await self._look(family, at)
        request = ProposalRequest(
            step=at.step,
            branch=at.branch,
            parent=parent,
            purpose=self.rules.purpose,
            options=at.options,
            seed=self.seed_for(at, "tags"),
            critique=NOTHING,
            failures=() if blind else tuple(wrong[: at.options.errors]),
            rows=tuple(trace.row for trace in (*wrong[:PROBED], *right[:PROBED])),
            history=at.history,
        )
        if at.options.tag_per == "parent" and self.editor.locality in {"nudge", "enforce"}:
            request = replace(request, tagged=await self.editor.tag(request))
        slots: list[list[ProposalOutcome]] = [[] for _ in range(self.proposals + 1)]
        shown = [] if blind else wrong
        works = [
            partial(self._propose, request, shown, number, slots[number], family) for number in range(self.proposals)
        ]
        await together([*works, partial(self.rules.vary, self, request, "seed", slots[self.proposals])])
        outcomes = [outcome for slot in slots for outcome in slot]
        family.calls += sum(outcome.calls for outcome in outcomes)
        family.pairs = {pair for outcome in outcomes for pair in outcome.pairs}
        family.successors = self._pick([child for outcome in outcomes for child in outcome.candidates], family, at)
        return family

    async def _propose(
        self,
        request: ProposalRequest,
        wrong: Sequence[Trace],
        number: int,
        outcomes: list[ProposalOutcome],
        family: Family,
    ) -> None:
        """Make one proposal by the method's rules, with a random sample of the parent's wrong answers."""
        seed = self.seed_for(request, number)
        sample = random.Random(seed).sample(list(wrong), min(request.options.errors, len(wrong)))
        request = replace(request, seed=seed, failures=tuple(sample), tagged=once(request.tagged, first=number == 0))
        await self.rules.propose(self, request, str(number), outcomes, family)

    async def criticize(
        self, request: ProposalRequest, outcomes: list[ProposalOutcome], family: Family
    ) -> ProposalRequest | None:
        """Return the request with a critique of its parent, or None if the critic's reply was unusable."""
        tags_first = request.options.tag_when == "before" and self.editor.locality in {"nudge", "enforce"}
        if tags_first and request.tagged is None:
            request = replace(request, tagged=await self.editor.tag(request))
        ask = CritiqueAsk(
            prompt=request.parent.prompt,
            failures=request.failures,
            replicate=request.seed,
            reasons=request.options.reasons,
            history=request.history,
        )
        family.calls += 1
        try:
            return replace(request, critique=await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT))
        except RequestFailed as failed:
            if not failed.single:
                raise
            outcomes.append(self.editor.lose(request, failed.failure.detail))
            return None

    def _pick(self, candidates: Sequence[Candidate], family: Family, at: Ancestry) -> list[Candidate]:
        """Return the candidates without duplicates and without the parent's text, or a random sample if too many."""
        unique: dict[str, Candidate] = {}
        for child in candidates:
            if child.prompt.text.strip() and child.prompt.text != family.parent.prompt.text:
                unique.setdefault(child.prompt.text, child)
        kept = list(unique.values())
        most = at.options.expansion
        if most and len(kept) > most:
            drawn = random.Random(self.seed_for(at, "expansion")).sample(range(len(kept)), most)
            kept = [kept[number] for number in sorted(drawn)]
        return kept

    async def _look(self, family: Family, at: Ancestry) -> tuple[list[Trace], list[Trace]]:
        """Score the parent on training rows, and return its wrong and its right answers.

        ProTeGi uses one minibatch, the same for all parents of a step; PE2 continues with further rows until
        there are enough errors.
        """
        options, rows = at.options, list(self.train)
        if options.minibatch:
            draw = random.Random(f"{self.seed}:{at.step}:minibatch")
            batches = [draw.sample(rows, min(options.minibatch, len(rows)))]
        else:
            random.Random(f"{self.seed}:rows").shuffle(rows)
            batches = [rows[n : n + options.look] for n in range(0, len(rows), options.look)]
        enough = options.enough or options.errors * max(self.proposals, 2) / 2
        wrong: list[Trace] = []
        right: list[Trace] = []
        for batch in batches:
            outcomes = await self.scoring.score(family.parent.prompt.text, batch)
            family.looked |= {row.id for row in batch}
            traces = [Trace(row=row, result=o) for row in batch if isinstance(o := outcomes.get(row.id), Scored)]
            wrong += [trace for trace in traces if trace.result.value < 0.5]
            right += [trace for trace in traces if trace.result.value >= 0.5]
            if len(wrong) >= enough:
                break
        return wrong, right

    def seed_for(self, at: Ancestry | ProposalRequest, what: object) -> int:
        """Return a seed for a random choice at a place of the search."""
        text = f"{self.seed}:{at.step}:{at.branch}:{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def once(tagged: Tagged | None, *, first: bool) -> Tagged | None:
    """Return a parent's tags for one of its proposals; only the ``first`` proposal counts the cost of the tags."""
    return tagged if tagged is None or first else replace(tagged, replies=0, malformed=0, calls=0)
