"""The coordinator, which runs the phases of a search method: search, confirm, test, explain.

It reserves the cost of confirmation and test before the search, so that a search that uses up the budget is
still confirmed and tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from lpo_agent.core.events import PhaseStarted, SplitTested
from lpo_agent.core.scores import paired, summarize
from lpo_agent.search.scoring import until_spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.core.events import Event
    from lpo_agent.search.methods.base import PhasedSearch
    from lpo_agent.search.outcome import SearchOutcome, SearchTask
    from lpo_agent.search.scoring import Scoring


class Coordinator:
    """Runs a method: search, confirm on dev, test once, explain. Only the coordinator uses the test split."""

    def __init__(
        self,
        method: PhasedSearch,
        outcome: SearchOutcome,
        scoring: Scoring,
        task: SearchTask,
        emit: Callable[[Event], None],
    ) -> None:
        self._method, self.outcome, self._scoring = method, outcome, scoring
        self._task, self._emit = task, emit
        self._scope = anyio.CancelScope()

    async def run(self) -> SearchOutcome:
        """Return the outcome. When the budget is spent, the current phase ends early, but the run continues.

        Raises RequestFailed for failures that all later calls would have too, and TooManyUnscored.
        """
        with self._task.put_aside(), self._scope:
            self._spent(await until_spent(self._method.search))
        self._spent(await until_spent(self._method.confirm))
        self._spent(await until_spent(self._test))
        if self.outcome.stopped_by is None:
            await until_spent(self._method.explain)
        return self.outcome

    def stop(self, reason: str) -> None:
        """End the search now; the prompts found so far are still confirmed and tested."""
        self.outcome.stopped_by = reason
        self._scope.cancel()

    def _spent(self, reason: str | None) -> None:
        """Store the reason why a phase ended early; the reason of the last such phase is reported."""
        self.outcome.stopped_by = reason or self.outcome.stopped_by

    async def _test(self) -> None:
        """Score the seed and the best prompt on the test split, which has not been used before."""
        test, seed, best = self._task.test[: self.outcome.tested], self.outcome.seed, self.outcome.best
        if not test:
            return
        self._emit(PhaseStarted(phase="test", total=len(test) * (1 + (best is not seed))))
        try:
            await self._scoring.score_all([seed.prompt.text, best.prompt.text], test)
        finally:
            old, new = (self._scoring.known(c.prompt.text, test) for c in (seed, best))
            self.outcome.seed_test, self.outcome.best_test = summarize(old.values()), summarize(new.values())
            self.outcome.differences = paired(new, old, [row.id for row in test]) if best is not seed else []
        self._emit(SplitTested(which="seed", score=self.outcome.seed_test))
        self._emit(SplitTested(which="best", score=self.outcome.best_test))
