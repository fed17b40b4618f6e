"""What a search stands on, what it found, and what all methods do alike: score the seed, pick the best on dev."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.events import SeedScored
from lpo_agent.core.scores import paired, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.credit import Record
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.result import EditResult, FrontPoint
    from lpo_agent.core.scores import Score
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.plan import Need
    from lpo_agent.search.scoring import Scoring


@dataclass(slots=True)
class SearchOutcome:
    """What a search found; ``best`` is the seed where nothing beat it on dev.

    ``differences``: best minus seed on the test items that were scored for both. ``curve``: calls,
    counted one after another, and the best mean that was known by then, on the split that the plan's
    ``chosen_on`` names. ``scorings`` (pairs of prompt and row) and ``optimizer_calls`` are those of the search,
    None where they are not counted.
    ``confirmation``: differences of the chosen prompt on fresh dev items. ``records``: what was learned of
    places. ``remarks``: what a reader of the result should know.
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
    records: list[Record] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    scorings: int | None = None
    optimizer_calls: int | None = None


@dataclass(frozen=True, slots=True)
class SearchTask:
    """What a search stands on: the rows it may choose by, the rows it may not, the purse.

    ``need`` is put aside before the search, so that its end can always be paid. ``calls_each``:
    calls that scoring one row takes. Gates of the answer: it may do worse than the seed prompt on none of
    the ``must_pass`` rows, and in no class of targets by more than ``class_gate`` of the mean score.
    """

    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]
    ledger: Ledger
    need: Need
    calls_each: int = 1
    must_pass: Sequence[Row] = ()
    class_gate: float | None = None


async def score_seed(scoring: Scoring, task: SearchTask, outcome: SearchOutcome, emit: Callable[[Event], None]) -> None:
    """Score the seed prompt on the dev split, once; what is known of it is noted even if the budget ends."""
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
    """Make the candidate that gained most over the seed on dev the answer; among equals the first."""
    dev, ids = task.dev, [row.id for row in task.dev]
    old = scoring.known(outcome.seed.prompt.text, dev)
    best_gain = 0.0
    for candidate in candidates:
        new = scoring.known(candidate.prompt.text, dev)
        gain = sum(paired(new, old, ids))
        if len(new) == len(dev) and gain > best_gain + 1e-12:
            best_gain, outcome.best, outcome.best_dev = gain, candidate, summarize(new.values())
