"""What the pool search tells: events for observers, and the worth of edits and places for the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core.diff import measure
from lpo_agent.core.editpool import compose, joined
from lpo_agent.core.events import CandidateRaced, Marked, Proposed, StepFinished, StepStarted
from lpo_agent.core.places import PlaceRecord
from lpo_agent.core.result import EditResult
from lpo_agent.core.stats import Z95, mean
from lpo_agent.core.text import MarkedPrompt, Replacement, splice
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.methods.pool.ending import chance_over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt, Span
    from lpo_agent.search.methods.pool.writing import Written


class Trial(NamedTuple):
    """A set of edits, its prompt, and the items that it is scored on in this round, for a branch."""

    chosen: EditSet
    prompt: Prompt
    rows: Sequence[Row]
    branch: int = 0


@dataclass(frozen=True, slots=True)
class Teller:
    """Emits the events of a search with this many branches from a seed prompt."""

    seed: Prompt
    branches: int
    emit: Callable[[Event], None]

    def begins(self, step: int, parent: Prompt) -> None:
        """Tell that a round begins from an incumbent."""
        for branch in range(self.branches):
            self.emit(StepStarted(branch=branch, step=step, parent=parent.id))

    def proposed(self, step: int, prompt: Prompt | None, lost: str | None) -> None:
        """Tell that a set was drawn for the first time, and why its prompt may not be used, if so."""
        usable = prompt if lost is None else None
        self.emit(
            Proposed(
                step=step,
                branch=0,
                parent=self.seed.id,
                candidate=usable.id if usable else None,
                purpose="mend",
                locality="enforce",
                fallback=False,
                replies=0,
                malformed=0,
                measures=measure(self.seed.text, usable.text, None) if usable else None,
                lost=lost,
            )
        )

    def marked(self, step: int, written: Written) -> None:
        """Tell where a model wants to edit, and which of its proposals cannot be used."""
        marked = written.marked
        if marked is not None:
            self.emit(
                Marked(
                    branch=0,
                    step=step,
                    rendered=marked.render(),
                    spans=len(marked.spans),
                    tagged_fraction=marked.tagged_fraction,
                )
            )
        for reason in written.lost:
            self.proposed(step, None, reason)

    def raced(self, step: int, trial: Trial, model: Factorial, before: EditSet) -> None:
        """Tell what all scores of a set say, beside those of the incumbent on the same items."""
        found, old = model.scores[trial.chosen], model.scores.get(before, {})
        gains = [found[item] - old[item] for item in found if item in old]
        average = mean(found.values())
        self.emit(
            CandidateRaced(
                branch=trial.branch,
                step=step,
                candidate=trial.prompt.id,
                mean=average,
                parent_mean=average - mean(gains),
                items=len(found),
                survived=trial.chosen == model.incumbent != before,
                parent=compose(self.seed, [model.pool[n] for n in before]).id,
                text=trial.prompt.text,
                chance=chance_over(model, trial.chosen, before),
                note=note_of(model, trial.chosen),
            )
        )

    def ends(self, step: int, moved: tuple[Prompt, float] | None, skipped: str | None) -> None:
        """Tell that a round is over, and the new incumbent with its mean score, if there is one."""
        for branch in range(self.branches):
            new = moved if branch == 0 else None
            self.emit(
                StepFinished(
                    branch=branch,
                    step=step,
                    accepted=new[0].id if new else None,
                    text=new[0].text if new else None,
                    mean=new[1] if new else None,
                    skipped=skipped if branch == 0 else None,
                )
            )


def candidate_of(model: Factorial, chosen: EditSet, seed: Prompt, step: int) -> Candidate:
    """Return a set as a candidate whose locality can be proved: the seed prompt with the places of its edits marked."""
    edits = joined(model.pool[n] for n in chosen)
    marked = MarkedPrompt(prompt=seed, spans=tuple(each.span for each in edits))
    filled = tuple(Replacement(number, each.text) for number, each in enumerate(edits))
    return Candidate(splice(marked, filled), step, 0, marked, note_of(model, chosen), filled)


def note_of(model: Factorial, chosen: EditSet) -> str:
    """Return the sources of the edits of a set."""
    return ", ".join(model.pool[number].source for number in sorted(chosen))


def result_of(model: Factorial, chosen: EditSet, seed: Prompt) -> tuple[EditResult, ...]:
    """Return the edits of a set with what the posterior says that each is worth in it, shrunken for selection."""
    found = []
    for edit in joined(model.pool[n] for n in chosen):
        members = frozenset(n for n in chosen if model.pool[n].span == edit.span)
        worth, error = model.share(chosen, members)
        items = {item for each, scores in model.scores.items() if members <= each for item in scores}
        found.append(
            EditResult(
                start=edit.span.start,
                end=edit.span.end,
                old=edit.span.of(seed.text),
                new=edit.text,
                worth=worth,
                ci95=(worth - Z95 * error, worth + Z95 * error),
                n=len(items),
            )
        )
    return tuple(found)


def records(model: Factorial) -> list[PlaceRecord]:
    """Return for each edited place how many edits were scored there, how many seem to pay, and their mean worth."""
    worths: dict[Span, list[float]] = {}
    for number in sorted({n for each in model.scores for n in each}):
        worths.setdefault(model.pool[number].span, []).append(model.worth(frozenset({number})))
    return [PlaceRecord(place, len(w), sum(x > 0 for x in w), mean(w)) for place, w in sorted(worths.items())]
