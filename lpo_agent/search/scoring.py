"""Scoring rows over the bus, each pair of prompt and row at most once a run."""

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

TIMEOUT = math.inf  # the limiter may rightly hold a call back for long; budgets end runs, not this
MOST_UNSCORED = 0.3
GRACE = 20


class OutcomeStore(Protocol):
    """Keeps outcomes beyond this process, so that a resumed run need not ask for them again."""

    def recall(self, text: str) -> Outcomes:
        """Return what an earlier session of this run scored under the prompt ``text``."""
        ...

    def keep(self, text: str, row_id: str, outcome: Scored) -> None:
        """Remember an outcome; does not wait."""
        ...


class Scoring:
    """Asks the scorer, remembers outcomes, and stops a run that mostly fails.

    ``in_flight`` rows of one prompt are asked for at a time. Raises TooManyUnscored once more than
    30 % of at least 20 scorings failed, and RequestFailed when the budget is spent; calls in flight
    still end first, and their answers are kept.
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
        """Score each row under each of the texts, all at once; what ends one lets the others' calls end too."""
        await together([partial(self.score, text, rows) for text in dict.fromkeys(texts)])

    def known(self, text: str, rows: Sequence[Row]) -> Outcomes:
        """Return the outcomes that are there already."""
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
        async with self._in_flight.alone((text, row.id)):
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
        """Give up if too many failed even if all that are in flight come through."""
        attempts = self._attempts + len(self._in_flight)
        if self._attempts >= GRACE and self._unscored > MOST_UNSCORED * attempts:
            self._hopeless = TooManyUnscored(
                f"{self._unscored} of {self._attempts} scorings failed (last: {reason}); finished answers are kept"
            )


async def together(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of it at the same time. A spent budget ends one work, not the calls that others have under way.

    Raises what ended a work (RequestFailed for the budget, TooManyUnscored) when all have ended.
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
    """Run a phase; return why the budget ended it early, or None.

    Raises what ended the phase for any other reason.
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
