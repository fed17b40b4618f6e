"""Carries out one search of a peer: its process searches, and its result is tested as ours are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lpo_agent.agents.team import Models, Team
from lpo_agent.bench.peers.endpoint import OPTIMIZER, OPTIMIZER_TOKENS, TASK, Endpoint, open_endpoint
from lpo_agent.bench.peers.metering import Meter, Metered
from lpo_agent.bench.peers.process import Program
from lpo_agent.bench.rows import CellRow, RoleUsage
from lpo_agent.core.events import PhaseStarted
from lpo_agent.core.scores import Scored, Unscored, summarize
from lpo_agent.core.tally import calls_to
from lpo_agent.errors import LpoError, MetricError
from lpo_agent.runs.agents import open_agents, setting_of
from lpo_agent.runs.kinds import plain_method
from lpo_agent.search.scoring import until_spent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.bench.grid import Cell
    from lpo_agent.bench.peers.catalog import Peer
    from lpo_agent.bench.peers.endpoint import Report
    from lpo_agent.bench.peers.process import Ended
    from lpo_agent.core.messages import Row
    from lpo_agent.runs.context import RunContext
    from lpo_agent.search.scoring import Outcomes

ANSWER_CALLS: Final = 4
"""The most calls for the answer of a peer's program to one test item: DSPy repeats a request in another form."""


