"""Scores prompts on rows by requests over the bus; each pair of prompt and row is scored at most once in a run."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from lpo_agent.core.messages import SCORE, Row, ScoreAsk
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.errors import BudgetExceeded, RequestFailed, TooManyUnscored, leaves
from lpo_agent.in_flight import InFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from lpo_agent.bus.base import Bus

Outcomes = dict[str, Scored | Unscored]
"""Outcomes by row id."""

TIMEOUT = math.inf  # no time limit: a rate limiter may delay a call for long, and the budget limits the run's time
MOST_UNSCORED = 0.3
"""The highest share of failed scorings before a run is stopped,"""
GRACE = 20
"""after at least this many scorings."""


class OutcomeStore(Protocol):
    """Stores outcomes outside of this process, so that a resumed run does not have to score them again."""

    def recall(self, text: str) -> Outcomes:
        """Return the outcomes that earlier sessions of this run stored for the prompt ``text``."""
        ...

    def keep(self, text: str, row_id: str, outcome: Scored) -> None:
        """Store an outcome, without waiting until it is written."""
        ...

    def paid(self, rows: Iterable[Row]) -> int:
        """Return how many outcomes of these rows, under any prompt, earlier sessions of this run stored."""
        ...


class Scoring:
    """Requests outcomes from the scorer, keeps them, and stops a run in which too many scorings fail.

    At most ``in_flight`` rows of one prompt are requested at a time. Raises TooManyUnscored if more than 30 % of
    at least 20 scorings failed, and RequestFailed when the budget is spent; calls in progress are finished
    first, and their outcomes are kept.
    """

    def __init__(self, bus: Bus, *, in_flight: int, store: OutcomeStore | None = None) -> None:
        self._bus, self._most, self._store = bus, in_flight, store
        self._known: dict[str, Outcomes] = {}
        self._in_flight = InFlight()
        self._attempts = self._unscored = 0
        self._hopeless: TooManyUnscored | None = None

    async def score(self, text: str, rows: Sequence[Row]) -> Outcomes:
        """Return the outcome of each row under the prompt ``text``, by row id."""
        known = self._of(text)
        missing = [row for row in rows if row.id not in known]
        refusals: list[RequestFailed] = []
        left = iter(missing)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(self._most, len(missing))):
                tasks.start_soon(self._work, text, left, refusals)
        if self._hopeless is not None:
            raise self._hopeless
        if refusals and any(row.id not in known for row in missing):
            raise refusals[0]
        return self.known(text, rows)

    async def score_all(self, texts: Iterable[str], rows: Sequence[Row]) -> None:
        """Score each row with each of the texts concurrently; if one text fails, calls in progress are finished."""
        await together([partial(self.score, text, rows) for text in dict.fromkeys(texts)])

    def known(self, text: str, rows: Sequence[Row]) -> Outcomes:
        """Return the outcomes that are known already, without any request."""
        known = self._of(text)
        return {row.id: known[row.id] for row in rows if row.id in known}

    def _of(self, text: str) -> Outcomes:
        if text not in self._known:
            self._known[text] = self._store.recall(text) if self._store else {}
        return self._known[text]

    async def _work(self, text: str, left: Iterator[Row], refusals: list[RequestFailed]) -> None:
        """Score rows until none is left, the budget is spent, or too many failed."""
        for row in left:
            try:
                await self._score_one(text, row)
            except RequestFailed as failed:
                if not _is_budget(failed):
                    raise
                refusals.append(failed)
            if refusals or self._hopeless is not None:
                return

    async def _score_one(self, text: str, row: Row) -> None:
        known = self._of(text)
        async with self._in_flight.exclusive((text, row.id)):
            if row.id in known:
                return
            reply = await self._bus.request(SCORE, ScoreAsk(text=text, row=row), timeout=TIMEOUT)
            known[row.id] = reply.outcome
        self._note(text, row.id, reply.outcome)

    def _note(self, text: str, row_id: str, outcome: Scored | Unscored) -> None:
        self._attempts += 1
        if isinstance(outcome, Unscored):
            self._unscored += 1
            self._check(outcome.reason)
        elif self._store is not None:
            self._store.keep(text, row_id, outcome)

    def _check(self, reason: str) -> None:
        """Stop the run if too many scorings failed, even if all that are in progress succeed."""
        attempts = self._attempts + len(self._in_flight)
        if self._attempts >= GRACE and self._unscored > MOST_UNSCORED * attempts:
            self._hopeless = TooManyUnscored(
                f"{self._unscored} of {self._attempts} scorings failed (last: {reason}); finished answers are kept"
            )


async def together(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run all ``works`` concurrently. A spent budget ends one work, but does not cancel the calls of the others.

    When all have ended, raises the first error that ended one: RequestFailed for a spent budget, or
    TooManyUnscored. Any other error cancels all works and is raised in an exception group.
    """
    ended: list[Exception] = []

    async def one(work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except TooManyUnscored as exc:
            ended.append(exc)
        except RequestFailed as exc:
            if not _is_budget(exc):
                raise
            ended.append(exc)

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(one, work)
    if ended:
        raise ended[0]


async def until_spent(phase: Callable[[], Awaitable[object]]) -> str | None:
    """Run a phase; return the reason if a spent budget ended it early, otherwise None.

    Any other error is raised.
    """
    try:
        await phase()
    except (RequestFailed, BaseExceptionGroup) as exc:
        causes = list(leaves(exc))
        spent = [c.failure.detail for c in causes if isinstance(c, RequestFailed) and _is_budget(c)]
        if len(spent) < len(causes):
            raise
        return spent[0]
    return None


def _is_budget(failed: RequestFailed) -> bool:
    return failed.failure.kind == BudgetExceeded.__name__
