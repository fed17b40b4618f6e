"""The end of a search: chooses the best prompt among a few finalists on the dev split."""

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

    async def settle(
        self,
        finalists: Sequence[Candidate],
        choose: Callable[[Sequence[Candidate]], Candidate | None] | None = None,
    ) -> None:
        """Score the finalists on dev, choose one of them, and store it; raises RequestFailed when the budget is spent.

        ``choose``: returns the best of those that pass the gates, None for the seed prompt; by default the rule of
        :func:`lpo_agent.core.choosing.choose`, by dev alone.
        """
        dev, must, seed = self.task.dev, self.task.must_pass, self.outcome.seed
        texts = [each.prompt.text for each in finalists]
        self.emit(PhaseStarted(phase="confirm", total=len(dev) * len(finalists)))
        await together(
            [
                partial(score_seed, self.scoring, self.task, self.outcome, self.emit),
                partial(self.scoring.score_all, texts, dev),
                partial(self.scoring.score_all, [seed.prompt.text, *texts] if finalists else [], must),
            ]
        )
        for each in finalists:
            score = summarize(self.scoring.known(each.prompt.text, dev).values())
            self.emit(FinalistScored(candidate=each.id, score=score))
        self.outcome.front = self._front([seed, *finalists], dev)
        chosen = (choose or self._by_dev)([each for each in finalists if self._passes(each, dev)])
        if chosen is not None:
            self.outcome.best = chosen
            self.outcome.best_dev = summarize(self.scoring.known(chosen.prompt.text, dev).values())

    def _by_dev(self, admitted: Sequence[Candidate]) -> Candidate | None:
        dev = self.task.dev
        number = choosing.choose([self._entry(each, dev) for each in admitted], self._known(self.outcome.seed, dev))
        return None if number is None else admitted[number]

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

    def holds_on_dev(self, candidate: Candidate) -> bool:
        """Return whether a prompt is not worse than the seed prompt on dev, whose rows did not select it."""
        dev = self.task.dev
        new, old = (self.scoring.known(each.prompt.text, dev) for each in (candidate, self.outcome.seed))
        return sum(paired(new, old, [row.id for row in dev])) >= 0

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