@dataclass(frozen=True, slots=True)
class PeerSearch:
    """One search of a peer. ``calls``: the cap; ``seconds``: the time limit of its process."""

    peer: Peer
    cell: Cell
    calls: int
    seconds: float
    python: Path | None
    variables: Mapping[str, str] = field(repr=False)

    async def run(self, context: RunContext) -> CellRow:
        """Search and test; the row is "failed" if the peer reported no prompt. Raises LpoError if no model answers.

        What its process wrote to standard error is in the row alone, because reasons are logged.
        """
        splits = context.task.splits
        context.emit(PhaseStarted(phase="search", total=self.calls))
        endpoint = self._endpoint(context, [*splits.train, *splits.dev], self.calls)
        job = self._job(context, train=_as_json(splits.train), dev=_as_json(splits.dev))
        ended = await self._process(context, endpoint, job)
        best = endpoint.reports[-1] if endpoint.reports else None
        why = self._why(context, endpoint, ended)
        error = ended.last_line if ended.status and not endpoint.meter.spent.is_set() else ""
        if best is None:
            reason = f"{self.peer.name} reported no prompt: {why}"
            return CellRow(cell=self.cell, run_id=context.run_id, status="failed", reason=reason, error=error)
        context.emit(PhaseStarted(phase="test", total=2 * len(splits.test)))
        seed, found, spent = await self._test(context, best)
        row = self._row(context, endpoint, (seed, found), (spent or why, spent is None))
        return row.model_copy(update={"error": error})

    def _endpoint(self, context: RunContext, rows: Sequence[Row], cap: int) -> Endpoint:
        """Return a counting endpoint for the given rows."""
        meter = Meter(cap)
        models = {
            TASK: Metered(context.models.task, meter, TASK),
            OPTIMIZER: Metered(context.models.optimizer, meter, OPTIMIZER),
        }
        judge = Metered(context.models.optimizer, meter, "judge")
        scorer = Team(_setting(context), plain_method()[0].writers).scorer(Models(models[TASK], judge))
        tokens = {TASK: context.task.max_tokens, OPTIMIZER: OPTIMIZER_TOKENS}
        return Endpoint(models, scorer, meter, {row.id: row for row in rows}, tokens)

    def _job(self, context: RunContext, **rows: Any) -> dict[str, Any]:
        return {
            "peer": self.peer.name,
            "prompt": context.task.prompt.text,
            "train": [],
            "dev": [],
            "test": [],
            "state": None,
            "seed": self.cell.seed,
            "calls": self.calls,
            "max_tokens": context.task.max_tokens,
            "temperature": context.spec.temperature,
            **rows,
        }

    async def _process(self, context: RunContext, endpoint: Endpoint, job: Mapping[str, Any]) -> Ended:
        """Run the peer's program with a job; raises the error that ended all calls, if there was one."""
        program = Program(self.peer.program, self.python, self.variables)
        async with open_endpoint(endpoint) as url:
            address = {"url": url, "token": endpoint.token}
            until = (endpoint.meter.spent, context.stop)
            ended = await program.run({**job, **address}, until=until, seconds=self.seconds)
        if endpoint.failure is not None:
            raise endpoint.failure
        return ended

    def _why(self, context: RunContext, endpoint: Endpoint, ended: Ended) -> str:
        """Return why the search ended."""
        calls = endpoint.meter.taken
        if endpoint.meter.spent.is_set():
            return f"its {self.calls} search calls are used up"
        if context.stop.is_set():
            return "asked to stop"
        if ended.status is None:
            return f"its process was ended after {self.seconds:.0f} s and {calls} calls"
        if ended.status == 0:
            return f"it ended by itself after {calls} calls"
        return f"its process ended with status {ended.status} after {calls} calls"

    async def _test(self, context: RunContext, best: Report) -> tuple[Outcomes, Outcomes, str | None]:
        """Score the seed prompt and the best one on the test rows; also return the reason if a budget ended that."""
        rows, seed = context.task.splits.test, context.task.prompt.text
        texts = [seed] if self.peer.answers else [seed, best.prompt]
        async with open_agents(context, _setting(context), plain_method()[0]) as bus:
            scoring = context.scoring(bus)
            spent = await until_spent(partial(scoring.score_all, texts, rows))
            scored = scoring.known(seed, rows), scoring.known(best.prompt, rows)
        if self.peer.answers and spent is None and rows:
            return scored[0], await self._answers(context, best), None
        return *scored, spent

    async def _answers(self, context: RunContext, best: Report) -> Outcomes:
        """Have the peer's program answer the test items, without their targets, and judge its answers."""
        rows = context.task.splits.test
        endpoint = self._endpoint(context, (), ANSWER_CALLS * len(rows))
        job = self._job(context, state=best.state, test=[each | {"target": ""} for each in _as_json(rows)])
        ended = await self._process(context, endpoint, job)
        if not endpoint.outputs:
            raise LpoError(f"{self.peer.name} answered no test item: {self._why(context, endpoint, ended)}")
        found: Outcomes = {}
        for row in rows:
            found[row.id] = outcome = await _judged(endpoint, endpoint.outputs.get(row.id, ""), row)
            if isinstance(outcome, Scored):
                context.outcomes.keep(best.prompt, row.id, outcome)
        return found

    def _row(
        self, context: RunContext, endpoint: Endpoint, scored: tuple[Outcomes, Outcomes], end: tuple[str, bool]
    ) -> CellRow:
        reports, (seed, found), (why, whole) = endpoint.reports, scored, end
        best, seeds = reports[-1], [each for each in reports if each.seed]
        roles = endpoint.meter.roles
        curve = _rising((each.calls, each.score) for each in reports if each.score is not None)
        gains = calls_to(curve) or {}
        tested = bool(context.task.splits.test)
        words = len(context.task.prompt.text.split())
        return CellRow(
            cell=self.cell,
            run_id=context.run_id,
            status="completed" if whole else "stopped",
            reason=why,
            seed_dev=seeds[-1].score if seeds else None,
            dev=best.score,
            seed_test=summarize(seed.values()).mean if tested else None,
            test=summarize(found.values()).mean if tested else None,
            test_n=summarize(found.values()).n if tested else None,
            prompt=best.prompt,
            seed_was_best=any(best.prompt == each.prompt for each in seeds),
            length_ratio=len(best.prompt.split()) / words if words else None,
            words=len(best.prompt.split()),
            calls=endpoint.meter.taken,
            optimizer_calls=roles[OPTIMIZER].calls if OPTIMIZER in roles else 0,
            roles={name: RoleUsage(**asdict(counts)) for name, counts in roles.items()},
            calls_to_50=gains.get("50%"),
            calls_to_90=gains.get("90%"),
            calls_to_100=gains.get("100%"),
            usage=context.usage(),
            curve=curve,
        )


def _rising(points: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Return the points of calls and score with the best score so far in place of each."""
    best, found = float("-inf"), []
    for calls, score in points:
        best = max(best, score)
        found.append((calls, best))
    return tuple(found)


def _setting(context: RunContext) -> AgentSetting:
    method, plan = plain_method()
    return setting_of(context.spec, context.task, plan, method.name)


def _as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [{"id": row.id, "variables": dict(row.variables), "target": row.target} for row in rows]


async def _judged(endpoint: Endpoint, output: str, row: Row) -> Scored | Unscored:
    """Return the outcome of an answer to a test item."""
    try:
        judged = await endpoint.scorer.metric.judge(output, row)
    except MetricError as exc:
        return Unscored(reason=f"metric: {exc}")
    return Scored(value=judged.value, output=output, feedback=judged.feedback)
