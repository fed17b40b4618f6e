"""What the hosts propose from one parent: APE's paraphrases, APO's gradients, PE2's reasoned edits.

Each follows its original; see the functions for the sources. All draws are seeded by step, parent
and number, so that a result never depends on which reply came first.
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
"""Wrong and right answers, each, that influence is measured on."""


@dataclass(slots=True)
class Family:
    """A parent and what came of it: ``successors`` in canonical order, and the rows it was looked at on.

    ``calls``: what critiques, tags and proposals asked of the optimizer model; ``pairs`` of prompt and
    row id were scored to measure influence.
    """

    parent: Candidate
    looked: set[str] = field(default_factory=set)
    successors: list[Candidate] = field(default_factory=list)
    calls: int = 0
    pairs: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ancestry:
    """Where a parent stands in the search. ``history``: how it came about, for PE2's momentum."""

    step: int
    branch: int
    numbers: BeamOptions
    history: str = ""


@dataclass(frozen=True, slots=True)
class Expander:
    """Expands parents by the rules of one host."""

    host: str
    proposals: int
    seed: int
    train: Sequence[Row]
    bus: Bus
    scoring: Scoring
    editor: Editor

    async def expand(self, parent: Candidate, at: Ancestry) -> Family:
        """Return the parent's family; raises RequestFailed for a spent budget and what cannot be mended."""
        family = Family(parent)
        blind = self.host == "ape" and not at.numbers.ape_errors
        measures = self.editor.marker in {"influence", "auto"} and self.editor.locality in {"nudge", "enforce"}
        wrong, right = ([], []) if blind and not measures else await self._look(family, at)
        edit = ProposalRequest(
            step=at.step,
            branch=at.branch,
            parent=parent,
            purpose="vary" if self.host == "ape" else "mend",
            numbers=at.numbers,
            seed=self._seed(at, "tags"),
            critique=NOTHING,
            failures=() if blind else tuple(wrong[: at.numbers.errors]),
            rows=tuple(trace.row for trace in (*wrong[:PROBED], *right[:PROBED])),
            history=at.history,
        )
        if at.numbers.tag_per == "parent" and self.editor.locality in {"nudge", "enforce"}:
            edit = replace(edit, tagged=await self.editor.tag(edit))
        slots: list[list[ProposalOutcome]] = [[] for _ in range(self.proposals + 1)]
        shown = [] if blind else wrong
        works = [partial(self._propose, edit, shown, number, slots, family) for number in range(self.proposals)]
        if self.host == "apo":
            works.append(partial(self._paraphrase, edit, "seed", slots[self.proposals]))
        await together(works)
        drafts = [draft for slot in slots for draft in slot]
        family.calls += sum(draft.calls for draft in drafts)
        family.pairs = {pair for draft in drafts for pair in draft.pairs}
        family.successors = self._pick([child for draft in drafts for child in draft.candidates], family, at)
        return family

    async def _propose(
        self,
        edit: ProposalRequest,
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
        seed = self._seed(edit, number)
        sample = random.Random(seed).sample(list(wrong), min(edit.numbers.errors, len(wrong)))
        edit = replace(edit, seed=seed, failures=tuple(sample), tagged=_once(edit.tagged, first=number == 0))
        if self.host == "ape":
            slots[number].append(await self.editor.edit(edit))
            return
        ask = CritiqueAsk(
            prompt=edit.parent.prompt,
            failures=edit.failures,
            replicate=seed,
            reasons=edit.numbers.reasons,
            history=edit.history,
        )
        if edit.numbers.tag_when == "before" and edit.tagged is None and self.editor.locality in {"nudge", "enforce"}:
            edit = replace(edit, tagged=await self.editor.tag(edit))
        family.calls += 1
        try:
            critique = await self.bus.request(CRITIQUE, ask, timeout=TIMEOUT)
        except RequestFailed as failed:
            if not failed.single:
                raise
            slots[number].append(self.editor.lose(edit, failed.failure.detail))
            return
        if self.host == "pe2":
            slots[number].append(await self.editor.edit(replace(edit, critique=critique)))
            return
        gradients = critique.reasons if edit.numbers.split_reasons else (critique.text,)
        each: list[list[ProposalOutcome]] = [[] for _ in gradients]
        await together(
            partial(self._step_along, replace(edit, seed=self._seed(edit, f"{number}.{n}")), gradient, each[n], n)
            for n, gradient in enumerate(gradients)
        )
        slots[number] += [draft for drafts in each for draft in drafts]

    async def _step_along(
        self, edit: ProposalRequest, gradient: str, drafts: list[ProposalOutcome], number: int
    ) -> None:
        """Write APO's new prompts for one gradient, then paraphrase each of them."""
        edit = replace(
            edit,
            critique=Critique(text=gradient),
            n=edit.numbers.edits,
            tagged=_once(edit.tagged, first=number == 0),
        )
        drafts.append(await self.editor.edit(edit))
        more: list[list[ProposalOutcome]] = [[] for _ in drafts[0].candidates]
        await together(
            partial(self._paraphrase, replace(edit, parent=child, tagged=None), f"{number}.{n}", more[n])
            for n, child in enumerate(drafts[0].candidates)
        )
        drafts += [draft for found in more for draft in found]

    async def _paraphrase(self, edit: ProposalRequest, which: str, drafts: list[ProposalOutcome]) -> None:
        """Say a prompt in other words: ProTeGi's Monte-Carlo successors."""
        found: list[list[ProposalOutcome]] = [[] for _ in range(edit.numbers.paraphrases)]

        async def one(number: int) -> None:
            seed = self._seed(edit, f"{which}.{edit.seed}.vary.{number}")
            blank = replace(edit, purpose="vary", critique=NOTHING, failures=(), n=1, seed=seed)
            found[number].append(await self.editor.edit(replace(blank, tagged=_once(edit.tagged, first=False))))

        await together(partial(one, number) for number in range(edit.numbers.paraphrases))
        drafts += [draft for one_of in found for draft in one_of]

    def _pick(self, candidates: Sequence[Candidate], family: Family, at: Ancestry) -> list[Candidate]:
        """Drop what is said twice and what the parent says; of too many keep a random part."""
        unique: dict[str, Candidate] = {}
        for child in candidates:
            if child.prompt.text.strip() and child.prompt.text != family.parent.prompt.text:
                unique.setdefault(child.prompt.text, child)
        kept = list(unique.values())
        most = at.numbers.expansion
        if most and len(kept) > most:
            drawn = random.Random(self._seed(at, "expansion")).sample(range(len(kept)), most)
            kept = [kept[number] for number in sorted(drawn)]
        return kept

    async def _look(self, family: Family, at: Ancestry) -> tuple[list[Trace], list[Trace]]:
        """Return errors and right answers of the parent on training rows.

        ProTeGi looks at one minibatch, the same for all parents of a step; PE2 goes through the rows
        until there are enough errors.
        """
        numbers, rows = at.numbers, list(self.train)
        if numbers.minibatch:
            draw = random.Random(f"{self.seed}:{at.step}:minibatch")
            batches = [draw.sample(rows, min(numbers.minibatch, len(rows)))]
        else:
            random.Random(f"{self.seed}:rows").shuffle(rows)
            batches = [rows[n : n + numbers.look] for n in range(0, len(rows), numbers.look)]
        enough = numbers.enough or numbers.errors * max(self.proposals, 2) / 2
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
    """Return a parent's tags for one of its proposals; what they cost is counted for the first."""
    return tagged if tagged is None or first else replace(tagged, replies=0, malformed=0, calls=0)
