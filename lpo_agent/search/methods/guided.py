"""The rules of a guided search, which an assistant carries out step by step; the state can be replayed from a log.

The assistant marks, proposes and answers. This module keeps the splits, checks that edits are local, and decides. The
state is computed from a log of the submissions, so any process can continue the run (:mod:`lpo_agent.runs.guided`
stores the log). The assistant sees failures on training rows only. It gets the test inputs once, at the end, and
answers them with both prompts in mixed order. It never gets the expected answers of dev and test rows.

A step continues with the candidate that has the best mean. No test is made there, because this only decides where to
search next, and each further answer costs the assistant time. The verdict is a paired test on the test rows.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from lpo_agent.agents.parsing import tagged_spans
from lpo_agent.agents.proposer import slotted
from lpo_agent.agents.scorer import place
from lpo_agent.core.result import BestResult, LocalityResult, RunResult, SeedResult, UsageResult, delta, verdict
from lpo_agent.core.scores import Scored, paired, summarize
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, splice
from lpo_agent.errors import ConfigError, EditRejected
from lpo_agent.search.candidates import Candidate, LocalityChecks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.core.scores import Score
    from lpo_agent.data import Splits

Stage = Literal["answer", "mark", "propose", "done"]
Phase = Literal["look", "mark", "propose", "race", "dev", "test", "done"]
STAGES: Final[dict[Phase, Stage]] = {"mark": "mark", "propose": "propose", "done": "done"}
"""The stage of each phase; in the phases that are not listed, the assistant answers inputs."""
DUE: Final[dict[Stage, str]] = {
    "answer": "call next_inputs",
    "mark": "call submit_marks",
    "propose": "call submit_candidates",
    "done": "the run is done",
}
"""The message for a submission at the wrong time, by stage."""
SHOWN: Final = 3
"""The number of failures that the assistant sees."""


@dataclass(frozen=True, slots=True)
class GuidedSize:
    """The size of a guided run: steps, candidates of each step, and rows of each phase.

    The names are those in the journal.
    """

    steps: int = 2
    proposals: int = 3
    look: int = 12
    race: int = 20
    dev: int = 30
    test: int = 60


@dataclass(frozen=True, slots=True)
class GuidedItem:
    """An input to answer: ``text`` is the prompt with the row in it. ``id`` does not reveal the split of the row."""

    id: str
    text: str
    prompt: str
    row: Row


@dataclass(slots=True)
class GuidedState:
    """The state of a guided run. ``scores``: outcomes by prompt and row id; ``tried``, ``rejected``: candidates."""

    run_id: str
    seed: Prompt
    splits: Splits
    size: GuidedSize
    phase: Phase = "look"
    step: int = 1
    parent: Candidate = field(init=False)
    marked: MarkedPrompt | None = None
    candidates: list[Candidate] = field(default_factory=list)
    scores: dict[tuple[str, str], Scored] = field(default_factory=dict)
    checks: LocalityChecks = field(default_factory=LocalityChecks)
    tried: int = 0
    rejected: int = 0

    def __post_init__(self) -> None:
        self.parent = Candidate(self.seed)

    @property
    def stage(self) -> Stage:
        """What the assistant has to do now."""
        return STAGES.get(self.phase, "answer")

    def items(self) -> list[GuidedItem]:
        """Return the inputs that wait for an answer, in an order that does not reveal their splits."""
        waiting = [
            GuidedItem(self._id(prompt, row), _asked(prompt, row), prompt, row)
            for prompt in self._texts()
            for row in self._rows()
            if (prompt, row.id) not in self.scores
        ]
        random.Random(f"{self.run_id}:{self.phase}").shuffle(waiting)
        return waiting

    def _texts(self) -> list[str]:
        if self.phase == "look":
            return [self.seed.text]
        if self.phase == "race":
            return [self.parent.prompt.text, *(child.prompt.text for child in self.candidates)]
        return [self.seed.text, self.parent.prompt.text] if self.phase in {"dev", "test"} else []

    def _rows(self) -> Sequence[Row]:
        sizes = {"look": self.size.look, "race": self.size.race, "dev": self.size.dev, "test": self.size.test}
        split = getattr(self.splits, self.phase if self.phase in {"dev", "test"} else "train")
        rows: Sequence[Row] = split[: sizes.get(self.phase, 0)]
        return rows

    def _id(self, prompt: str, row: Row) -> str:
        text = f"{self.run_id}\0{prompt}\0{row.id}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def failures(self) -> list[tuple[Row, Scored]]:
        """Return some training items that the current prompt gets wrong."""
        rows = self.splits.train[: max(self.size.look, self.size.race)]
        found = [(row, outcome) for row in rows if (outcome := self.scores.get((self.parent.prompt.text, row.id)))]
        return [(row, outcome) for row, outcome in found if outcome.value < 0.5][:SHOWN]

    def slots(self) -> str:
        """Return the marked prompt with numbered slots."""
        if self.marked is None:
            raise ConfigError("nothing is marked yet; call submit_marks")
        return slotted(self.marked)

    def apply(self, submission: dict[str, Any]) -> None:
        """Apply a submission, in the form that the log has.

        Raises ConfigError if it is not due or unusable, and ReplyError for marks that change the prompt.
        """
        match submission["type"]:
            case "marks":
                self._mark(submission["tagged"])
            case "candidates":
                self._propose(submission["fills"])
            case "outputs":
                self._score(submission["scored"])
        self._go_on()

    def _mark(self, tagged: str) -> None:
        self._must("mark", "submit_marks")
        spans = tagged_spans(tagged, self.parent.prompt)
        self.marked = MarkedPrompt(prompt=self.parent.prompt, spans=tuple(spans))
        self.phase = "propose"

    def _propose(self, fills: Sequence[dict[str, str]]) -> None:
        self._must("propose", "submit_candidates")
        assert self.marked is not None  # noqa: S101 - the phase says so
        found: dict[str, Candidate] = {}
        for fill in fills[: self.size.proposals]:
            try:
                child = splice(self.marked, [Replacement(int(slot) - 1, text) for slot, text in sorted(fill.items())])
            except EditRejected:
                self.rejected += 1
                continue
            candidate = Candidate(child, self.step, 0, self.marked)
            if child.text.strip() and child.text != self.parent.prompt.text and self.checks.admits(candidate):
                found.setdefault(child.text, candidate)
        if not found:
            raise ConfigError(
                "no candidate is usable: each must change a slot, keep placeholders out, and hold no tags"
            )
        self.candidates = list(found.values())
        self.tried += len(found)
        self.phase = "race"

    def _score(self, scored: Sequence[Sequence[Any]]) -> None:
        self._must("answer", "submit_outputs")
        waiting = {item.id: item for item in self.items()}
        for item_id, value, output, feedback in scored:
            if (item := waiting.get(item_id)) is not None:
                self.scores[item.prompt, item.row.id] = Scored(value=value, output=output, feedback=feedback)

    def _must(self, stage: Stage, submission: str) -> None:
        if self.stage != stage:
            raise ConfigError(f"{submission} is not due now; {DUE[self.stage]}")

    def _go_on(self) -> None:
        """Go to the next phase, as long as no input waits for an answer."""
        while self.stage == "answer" and not self.items():
            self.phase = self._after()

    def _after(self) -> Phase:
        if self.phase == "look":
            return "mark"
        if self.phase == "race":
            self._choose()
            self.step += 1
            if self.step <= self.size.steps:
                return "mark"
            return "dev" if self.parent.marked is not None else "done"
        if self.phase == "dev":
            if sum(self._differences(self.splits.dev)) <= 0:
                self.parent = Candidate(self.seed)
                return "done"
            return "test" if self.splits.test else "done"
        return "done"

    def _choose(self) -> None:
        """Keep the candidate with the best mean on the rows of the race, if it is better than the parent there."""
        rows = self._rows()
        best, mean = self.parent, self._mean(self.parent, rows)
        for child in self.candidates:
            if (found := self._mean(child, rows)) > mean:
                best, mean = child, found
        self.parent, self.candidates, self.marked = best, [], None

    def _known(self, prompt: str, rows: Sequence[Row]) -> dict[str, Scored]:
        return {row.id: self.scores[prompt, row.id] for row in rows if (prompt, row.id) in self.scores}

    def _mean(self, candidate: Candidate, rows: Sequence[Row]) -> float:
        return summarize(self._known(candidate.prompt.text, rows).values()).mean or 0.0

    def _differences(self, rows: Sequence[Row]) -> list[float]:
        new, old = (self._known(text, rows) for text in (self.parent.prompt.text, self.seed.text))
        return paired(new, old, [row.id for row in rows])

    def statistics(self) -> dict[str, float | None]:
        """Return the means on training items of the seed prompt and of the current one."""
        rows = self.splits.train[: self.size.race]
        scores = (
            summarize(self._known(text, rows).values()).mean for text in (self.seed.text, self.parent.prompt.text)
        )
        return dict(zip(("seed", "current"), scores, strict=True))

    def result(self, usage: UsageResult | None = None) -> RunResult:
        """Return the result of a finished run. ``usage``: that of a model; without a model, answers count as calls."""
        found = self.parent.marked is not None
        tested = delta(self._differences(self.splits.test)) if found else None
        judged = verdict(tested, has_test=bool(self.splits.test))
        parts = {name: self._part(c) for name, c in (("seed", Candidate(self.seed)), ("found", self.parent))}
        keep = judged == "no_significant_improvement"
        return RunResult(
            run_id=self.run_id,
            status="completed",
            stop_reason="all steps done",
            verdict=judged,
            seed=SeedResult(prompt=self.seed.text, dev=parts["seed"].dev, test=parts["seed"].test),
            best=parts["seed"] if keep else parts["found"],
            challenger=parts["found"] if keep and found else None,
            test_delta=tested,
            locality=self._locality(parts["seed"] if keep else parts["found"]),
            usage=usage or _answered(len(self.scores)),
            method="guided",
            notes=(f"marked{'' if usage else ', answered'} and edited by an assistant, whose settings are not known",),
        )

    def _part(self, candidate: Candidate) -> BestResult:
        scores: list[Score | None] = []
        for rows in (self.splits.dev, self.splits.test):
            known = self._known(candidate.prompt.text, rows)
            scores.append(summarize(known.values()) if known else None)
        marked = candidate.marked.render() if candidate.marked else None
        return BestResult(
            prompt=candidate.prompt.text, dev=scores[0], test=scores[1], marked_parent=marked, step=candidate.step
        )

    def _locality(self, best: BestResult) -> LocalityResult:
        words, fractions = len(self.seed.text.split()), self.checks.fractions
        return LocalityResult(
            checked=self.checks.checked,
            violations=self.checks.violations,
            tagged_fraction=sum(fractions) / len(fractions) if fractions else None,
            length_ratio=len(best.prompt.split()) / words if words else 1.0,
            proposals=self.tried + self.rejected,
            lost=self.rejected,
        )


def replay(state: GuidedState, log: Iterable[dict[str, Any]]) -> GuidedState:
    """Return ``state`` after all submissions of a log."""
    for submission in log:
        state.apply(submission)
    return state


def _asked(prompt: str, row: Row) -> str:
    return "\n\n".join(turn.content for turn in place(prompt, row.variables, "before"))


def _answered(answers: int) -> UsageResult:
    return UsageResult(
        calls=answers, cached_calls=0, failed_calls=0, input_tokens=0, output_tokens=0, usd=None, wall_s=0.0
    )
