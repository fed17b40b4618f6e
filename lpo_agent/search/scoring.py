"""Scoring rows over the bus, each pair of prompt and row at most once a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from lpo_agent.core.messages import SCORE, Row, ScoreAsk
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.errors import BudgetExceeded, RequestFailed, TooManyUnscored, leaves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from lpo_agent.bus.base import Bus

Outcomes = dict[str, Scored | Unscored]
"""Outcomes by row id."""

TIMEOUT = 24 * 3600.0  # the limiter may rightly hold a call back for long; budgets end runs, not this
MOST_UNSCORED = 0.3
GRACE = 20


class Scoring:
    """Asks the scorer, remembers outcomes, and stops a run that mostly fails.

    Raises TooManyUnscored once more than 30 % of at least 20 scorings failed. When the budget is
    spent, calls in flight still end and their answers are kept; then RequestFailed is raised.
    """

    def __init__(self, bus: Bus, *, in_flight: int) -> None:
        self._bus = bus
        self._slots = anyio.CapacityLimiter(in_flight)
        self._known: dict[tuple[str, str], Scored | Unscored] = {}
        self._flying: dict[tuple[str, str], anyio.Event] = {}
        self._unscored = 0
        self._refused: RequestFailed | None = None

    async def score(self, text: str, rows: Sequence[Row]) -> Outcomes:
        """Return the outcome of each row under the prompt ``text``, by row id."""
        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(self._score_one, text, row)
        known = self.known(text, rows)
        if self._refused is not None and len(known) < len({row.id for row in rows}):
            raise self._refused
        return known

    async def score_all(self, texts: Iterable[str], rows: Sequence[Row]) -> None:
        """Score each row under each of the texts, all at once."""
        async with anyio.create_task_group() as tasks:
            for text in dict.fromkeys(texts):
                tasks.start_soon(self.score, text, rows)

    def known(self, text: str, rows: Sequence[Row]) -> Outcomes:
        """Return the outcomes that are there already."""
        found = {row.id: self._known.get((text, row.id)) for row in rows}
        return {row_id: outcome for row_id, outcome in found.items() if outcome is not None}

    async def _score_one(self, text: str, row: Row) -> None:
        key = (text, row.id)
        while key in self._flying:
            await self._flying[key].wait()
        if key in self._known:
            return
        landed = self._flying[key] = anyio.Event()
        try:
            async with self._slots:
                outcome = await self._ask(text, row)
            if outcome is not None:
                self._note(key, outcome)
        finally:
            del self._flying[key]
            landed.set()

    async def _ask(self, text: str, row: Row) -> Scored | Unscored | None:
        """Return the outcome, or None where the budget is spent."""
        try:
            return (await self._bus.request(SCORE, ScoreAsk(text=text, row=row), timeout=TIMEOUT)).outcome
        except RequestFailed as failed:
            if not _is_budget(failed):
                raise
            self._refused = failed
            return None

    def _note(self, key: tuple[str, str], outcome: Scored | Unscored) -> None:
        self._known[key] = outcome
        if isinstance(outcome, Unscored):
            self._unscored += 1
            self._check(outcome.reason)

    def _check(self, reason: str) -> None:
        attempts = len(self._known)
        if attempts >= GRACE and self._unscored > MOST_UNSCORED * attempts:
            raise TooManyUnscored(
                f"{self._unscored} of {attempts} scorings failed (last: {reason}); finished answers are kept"
            )


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
