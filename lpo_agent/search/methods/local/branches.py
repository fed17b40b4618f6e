"""Runs the concurrent branches of a local search, which share their results.

The result must not depend on the order in which replies arrive. So results are shared in logical time: step
``t`` of a branch uses the results of all branches up to step ``t - lag``. A branch waits only if it is more
than ``lag`` steps ahead of the slowest one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from lpo_agent.core import credit
from lpo_agent.core.events import CandidateRaced, PhaseStarted, StepFinished
from lpo_agent.core.scores import values
from lpo_agent.search.attribution import attribute, pruned, unmeasured
from lpo_agent.search.candidates import Candidate, StepReport, history_of
from lpo_agent.search.outcome import score_seed
from lpo_agent.search.scoring import until_spent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.search.candidates import LocalityChecks
    from lpo_agent.search.finalists import Finals
    from lpo_agent.search.methods.local.branch import Branch
    from lpo_agent.search.outcome import SearchOutcome, SearchTask
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.scoring import Scoring


class Branches:
    """The search of ``lpo`` and ``local-search``; implements :class:`lpo_agent.search.methods.base.PhasedSearch`."""

    def __init__(
        self,
        branches: Sequence[Branch],
        scoring: Scoring,
        finals: Finals,
        *,
        panel: Sequence[Row],
        plan: Plan,
        task: SearchTask,
        outcome: SearchOutcome,
        locality: LocalityChecks,
        emit: Callable[[Event], None],
    ) -> None:
        self._branches, self._scoring, self._finals, self._panel = branches, scoring, finals, panel
        self._plan, self._task, self._outcome = plan, task, outcome
        self._locality, self._emit = locality, emit
        self._reports: dict[tuple[int, int], StepReport] = {}
        self._complete = [anyio.Event() for _ in range(plan.steps)]
        self._superseded: str | None = None

    async def search(self) -> None:
        """Run all branches to their last step, then remove unnecessary edits from the best prompt."""
        self._emit(PhaseStarted(phase="search", total=self._plan.branches * self._plan.steps))
        try:
            async with anyio.create_task_group() as tasks:
                for branch in self._branches:
                    tasks.start_soon(self._part, partial(self._follow, branch))
                seed = partial(score_seed, self._scoring, self._task, self._outcome, self._emit)
                tasks.start_soon(self._part, seed)
            if self._outcome.stopped_by is None:
                await self._part(self._prune)
        finally:
            self._sum_up()

    async def _part(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the search. If a spent budget ends it, no branch waits for it, and none is cancelled."""
        if reason := await until_spent(work):
            self._outcome.stopped_by = self._outcome.stopped_by or reason
            for step in self._complete:
                step.set()

    async def _follow(self, branch: Branch) -> None:
        seed = self._outcome.seed
        await self._scoring.score(seed.prompt.text, self._panel)
        for step in range(1, self._plan.steps + 1):
            horizon = step - self._plan.lag
            if horizon >= 1:
                await self._complete[horizon - 1].wait()
            news = [r for (s, b), r in sorted(self._reports.items()) if s <= horizon or b == branch.number]
            self._book(await branch.step(step, history_of(seed, news, branch.number)))

    def _book(self, report: StepReport) -> None:
        self._reports[report.step, report.branch] = report
        self._outcome.candidates += len(report.tried)
        if report.skipped:
            self._outcome.skipped.append(report.skipped)
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

    async def _prune(self) -> None:
        """Replace the leader by the same prompt without its unnecessary edits, as the result of an additional step."""
        leaders = self._leaders()
        if not leaders:
            return
        seed, leader = self._outcome.seed.prompt, leaders[0]
        rows = self._panel[: self._plan.explained_on]
        found = await pruned(self._scoring, seed, leader.prompt, rows, self._plan.explained)
        if found is None:
            return
        marked, prompt = found
        child = Candidate(prompt, self._plan.steps + 1, leader.branch, marked, "pruned")
        new = values(await self._scoring.score(prompt.text, self._panel))
        mean = sum(new.values()) / len(new) if new else 0.0
        if mean >= self._mean(leader) and self._locality.admits(child):
            pairs = frozenset((prompt.text, row.id) for row in self._panel)
            report = StepReport(leader.branch, child.step, child, mean, (prompt.text,), pairs=pairs)
            self._reports[child.step, child.branch] = report
            self._outcome.candidates += 1
            self._superseded = leader.prompt.text
            self._emit(_pruned(child, leader, mean, self._mean(leader), len(self._panel)))

    def _leaders(self) -> list[Candidate]:
        """Return the accepted candidates, highest mean on the panel first; among equals the shorter, then the older."""
        accepted = history_of(self._outcome.seed, self._in_order(), branch=0).pool[1:]
        found = [candidate for candidate in accepted if candidate.prompt.text != self._superseded]
        return sorted(found, key=lambda c: (-round(self._mean(c), 9), len(c.prompt.text), c.step, c.branch))

    def _mean(self, candidate: Candidate) -> float:
        found = values(self._scoring.known(candidate.prompt.text, self._panel))
        return sum(found.values()) / len(found) if found else 0.0

    def _in_order(self) -> Iterable[StepReport]:
        return [report for _, report in sorted(self._reports.items())]

    def _sum_up(self) -> None:
        """Compute the curve and the counts, with calls counted step by step, so that they do not depend on timing."""
        outcome, each = self._outcome, self._task.calls_each
        seen = {(outcome.seed.prompt.text, row.id) for row in self._panel}
        best, asked = self._mean(outcome.seed), 0
        outcome.curve = [(len(seen) * each, best)]
        for report in self._in_order():
            seen |= report.pairs
            asked += report.asked
            if report.accepted is not None and report.mean > best:
                best = report.mean
                outcome.curve.append((len(seen) * each + asked, best))
        outcome.scorings, outcome.optimizer_calls = len(seen), asked
        outcome.records = credit.records(each for report in self._in_order() for each in report.tries)

    async def confirm(self) -> None:
        """Choose among the best prompts of the search on one part of dev, and confirm the choice on the other part."""
        await self._finals.settle(self._leaders()[: self._plan.finalists])

    async def explain(self) -> None:
        """Measure the worth of each edit of the best prompt, with the rest of the budget."""
        outcome, rows = self._outcome, self._panel[: self._plan.explained_on]
        if outcome.best is outcome.seed or self._plan.explained == 0:
            return
        text = outcome.best.prompt.text
        edits = min(self._plan.explained, len(unmeasured(outcome.seed.prompt, text)))
        self._emit(PhaseStarted(phase="explain", total=edits * len(rows)))
        outcome.edits = await attribute(self._scoring, outcome.seed.prompt, text, rows, self._plan.explained)


def _pruned(child: Candidate, parent: Candidate, mean: float, parent_mean: float, items: int) -> CandidateRaced:
    return CandidateRaced(
        branch=child.branch,
        step=child.step,
        candidate=child.id,
        mean=mean,
        parent_mean=parent_mean,
        items=items,
        survived=True,
        parent=parent.id,
        text=child.prompt.text,
        note=child.note,
    )
