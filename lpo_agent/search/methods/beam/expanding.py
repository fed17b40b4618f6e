"""Makes the successors of one parent by the rules of APE (paraphrases), APO (gradients) or PE2 (reasoned edits).

The functions name the sources that they follow. All random draws are seeded by step, parent and index, so the
result does not depend on the order in which replies arrive.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.core.messages import CRITIQUE, Critique, CritiqueAsk, Trace
from lpo_agent.core.scores import Scored
from lpo_agent.errors import RequestFailed
from lpo_agent.search.methods.beam.proposing import ProposalOutcome, ProposalRequest
from lpo_agent.search.scoring import TIMEOUT, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.messages import Row
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


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands parents by the rules of one beam method."""

    method: str
    proposals: int
    seed: int
    train: Sequence[Row]
    bus: Bus
    scoring: Scoring
    editor: Editor

    async def expand(self, parent: Candidate, at: Ancestry) -> Family:
        """Return the parent's family; raises RequestFailed for a spent budget and for other fatal failures."""
        family = Family(parent)
        blind = self.method == "ape" and not at.options.ape_errors
        measures = self.editor.marker in {"influence", "auto"} and self.editor.locality in {"nudge", "enforce"}
        wrong, right = ([], []) if blind and not measures else await self._look(family, at)
        request = ProposalRequest(
            step=at.step,
            branch=at.branch,
            parent=parent,
            purpose="vary" if self.method == "ape" else "mend",
            options=at.options,
            seed=self._seed(at, "tags"),
            critique=NOTHING,
            failures=() if blind else tuple(wrong[: at.options.errors]),
            rows=tuple(trace.row for trace in (*wrong[:PROBED], *right[:PROBED])),
            history=at.history,
        )
        if at.options.tag_per == "parent" and self.editor.locality in {"nudge", "enforce"}:
            request = replace(request, tagged=await self.editor.tag(request))
        slots: list[list[ProposalOutcome]] = [[] for _ in range(self.proposals + 1)]
        shown = [] if blind else wrong
        works = [partial(self._propose, request, shown, number, slots, family) for number in range(self.proposals)]
        if self.method == "apo":
            works.append(partial(self._paraphrase, request, "seed", slots[self.proposals]))
        await together(works)
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
        slots: list[list[ProposalOutcome]],
        family: Family,
    ) -> None:
        """Make one proposal of APE or PE2, or one group of APO's.

        APE: a paraphrase (Zhou et al. 2022, section 3.3; PE2's iterative variant). PE2: a sample of
        errors, reasoning, a new prompt (Ye et al. 2024, section 4). APO: a sample of errors, reasons
        for them, new prompts for each, paraphrases of those (Pryzant et al. 2023, sections 2.1-2.2).
        """
        seed = self._seed(request, number)
        sample = random.Random(seed).sample(list(wrong), min(request.options.errors, len(wrong)))
        request = replace(request, seed=seed, failures=tuple(sample), tagged=_once(request.tagged, first=number == 0))
        if self.method == "ape":
            slots[number].append(await self.editor.propose(request))
            return
        ask = CritiqueAsk(
            prompt=request.parent.prompt,
            failures=request.failures,
            replicate=seed,
            reasons=request.options.reasons,
            history=request.history,
        )
        if (
            request.options.tag_when == "before"
            and request.tagged is None
            and self.editor.locality in {"nudge", "enforce"}
        ):
            request = replace(request, tagged=await self.editor.tag(request))
        family.calls += 1
        try:
            critique = await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            if not failed.single:
                raise
            slots[number].append(self.editor.lose(request, failed.failure.detail))
            return
        if self.method == "pe2":
            slots[number].append(await self.editor.propose(replace(request, critique=critique)))
            return
        gradients = critique.reasons if request.options.split_reasons else (critique.text,)
        each: list[list[ProposalOutcome]] = [[] for _ in gradients]
        await together(
            partial(self._step_along, replace(request, seed=self._seed(request, f"{number}.{n}")), gradient, each[n], n)
            for n, gradient in enumerate(gradients)
        )
        slots[number] += [outcome for outcomes in each for outcome in outcomes]

    async def _step_along(
        self, request: ProposalRequest, gradient: str, outcomes: list[ProposalOutcome], number: int
    ) -> None:
        """Write APO's new prompts for one gradient, then paraphrase each of them."""
        request = replace(
            request,
            critique=Critique(text=gradient),
            n=request.options.edits,
            tagged=_once(request.tagged, first=number == 0),
        )
        outcomes.append(await self.editor.propose(request))
        more: list[list[ProposalOutcome]] = [[] for _ in outcomes[0].candidates]
        await together(
            partial(self._paraphrase, replace(request, parent=child, tagged=None), f"{number}.{n}", more[n])
            for n, child in enumerate(outcomes[0].candidates)
        )
        outcomes += [outcome for found in more for outcome in found]

    async def _paraphrase(self, request: ProposalRequest, which: str, outcomes: list[ProposalOutcome]) -> None:
        """Paraphrase a prompt: the Monte Carlo successors of ProTeGi."""
        found: list[list[ProposalOutcome]] = [[] for _ in range(request.options.paraphrases)]

        async def one(number: int) -> None:
            seed = self._seed(request, f"{which}.{request.seed}.vary.{number}")
            blank = replace(request, purpose="vary", critique=NOTHING, failures=(), n=1, seed=seed)
            found[number].append(await self.editor.propose(replace(blank, tagged=_once(request.tagged, first=False))))

        await together(partial(one, number) for number in range(request.options.paraphrases))
        outcomes += [outcome for one_of in found for outcome in one_of]

    def _pick(self, candidates: Sequence[Candidate], family: Family, at: Ancestry) -> list[Candidate]:
        """Return the candidates without duplicates and without the parent's text, or a random sample if too many."""
        unique: dict[str, Candidate] = {}
        for child in candidates:
            if child.prompt.text.strip() and child.prompt.text != family.parent.prompt.text:
                unique.setdefault(child.prompt.text, child)
        kept = list(unique.values())
        most = at.options.expansion
        if most and len(kept) > most:
            drawn = random.Random(self._seed(at, "expansion")).sample(range(len(kept)), most)
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

    def _seed(self, at: Ancestry | ProposalRequest, what: object) -> int:
        text = f"{self.seed}:{at.step}:{at.branch}:{what}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def _once(tagged: Tagged | None, *, first: bool) -> Tagged | None:
    """Return a parent's tags for one of its proposals; only the ``first`` proposal counts the cost of the tags."""
    return tagged if tagged is None or first else replace(tagged, replies=0, malformed=0, calls=0)
