"""Runs a benchmark: all cells at the same time, with one rate limiter, one budget and one journal.

Each cell is a run in the journal. So an interrupted benchmark continues with the missing cells, and resumes the cells
that had begun.
"""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import anyio

from lpo_agent import data as data_files
from lpo_agent.bench.grid import AT_ONCE, Bench, Cell, arm_key, cell_spec, cells
from lpo_agent.bench.peers.catalog import PEER, PEERS
from lpo_agent.bench.peers.cell import PeerSearch
from lpo_agent.bench.peers.process import check_installed
from lpo_agent.bench.rows import BenchResult, CellRow, row_of
from lpo_agent.bench.splits import load_splits
from lpo_agent.bench.statistics import CellScores, compare_arms, compare_reference, compare_with_seed
from lpo_agent.core.budget import Budget
from lpo_agent.core.events import BenchStarted, CellFinished
from lpo_agent.core.result import RunResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import BudgetExceeded, ConfigError, LpoError, ProviderError
from lpo_agent.journal import open_journal
from lpo_agent.runs.estimate import estimate_calls
from lpo_agent.runs.kinds import JOBS
from lpo_agent.runs.lifecycle import running
from lpo_agent.runs.outcomes import prompt_hash
from lpo_agent.runs.request import OwnParts, method_of
from lpo_agent.runs.run import new_run_id
from lpo_agent.runs.runner import CallCap, calls_of_test, open_runner
from lpo_agent.runs.task import load_task, probe_calls, settled
from lpo_agent.search.task import calls_each, choosing_items, fit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from lpo_agent.core.events import Event
    from lpo_agent.core.result import UsageResult
    from lpo_agent.data import Splits
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal
    from lpo_agent.journal.store import RunRecord
    from lpo_agent.runs.context import RunContext
    from lpo_agent.runs.request import PreparedRun
    from lpo_agent.runs.run import Run
    from lpo_agent.runs.runner import Runner
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec

KIND: Final = "bench"


