"""The coordinator: runs the branches side by side, keeps the books, and ends honestly.

Branches never wait for each other's calls. They do share what they found, and a result must not
depend on which reply came first; so news travels in logical time: step ``t`` of any branch sees
what all branches found up to step ``t - lag``. A branch therefore waits only when it is more than
``lag`` steps ahead of the slowest one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio

from lpo_agent.core.events import FinalistScored, PhaseStarted, SeedScored, SplitTested, StepFinished
from lpo_agent.core.scores import paired, summarize
from lpo_agent.errors import BudgetExceeded
from lpo_agent.search.plan import ranked
from lpo_agent.search.scoring import until_spent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.core.budget import Ledger, Reservation
    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.scores import Score
    from lpo_agent.search.branch import Branch
    from lpo_agent.search.plan import Candidate, Need, Plan, StepReport
    from lpo_agent.search.scoring import Scoring


@dataclass(slots=True)
class Findings:
    """What a search found; ``best`` is the seed where nothing beat it on dev.

    ``differences``: best minus seed on the test items that were scored for both.
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


@dataclass(frozen=True, slots=True)
class Ground:
    """What a search stands on: the rows it may choose by, the rows it may not, the purse.

    ``need`` is put aside before the search, so that its end can always be paid.
    """

    dev: Sequence[Row]
    test: Sequence[Row]
    ledger: Ledger
    need: Need


class Coordinator:
    """The single writer of a search's state; branches only report to it."""

    def __init__(
        self,
        seed: Candidate,
        branches: Sequence[Branch],
        scoring: Scoring,
        *,
        plan: Plan,
        ground: Ground,
        emit: Callable[[Event], None],
    ) -> None:
        self._seed, self._branches, self._scoring = seed, branches, scoring
        self._plan, self._ground, self._emit = plan, ground, emit
        self._reports: dict[tuple[int, int], StepReport] = {}
        self._complete = [anyio.Event() for _ in range(plan.steps)]
        self._scope = anyio.CancelScope()
        self.findings = Findings(seed, seed)

    async def run(self) -> Findings:
        """Search, confirm on dev, test once. A spent budget ends a phase early, not the run.

        Raises RequestFailed for what no later call could mend, and TooManyUnscored.
        """
        hold = self._put_aside()
        try:
            await self._search()
        finally:
            if hold is not None:
                self._ground.ledger.release(hold)
        self._spent(await until_spent(self._confirm))
        self._spent(await until_spent(self._test))
        return self.findings

    def _spent(self, reason: str | None) -> None:
        self.findings.stopped_by = self.findings.stopped_by or reason

    def _put_aside(self) -> Reservation | None:
        need = self._ground.need
        try:
            return self._ground.ledger.reserve(calls=need.calls, tokens=need.tokens, usd=need.usd, aside=True)
        except BudgetExceeded:
            return None  # too small a budget to test anything: search with what there is

    def stop(self, reason: str) -> None:
        """End the search now; what was found so far is still confirmed and tested."""
        self.findings.stopped_by = reason
        self._scope.cancel()

    async def _search(self) -> None:
        self._emit(PhaseStarted(phase="search", total=self._plan.branches * self._plan.steps))
        with self._scope:
            async with anyio.create_task_group() as tasks:
                for branch in self._branches:
                    tasks.start_soon(self._part, partial(self._follow, branch))
                tasks.start_soon(self._part, self._score_seed)

    async def _part(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the search. A spent budget ends it, lets nobody wait for it, and cancels nobody."""
        if reason := await until_spent(work):
            self._spent(reason)
            for step in self._complete:
                step.set()

    async def _score_seed(self) -> None:
        if self.findings.seed_dev and self.findings.seed_dev.n + self.findings.seed_dev.unscored == len(
            self._ground.dev
        ):
            return
        try:
            await self._scoring.score(self._seed.prompt.text, self._ground.dev)
        finally:
            known = self._scoring.known(self._seed.prompt.text, self._ground.dev)
            self.findings.seed_dev = self.findings.best_dev = summarize(known.values())
        self._emit(SeedScored(score=self.findings.seed_dev))

    async def _follow(self, branch: Branch) -> None:
        for step in range(1, self._plan.steps + 1):
            horizon = step - self._plan.lag
            if horizon >= 1:
                await self._complete[horizon - 1].wait()
            news = [r for (s, b), r in sorted(self._reports.items()) if s <= horizon or b == branch.number]
            parent = self._parent(branch, news)
            tried = dict.fromkeys(text for report in news for text in report.tried)
            self._book(await branch.step(step, parent, list(tried)))

    def _parent(self, branch: Branch, news: Sequence[StepReport]) -> Candidate:
        """Return the branch's own latest success, or a better one that others found.

        Branches take the leaders in turn, so that not all of them edit the same prompt.
        """
        own = [r for r in news if r.branch == branch.number and r.accepted]
        leaders = ranked(news)[: self._plan.beam]
        pick = leaders[branch.number % len(leaders)] if leaders else None
        latest = own[-1] if own else None
        chosen = pick if latest is None or (pick and pick.mean > latest.mean) else latest
        return chosen.accepted if chosen and chosen.accepted else self._seed

    def _book(self, report: StepReport) -> None:
        self._reports[report.step, report.branch] = report
        if report.skipped:
            self.findings.skipped.append(report.skipped)
        accepted = report.accepted
        self._emit(
            StepFinished(
                branch=report.branch,
                step=report.step,
                accepted=accepted.id if accepted else None,
                text=accepted.prompt.text if accepted else None,
                mean=report.mean if accepted else None,
                skipped=report.skipped,
            )
        )
        if all((report.step, branch.number) in self._reports for branch in self._branches):
            self._complete[report.step - 1].set()

    async def _confirm(self) -> None:
        """Score the finalists on the dev split; the best one that beats the seed there is the answer."""
        finalists = [r.accepted for r in ranked(self._reports.values()) if r.accepted][: self._plan.finalists]
        dev, ids = self._ground.dev, [row.id for row in self._ground.dev]
        self._emit(PhaseStarted(phase="confirm", total=len(dev) * (len(finalists) + 1)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._score_seed)
            tasks.start_soon(self._scoring.score_all, [f.prompt.text for f in finalists], dev)
        old = self._scoring.known(self._seed.prompt.text, dev)
        best_gain = 0.0
        for finalist in finalists:
            new = self._scoring.known(finalist.prompt.text, dev)
            score = summarize(new.values())
            self._emit(FinalistScored(candidate=finalist.id, score=score))
            gain = sum(paired(new, old, ids))
            if gain > best_gain:
                best_gain, self.findings.best, self.findings.best_dev = gain, finalist, score

    async def _test(self) -> None:
        """Score the seed and the answer on the test split, which nothing has looked at before."""
        test, seed, best = self._ground.test, self._seed, self.findings.best
        if not test:
            return
        self._emit(PhaseStarted(phase="test", total=len(test) * (1 + (best is not seed))))
        try:
            await self._scoring.score_all([seed.prompt.text, best.prompt.text], test)
        finally:
            old, new = (self._scoring.known(c.prompt.text, test) for c in (seed, best))
            self.findings.seed_test, self.findings.best_test = summarize(old.values()), summarize(new.values())
            self.findings.differences = paired(new, old, [row.id for row in test]) if best is not seed else []
        self._emit(SplitTested(which="seed", score=self.findings.seed_test))
        self._emit(SplitTested(which="best", score=self.findings.best_test))
