"""Guided runs: an assistant marks, proposes and answers; this module checks its submissions and scores the answers.

Nothing of a guided run happens in the background. Each submission is checked, applied to the state and stored in the
journal, so any process can continue the run. If the run names a model, this model answers instead of the assistant;
its calls count for the budgets of the run and the session.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import data as data_files
from lpo_agent.core.budget import Ledger
from lpo_agent.core.result import GUIDED
from lpo_agent.core.scores import Scored
from lpo_agent.errors import BudgetExceeded, ConfigError, JournalError, MetricError, ReplyError, RequestFailed, worst
from lpo_agent.metrics import as_metric
from lpo_agent.runs.agents import open_agents, setting_of
from lpo_agent.runs.kinds import plain_method
from lpo_agent.runs.outcomes import JournalOutcomes
from lpo_agent.runs.request import PreparedRun, RunRequest, read_request
from lpo_agent.runs.run import new_run_id, usage_of
from lpo_agent.runs.runner import FILES
from lpo_agent.runs.task import load_task
from lpo_agent.search.methods.guided import GuidedItem, GuidedSize, GuidedState, replay
from lpo_agent.search.scoring import together, until_spent
from lpo_agent.spec import NO_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.runs.request import OwnParts
    from lpo_agent.runs.runner import Runner
    from lpo_agent.search.scoring import Scoring
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


@dataclass(frozen=True, slots=True)
class _Opened:
    """A guided run that was read from the journal."""

    prepared: PreparedRun
    state: GuidedState
    ledger: Ledger

    @property
    def model(self) -> str:
        return self.prepared.request.spec.model


@dataclass(frozen=True, slots=True)
class GuidedRuns:
    """The guided runs of a session: :attr:`lpo_agent.Session.guided`.

    Every method returns the state of the run; its ``stage`` says what the assistant has to do next. Raises
    JournalError for an unknown run or one that is not guided, and ConfigError for an invalid submission, which then
    has no effect.
    """

    _runner: Runner
    _own: Callable[[RunSpec], OwnParts]
    _shared: Mapping[str, Any]

    async def start(
        self, spec: RunSpec, *, steps: int = 2, proposals: int = 3, owner: str | None = None
    ) -> GuidedState:
        """Start a run of ``steps`` steps with ``proposals`` candidates each; raises InputError.

        ``spec.model`` answers the inputs; if it is :data:`lpo_agent.NO_MODEL`, the assistant does.
        """
        spec = spec.model_copy(update=dict(self._shared))
        own = self._own(spec)
        task = load_task(spec, own=own)
        if task.metric_name == "judge":
            raise ConfigError("metric: judge needs a model; choose another one for a guided run")
        if spec.model != NO_MODEL:
            self._runner.check_prices(spec)
        journal, run_id = self._runner.journal, new_run_id(time.time())
        rows = await journal.put_blob(data_files.to_json(task.splits))
        request = RunRequest("optimize", spec.model_copy(update=FILES), rows, owner=owner, own=own.given())
        await journal.create_run(run_id, GUIDED, request.to_json())
        size = GuidedSize(steps=steps, proposals=proposals)
        await journal.append(run_id, [(GUIDED, json.dumps(asdict(size)))])
        async with self._lock(run_id):
            return await self._answered(self._open(run_id))

    def read(self, run_id: str) -> GuidedState:
        """Return the state of a run."""
        return self._open(run_id).state

    async def submit_marks(self, run_id: str, tagged_prompt: str) -> GuidedState:
        """Submit the prompt with ``<edit>`` tags around the words to edit; the rest must be unchanged."""
        return await self._submitted(run_id, {"type": "marks", "tagged": tagged_prompt})

    async def submit_candidates(self, run_id: str, candidates: Sequence[Mapping[int, str]]) -> GuidedState:
        """Submit candidates: for each, the new texts by number of the slot, which starts at 1."""
        fills = [{str(slot): text for slot, text in candidate.items()} for candidate in candidates]
        return await self._submitted(run_id, {"type": "candidates", "fills": fills})

    async def submit_outputs(self, run_id: str, outputs: Mapping[str, str]) -> GuidedState:
        """Submit answers by the id of their input, and score them; answers to other inputs are ignored."""
        async with self._lock(run_id):
            opened = self._open(run_id)
            waiting = [item for item in opened.state.items() if item.id in outputs]
            if not waiting:
                raise ConfigError("none of these items waits for an answer; call next_inputs")
            task = opened.prepared.task
            metric = opened.prepared.own.metric or as_metric(task.metric_name, labels=task.labels)
            scored = []
            for item in waiting:
                try:
                    judged = await metric.judge(outputs[item.id], item.row)
                except MetricError as exc:
                    raise ConfigError(f"the metric cannot judge an item: {exc}") from None
                scored.append([item.id, judged.value, outputs[item.id], judged.feedback])
            await self._keep(opened, {"type": "outputs", "scored": scored})
            return opened.state

    async def _submitted(self, run_id: str, submission: dict[str, Any]) -> GuidedState:
        async with self._lock(run_id):
            opened = self._open(run_id)
            try:
                await self._keep(opened, submission)
            except ReplyError as exc:
                raise ConfigError(f"these marks cannot be used: {exc}") from None
            return await self._answered(opened)

    def _lock(self, run_id: str) -> anyio.Lock:
        """Return the run's lock: a run takes one submission at a time."""
        return self._runner.locks.setdefault(run_id, anyio.Lock())

    def _open(self, run_id: str) -> _Opened:
        """Return the run with exactly this id, with the state that is computed from its log."""
        journal = self._runner.journal
        record = journal.run(run_id)
        if record.kind != GUIDED or record.run_id != run_id:
            raise JournalError("unknown run_id; this is no guided run")
        request = read_request(record.spec_json)
        own = self._own(request.spec)
        own.check_against(request, run_id)
        task = load_task(request.spec, splits=data_files.from_json(journal.get_blob(request.rows)), own=own)
        ledger = Ledger(request.spec.budget, already=journal.totals(run_id))
        return _Opened(PreparedRun(run_id, request, task, own), self._state(run_id, task), ledger)

    def _state(self, run_id: str, task: Task) -> GuidedState:
        """Return the state that is computed from a run's log: the size of the run, then the submissions."""
        try:
            size, *log = (json.loads(body) for body in self._runner.journal.events(run_id))
            return replay(GuidedState(run_id, task.prompt, task.splits, GuidedSize(**size)), log)
        except (TypeError, KeyError, ValueError) as exc:
            kind = type(exc).__name__
            raise JournalError(f"run {run_id} was written by another version of lpo-agent ({kind})") from None

    async def _keep(self, opened: _Opened, submission: dict[str, Any]) -> None:
        """Apply a submission to the state, then store it in the journal; an invalid one changes neither."""
        state, journal = opened.state, self._runner.journal
        state.apply(submission)
        await journal.append(state.run_id, [(GUIDED, json.dumps(submission))])
        if state.stage == "done":
            usage = None if opened.model == NO_MODEL else usage_of(opened.ledger)
            result = state.result(usage).model_dump_json(by_alias=True)
            await journal.finish_run(state.run_id, "completed", result, opened.ledger.totals.seconds)

    async def _answered(self, opened: _Opened) -> GuidedState:
        """If the run has a model, let it answer the inputs that wait for an answer; raises LpoError."""
        if opened.model != NO_MODEL and opened.state.stage == "answer":
            try:
                await self._answer(opened)
            except (RequestFailed, BaseExceptionGroup) as exc:
                known = worst(exc)
                if known is None:
                    raise
                raise known from None
        return opened.state

    async def _answer(self, opened: _Opened) -> None:
        prepared, state = opened.prepared, opened.state
        outcomes = JournalOutcomes(self._runner.journal, state.run_id)
        context = await self._runner.context(prepared, opened.ledger, outcomes)
        method, plan = plain_method()
        setting = setting_of(context.spec, context.task, plan, method.name)
        try:
            async with open_agents(context, setting, method) as bus:
                while state.stage == "answer":
                    scored = await _scored(context.scoring(bus), state.items())
                    await self._keep(opened, {"type": "outputs", "scored": scored})
        finally:
            outcomes.flush()


async def _scored(scoring: Scoring, items: Sequence[GuidedItem]) -> list[list[Any]]:
    """Score the items, and return their outcomes in the form of the log; raises LpoError if all calls failed."""
    rows: dict[str, list[Row]] = {}
    for item in items:
        rows.setdefault(item.prompt, []).append(item.row)
    spent = await until_spent(partial(together, [partial(scoring.score, text, each) for text, each in rows.items()]))
    found: list[list[Any]] = []
    for item in items:
        outcome = scoring.known(item.prompt, [item.row]).get(item.row.id)
        if isinstance(outcome, Scored):
            found.append([item.id, outcome.value, outcome.output, outcome.feedback])
    if not found and spent is not None:
        raise BudgetExceeded(spent)
    if not found:
        raise ConfigError("the model answered none of the inputs")
    return sorted(found)
