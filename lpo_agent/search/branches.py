"""Concurrent local branches: each improves its own prompt, and they share what they find.

Branches never wait for each other's calls. A result must not depend on which reply came first, so
news travels in logical time: step ``t`` of any branch sees what all branches found up to step
``t - lag``. A branch therefore waits only when it is more than ``lag`` steps ahead of the slowest.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from lpo_agent.core.events import FinalistScored, PhaseStarted, StepFinished
from lpo_agent.core.scores import summarize
from lpo_agent.search.findings import score_seed, settle
from lpo_agent.search.plan import ranked
from lpo_agent.search.scoring import until_spent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.search.branch import Branch
    from lpo_agent.search.findings import Findings, Ground
    from lpo_agent.search.plan import Candidate, Plan, StepReport
    from lpo_agent.search.scoring import Scoring


class Branches:
    """The method of ``lpo`` and ``local-search``; implements :class:`lpo_agent.search.findings.Method`."""

    def __init__(
        self,
        branches: Sequence[Branch],
        scoring: Scoring,
        *,
        plan: Plan,
        ground: Ground,
        findings: Findings,
        emit: Callable[[Event], None],
    ) -> None:
        self._branches, self._scoring = branches, scoring
        self._plan, self._ground, self._findings, self._emit = plan, ground, findings, emit
        self._reports: dict[tuple[int, int], StepReport] = {}
        self._complete = [anyio.Event() for _ in range(plan.steps)]

    async def search(self) -> None:
        """Run all branches to their last step."""
        self._emit(PhaseStarted(phase="search", total=self._plan.branches * self._plan.steps))
        async with anyio.create_task_group() as tasks:
            for branch in self._branches:
                tasks.start_soon(self._part, partial(self._follow, branch))
            tasks.start_soon(self._part, self._score_seed)

    async def _part(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the search. A spent budget ends it, lets nobody wait for it, and cancels nobody."""
        if reason := await until_spent(work):
            self._findings.stopped_by = self._findings.stopped_by or reason
            for step in self._complete:
                step.set()

    async def _score_seed(self) -> None:
        await score_seed(self._scoring, self._ground, self._findings, self._emit)

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
        return chosen.accepted if chosen and chosen.accepted else self._findings.seed

    def _book(self, report: StepReport) -> None:
        self._reports[report.step, report.branch] = report
        self._findings.candidates += len(report.tried)
        if report.skipped:
            self._findings.skipped.append(report.skipped)
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

    async def confirm(self) -> None:
        """Score the finalists on the dev split; the best one that beats the seed there is the answer."""
        finalists = [r.accepted for r in ranked(self._reports.values()) if r.accepted][: self._plan.finalists]
        dev = self._ground.dev
        self._emit(PhaseStarted(phase="confirm", total=len(dev) * (len(finalists) + 1)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._score_seed)
            tasks.start_soon(self._scoring.score_all, [f.prompt.text for f in finalists], dev)
        for finalist in finalists:
            score = summarize(self._scoring.known(finalist.prompt.text, dev).values())
            self._emit(FinalistScored(candidate=finalist.id, score=score))
        settle(self._scoring, self._ground, self._findings, finalists)