class BenchRequest(Bench):
    """A benchmark as the journal stores it, with the keys of its rows and its limits."""

    splits: dict[str, str]
    notes: tuple[str, ...] = ()
    at_once: int = AT_ONCE
    command: str = ""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The plan of a benchmark: its cells, its lowest and highest number of calls, and the tasks without data.

    Calls that cells share are made once.
    """

    cells: int
    calls_low: int
    calls_high: int
    missing_tasks: tuple[str, ...]


def plan_bench(bench: Bench, *, folder: Path | None = None, env: Environment | None = None) -> BenchPlan:
    """Return the plan of a benchmark, without calling a model; ``folder`` as in :func:`open_bench`.

    Raises InputError.
    """
    place = folder or (env or read_environment()).bench_data
    material = {task.name: load_splits(bench, task, place) for task in bench.tasks}
    low = high = count = 0
    for cell in cells(bench):
        splits = material[cell.task]
        if splits is not None:
            spec = cell_spec(bench, cell)
            task = load_task(spec, "optimize", splits)
            least, most = _estimate(bench, cell, spec, task)
            low, high, count = low + least, high + most, count + 1
    return BenchPlan(count, low, high, tuple(name for name, splits in material.items() if splits is None))


def _estimate(bench: Bench, cell: Cell, spec: RunSpec, task: Task) -> tuple[int, int]:
    """Return the lowest and the highest number of calls of a cell."""
    cap = math.inf if bench.search_calls is None else bench.search_calls + calls_of_test(task)
    if cell.method in PEERS:
        return calls_of_test(task), int(cap)
    least, most = estimate_calls(spec, task, bench.search_calls)
    return int(min(least, cap)), int(min(most, cap))


@asynccontextmanager
async def open_bench(
    bench: Bench,
    *,
    folder: Path | None = None,
    at_once: int = AT_ONCE,
    command: str = "",
    env: Environment | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Run[BenchResult]]:
    """Start a benchmark; its result is a :class:`BenchResult`. Leaving the block before its end cancels it.

    ``folder`` holds the data of tasks that are not in the package (default: LPO_BENCH_DATA).
    ``at_once`` cells run at the same time. ``command``: the command line that is shown in the result.
    Raises InputError for wrong input, before any call.
    """
    env = env or read_environment()
    material = {task.name: load_splits(bench, task, folder or env.bench_data) for task in bench.tasks}
    missing = [name for name, splits in material.items() if splits is None]
    tasks = tuple(task for task in bench.tasks if material[task.name] is not None)
    if not tasks:
        raise ConfigError(f"the data folder has none of the tasks {', '.join(missing)}")
    bench = bench.model_copy(update={"tasks": tasks})
    for cell in cells(bench):
        _check(bench, cell, material[cell.task])
    await _check_peers(bench, env)
    notes = (f"not in the data folder, so left out: {', '.join(missing)}",) if missing else ()
    async with open_journal(env.journal) as journal:
        keys = {name: await journal.put_blob(data_files.to_json(s)) for name, s in material.items() if s is not None}
        request = BenchRequest(**bench.model_dump(), splits=keys, notes=notes, at_once=at_once, command=command)
        run_id = new_run_id(time.time())
        await journal.create_run(run_id, KIND, request.model_dump_json())
        async with _running(journal, env, request, run_id, say) as run:
            yield run


def _check(bench: Bench, cell: Cell, splits: Splits | None) -> None:
    """Raise InputError for a cell that cannot be run, or whose calls do not suffice for the choice on dev."""
    spec = cell_spec(bench, cell)
    task = load_task(spec, "optimize", splits)
    if bench.search_calls is None or cell.method in PEERS:
        return
    method = method_of(OwnParts(), settled(spec.method))
    task, plan = fit(task, method.plan(spec), spec.budget, search_calls=bench.search_calls, probe=probe_calls(spec))
    choice = calls_each(task) * choosing_items(task, plan)
    if choice >= bench.search_calls:
        raise ConfigError(
            f"search_calls {bench.search_calls} leaves nothing to search with: the choice on dev alone takes up to "
            f"{choice} calls in {cell.name}"
        )


async def _check_peers(bench: Bench, env: Environment) -> None:
    """Raise ConfigError if a package of another optimizer in the grid is missing."""
    await check_installed([PEERS[name] for name in bench.methods if name in PEERS], env.peers_python)


@asynccontextmanager
async def resume_bench(
    journal: Journal, env: Environment, record: RunRecord, say: Callable[[str], None]
) -> AsyncIterator[Run[BenchResult]]:
    """Continue a benchmark that was interrupted."""
    request = BenchRequest.model_validate_json(record.spec_json)
    await _check_peers(request, env)
    await journal.reopen_run(record.run_id)
    async with _running(journal, env, request, record.run_id, say) as run:
        yield run


@asynccontextmanager
async def _running(
    journal: Journal, env: Environment, request: BenchRequest, run_id: str, say: Callable[[str], None]
) -> AsyncIterator[Run[BenchResult]]:
    specs = {cell: cell_spec(request, cell) for cell in cells(request)}
    common = next(iter(specs.values()))
    opening = open_runner(common, env=env, say=say, session_id=run_id, already=run_id, journal=journal)
    async with opening as runner:

        async def job(run: Run[BenchResult], emit: Callable[[Event], None], stop: anyio.Event) -> BenchResult:
            cell_runner = _CellRunner(runner, request, emit, stop)
            rows = await cell_runner.run(specs)
            return _result(cell_runner, rows, common, stop=stop, usage=run.usage())

        async with running(journal, run_id, runner.ledger, job) as run:
            yield run


def _result(
    cell_runner: _CellRunner, rows: Sequence[CellRow], common: RunSpec, *, stop: anyio.Event, usage: UsageResult
) -> BenchResult:
    request = cell_runner.request
    reference = request.reference or _own_arm(request)
    tested = {row.cell: cell_runner.tested(row) for row in rows if row.status == "completed"}
    ended = "asked to stop" if stop.is_set() else _shortfall(rows)
    return BenchResult(
        run_id=cell_runner.runner.session_id,
        status="stopped" if ended else "completed",
        stop_reason=ended or "all cells done",
        name=request.name,
        model=common.model,
        optimizer_model=common.optimizer_model or common.model,
        rows=tuple(rows),
        comparisons=compare_arms(tested),
        gains=compare_with_seed(tested),
        against=compare_reference(tested, reference),
        reference=reference,
        search_calls=request.search_calls,
        command=request.command,
        usage=usage,
        notes=(*request.notes, *_failures(rows)),
    )


def _failures(rows: Sequence[CellRow]) -> list[str]:
    """Return a note for each other optimizer whose process failed; what it had reported counts."""
    return [f"{row.cell.name}: {row.reason}: {row.error}" for row in rows if row.error]


def _own_arm(bench: Bench) -> str | None:
    """Return the arm to compare other optimizers with, None without any."""
    if not any(name in PEERS for name in bench.methods):
        return None
    return next((arm_key(cell) for cell in cells(bench) if cell.method not in PEERS), None)


def _shortfall(rows: Sequence[CellRow]) -> str:
    """Return how many cells did not end, and the reason of the first one; "" if all ended."""
    short = [row for row in rows if row.status != "completed"]
    return f"{len(short)} of {len(rows)} cells did not end (first: {short[0].reason})" if short else ""


async def _counted(context: RunContext) -> RunResult:
    """Search, and count the optimizer's calls at its model: the search leaves out those of a step that the cap cut."""
    result: RunResult = await JOBS["optimize"](context)
    if context.task.metric_name == "judge":  # whose calls are the optimizer model's too
        return result
    calls = max(result.search.optimizer_calls or 0, context.models.optimizer.answered)
    return result.model_copy(update={"search": result.search.model_copy(update={"optimizer_calls": calls})})


