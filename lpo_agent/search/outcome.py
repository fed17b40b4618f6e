"""The task and the outcome of a search, and two functions that search methods share."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.events import SeedScored
from lpo_agent.core.scores import paired, summarize
from lpo_agent.errors import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.places import PlaceRecord
    from lpo_agent.core.result import EditResult, FaultCounts, FrontPoint
    from lpo_agent.core.scores import Score
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.plan import EndCost
    from lpo_agent.search.scoring import Scoring


@dataclass(slots=True)
class SearchOutcome:
    """The outcome of a search; ``best`` is the seed if no prompt was better on dev.

    ``differences``: best minus seed on the test items that both have a score for. ``curve``: points of (calls,
    best mean score up to then) on the split of the plan's ``chosen_on``, with calls counted as if made one after
    another. ``scorings`` (pairs of prompt and row) and ``optimizer_calls``: the counts of the search, None if they
    are not counted. ``confirmation``: chosen prompt minus seed on the dev items kept for confirmation.
    ``records``: statistics of edited places. ``faults``: what is wrong with the seed prompt's first answers.
    ``stopped_by``: why a phase ended early. ``ended``: why the search ended by itself. ``tested``: on how many of the
    test rows the test is, if not on all. ``remarks``: notes for the reader of the result.
    """

    seed: Candidate
    best: Candidate
    seed_dev: Score | None = None
    best_dev: Score | None = None
    seed_test: Score | None = None
    best_test: Score | None = None
    differences: list[float] = field(default_factory=list)
    stopped_by: str | None = None
    skipped: list[str] = field(default_factory=list)
    candidates: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)
    confirmation: list[float] = field(default_factory=list)
    front: tuple[FrontPoint, ...] = ()
    edits: tuple[EditResult, ...] | None = None
    records: list[PlaceRecord] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    scorings: int | None = None
    optimizer_calls: int | None = None
    faults: FaultCounts | None = None
    ended: str | None = None
    tested: int | None = None


@dataclass(frozen=True, slots=True)
class SearchTask:
    """The rows, the budget and the gates of a search; a method uses ``train`` and ``dev``, never ``test``.

    ``end_cost``: the cost of confirmation and test, which is reserved before the search. ``calls_each``: model
    calls for scoring one row. Gates: the best prompt may not score less than the seed on any of the
    ``must_pass`` rows, and its mean score in one class of targets may be lower by at most ``class_gate``.
    """

    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]
    ledger: Ledger
    end_cost: EndCost
    calls_each: int = 1
    must_pass: Sequence[Row] = ()
    class_gate: float | None = None

    @contextmanager
    def put_aside(self, calls: int | None = None) -> Iterator[None]:
        """Keep what this many calls of the end cost, at most (None: all), while the block is active.

        If the budget is too small for that, nothing is kept, and all of it is for the search.
        """
        cost = self.end_cost if calls is None else self.end_cost.part(min(calls, self.end_cost.calls))
        try:
            hold = self.ledger.reserve(calls=cost.calls, tokens=cost.tokens, usd=cost.usd, aside=True)
        except BudgetExceeded:
            hold = None
        try:
            yield
        finally:
            if hold is not None:
                self.ledger.release(hold)

    def can_pay(self, scorings: int) -> bool:
        """Return whether the budget has room for this many scorings, at the highest cost that one may have."""
        cost = self.end_cost.part(self.calls_each * scorings)
        try:
            self.ledger.check(calls=cost.calls, tokens=cost.tokens, usd=cost.usd)
        except BudgetExceeded:
            return False
        return True


async def score_seed(scoring: Scoring, task: SearchTask, outcome: SearchOutcome, emit: Callable[[Event], None]) -> None:
    """Score the seed prompt on the dev split, once; a partial score is stored if the budget is spent."""
    known = outcome.seed_dev
    if known is not None and known.n + known.unscored == len(task.dev):
        return
    text = outcome.seed.prompt.text
    try:
        await scoring.score(text, task.dev)
    finally:
        outcome.seed_dev = outcome.best_dev = summarize(scoring.known(text, task.dev).values())
    emit(SeedScored(score=outcome.seed_dev))


def settle(scoring: Scoring, task: SearchTask, outcome: SearchOutcome, candidates: Iterable[Candidate]) -> None:
    """Make the candidate with the largest gain over the seed on dev the best prompt; among equals the first."""
    dev, ids = task.dev, [row.id for row in task.dev]
    old = scoring.known(outcome.seed.prompt.text, dev)
    best_gain = 0.0
    for candidate in candidates:
        new = scoring.known(candidate.prompt.text, dev)
        gain = sum(paired(new, old, ids))
        if len(new) == len(dev) and gain > best_gain + 1e-12:
            best_gain, outcome.best, outcome.best_dev = gain, candidate, summarize(new.values())
