"""The end of a local search: chooses the best prompt on one part of dev and confirms it on the other part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lpo_agent.core import choosing
from lpo_agent.core.choosing import Finalist
from lpo_agent.core.events import FinalistScored, PhaseStarted
from lpo_agent.core.result import FrontPoint
from lpo_agent.core.scores import Scored, paired, summarize, values
from lpo_agent.search.outcome import score_seed
from lpo_agent.search.scoring import together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.outcome import SearchOutcome, SearchTask
    from lpo_agent.search.scoring import Scoring

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Finals:
    """Chooses the final prompt among the finalists. ``panel``: the training items of the search, for the class gate."""

    scoring: Scoring
    task: SearchTask
    outcome: SearchOutcome
    panel: Sequence[Row]
    emit: Callable[[Event], None]

    async def settle(self, finalists: Sequence[Candidate]) -> None:
        """Choose and confirm the best finalist, and store the result; raises RequestFailed when the budget is spent."""
        dev, must, seed = self.task.dev, self.task.must_pass, self.outcome.seed
        cut = choosing.selection_size(len(dev))
        first, fresh = dev[:cut], dev[cut:]
        texts = [each.prompt.text for each in finalists]
        self.emit(PhaseStarted(phase="confirm", total=len(dev) + len(first) * len(finalists) + len(fresh)))
        await together(
            [
                partial(score_seed, self.scoring, self.task, self.outcome, self.emit),
                partial(self.scoring.score_all, texts, first),
                partial(self.scoring.score_all, [seed.prompt.text, *texts] if finalists else [], must),
            ]
        )
        for each in finalists:
            score = summarize(self.scoring.known(each.prompt.text, first).values())
            self.emit(FinalistScored(candidate=each.id, score=score))
        self.outcome.front = self._front([seed, *finalists], first)
        admitted = [each for each in finalists if self._passes(each, first)]
        number = choosing.choose([self._entry(each, first) for each in admitted], self._known(seed, first))
        if number is not None:
            await self._confirm(admitted[number], fresh)

    async def _confirm(self, chosen: Candidate, fresh: Sequence[Row]) -> None:
        """Make ``chosen`` the best prompt, unless it scores less than the seed on the items kept for confirmation."""
        outcome, dev = self.outcome, self.task.dev
        new = await self.scoring.score(chosen.prompt.text, fresh)
        old = self.scoring.known(outcome.seed.prompt.text, fresh)
        differences = paired(new, old, [row.id for row in fresh])
        outcome.confirmation = differences
        if sum(differences) < 0:
            outcome.remarks.append(
                f"the chosen prompt did worse than the seed prompt on {len(differences)} fresh dev items, "
                "so the seed prompt is kept"
            )
            return
        outcome.best = chosen
        outcome.best_dev = summarize(self.scoring.known(chosen.prompt.text, dev).values())

    def _passes(self, candidate: Candidate, first: Sequence[Row]) -> bool:
        """Return whether the candidate passes the gates; if not, a remark says which gate it failed."""
        task, outcome = self.task, self.outcome
        must, seed = task.must_pass, outcome.seed
        if broken := choosing.regressed(self._known(candidate, must), self._known(seed, must)):
            outcome.remarks.append(f"a finalist is out: it did worse on {len(broken)} must-pass examples")
            return False
        rows, gate = [*self.panel, *first], task.class_gate
        classes = {row.id: row.target for row in rows}
        lost = choosing.worst_class(self._known(candidate, rows), self._known(seed, rows), classes)
        if gate is not None and lost > gate:
            outcome.remarks.append(f"a finalist is out: it lost {lost:.2f} in one class, where {gate} is allowed")
            return False
        return True

    def _known(self, candidate: Candidate, rows: Sequence[Row]) -> Mapping[str, float]:
        return values(self.scoring.known(candidate.prompt.text, rows))

    def _entry(self, candidate: Candidate, rows: Sequence[Row]) -> Finalist:
        """Return a prompt's scores on ``rows``, its words, and the estimated mean tokens of a call."""
        text, outcomes = candidate.prompt.text, self.scoring.known(candidate.prompt.text, rows)
        written = [len(outcome.output) for outcome in outcomes.values() if isinstance(outcome, Scored)]
        read = [sum(map(len, row.variables.values())) for row in rows]
        answer, given = (sum(part) / len(part) if part else 0.0 for part in (written, read))
        tokens = (len(text) + given + answer) / CHARACTERS_PER_TOKEN
        return Finalist(values(outcomes), len(text.split()), round(tokens, 1))

    def _front(self, candidates: Sequence[Candidate], rows: Sequence[Row]) -> tuple[FrontPoint, ...]:
        entries = [self._entry(each, rows) for each in candidates]
        whole = [number for number, entry in enumerate(entries) if entry.scores]
        best = choosing.pareto_front([entries[number] for number in whole])
        return tuple(self._point(candidates[whole[n]], entries[whole[n]], rows) for n in best)

    def _point(self, candidate: Candidate, entry: Finalist, rows: Sequence[Row]) -> FrontPoint:
        score = summarize(self.scoring.known(candidate.prompt.text, rows).values())
        return FrontPoint(prompt=candidate.prompt.text, dev=score, words=entry.words, tokens=entry.tokens)