@dataclass(slots=True)
class _CellRunner:
    """Runs the cells of a benchmark, and collects their rows."""

    runner: Runner
    request: BenchRequest
    emit: Callable[[Event], None]
    stop: anyio.Event
    rows: dict[Cell, CellRow] = field(default_factory=dict)
    splits: dict[str, Splits] = field(default_factory=dict)

    async def run(self, specs: Mapping[Cell, RunSpec]) -> list[CellRow]:
        """Run the missing cells; return all rows in the order of the grid."""
        for name, key in self.request.splits.items():
            self.splits[name] = data_files.from_json(self.runner.journal.get_blob(key))
        known = self.runner.journal.parts(self.runner.session_id)
        for cell in specs:
            record = known.get(self._id(cell))
            if record is not None and record.result_json is not None:
                row = self._stored(cell, record.result_json)
                if row.status == "completed":
                    self.rows[cell] = row
        self._tell_start(specs)
        limiter = anyio.CapacityLimiter(self.request.at_once)
        async with anyio.create_task_group() as tasks:
            for cell, spec in specs.items():
                if cell not in self.rows:
                    tasks.start_soon(self._take, limiter, cell, spec, known.get(self._id(cell)))
        return [self.rows[cell] for cell in specs]

    def _stored(self, cell: Cell, result: str) -> CellRow:
        if cell.method in PEERS:
            return CellRow.model_validate_json(result)
        return self._row(cell, RunResult.model_validate_json(result))

    def _id(self, cell: Cell) -> str:
        return f"{self.runner.session_id}.{cell.name}"

    async def _take(self, limiter: anyio.CapacityLimiter, cell: Cell, spec: RunSpec, record: RunRecord | None) -> None:
        """Run a cell when the limiter allows it, and store its row. Raises errors that end all cells."""
        async with limiter:
            if self.stop.is_set():
                row = self._without(cell, BudgetExceeded("asked to stop"))
            else:
                try:
                    if cell.method in PEERS:
                        row = await self._peer(cell, spec, record)
                    else:
                        row = self._row(cell, await self._one(cell, spec, record))
                except LpoError as exc:
                    row = self._without(cell, exc)
        self.rows[cell] = row
        self.emit(
            CellFinished(
                cell=cell.name,
                run_id=row.run_id,
                status=row.status,
                reason=row.reason,
                seed_test=row.seed_test,
                test=row.test,
            )
        )

    async def _one(self, cell: Cell, spec: RunSpec, record: RunRecord | None) -> RunResult:
        """Run one cell as a run of the journal; raises LpoError."""
        prepared = await self._prepare(cell, spec, record)
        call_cap = None if self.request.search_calls is None else CallCap(self.request.search_calls)
        async with self.runner.open(prepared, stop=self.stop, call_cap=call_cap, job=_counted) as run:
            result: RunResult = await run.wait()
        return result

    async def _peer(self, cell: Cell, spec: RunSpec, record: RunRecord | None) -> CellRow:
        """Run a cell of another optimizer as a run of the journal; raises LpoError."""
        env, request = self.runner.env, self.request
        calls = request.search_calls or 0  # a grid with other optimizers has it
        peer = PEERS[cell.method]
        search = PeerSearch(peer, cell, calls, request.peer_seconds, env.peers_python, env.harmless)
        prepared = await self._prepare(cell, spec, record, recorded_as=PEER)
        async with self.runner.open(prepared, stop=self.stop, job=search.run) as run:
            row: CellRow = await run.wait()
        return row

    async def _prepare(
        self, cell: Cell, spec: RunSpec, record: RunRecord | None, recorded_as: str | None = None
    ) -> PreparedRun:
        """Open a cell's run in the journal, or open it again; the caps are those of all cells together."""
        if record is None:
            task = load_task(spec, "optimize", self.splits[cell.task])
            prepared = await self.runner.prepare(
                "optimize", spec, run_id=self._id(cell), task=task, recorded_as=recorded_as
            )
        else:
            prepared = await self.runner.reopen(record, check=False)
        return prepared.with_spec(budget=Budget())

    def _row(self, cell: Cell, result: RunResult) -> CellRow:
        """Return a cell's row. A search that used all of its calls is complete if it was tested."""
        cap = self.request.search_calls
        if cap is None:
            return row_of(cell, result)
        task = load_task(cell_spec(self.request, cell), "optimize", self.splits[cell.task])
        seed, best = result.seed, result.challenger or result.best
        scores = {each.prompt: each.test for each in (seed, best)}
        items = len(task.splits.test)
        tested = all((0 if s is None else s.n + s.unscored) == items for s in scores.values())
        asked = result.usage.calls + result.usage.cached_calls - len(scores) * items * calls_each(task)
        return row_of(
            cell, result, whole=tested and result.stop_reason == CallCap(cap).reason, calls=asked if tested else None
        )

    def _without(self, cell: Cell, problem: LpoError) -> CellRow:
        """Return the row of a cell without a result; raises errors that other cells would have too."""
        if isinstance(problem, ProviderError) and problem.fatal:
            raise problem
        status: Literal["not run", "failed"] = "not run" if isinstance(problem, BudgetExceeded) else "failed"
        return CellRow(cell=cell, run_id=self._id(cell), status=status, reason=str(problem))

    def _tell_start(self, specs: Mapping[Cell, RunSpec]) -> None:
        spec = next(iter(specs.values()))
        self.emit(
            BenchStarted(
                run_id=self.runner.session_id,
                bench=self.request.name,
                cells=len(specs),
                done=len(self.rows),
                model=spec.model,
                optimizer_model=spec.optimizer_model or spec.model,
            )
        )

    def tested(self, row: CellRow) -> CellScores:
        """Return the scores of a cell's best prompt and of its seed prompt on the test items, by row id."""
        splits = self.splits[row.cell.task]
        wanted = {each.id for each in splits.test}
        seed = load_task(cell_spec(self.request, row.cell), "optimize", splits).prompt.text
        best, old = prompt_hash(row.prompt or ""), prompt_hash(seed)
        found = CellScores({}, {})
        for prompt, item, outcome in self.runner.journal.outcomes(row.run_id):
            for values, hashed in zip(found, (best, old), strict=True):
                if item in wanted and prompt == hashed:
                    values[item] = outcome.value
        return found
