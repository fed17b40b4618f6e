"""Running a benchmark: all cells at once, under one limiter, one budget and one journal.

A cell is a run of its own in the journal, so a benchmark that was interrupted goes on with the cells
that are missing, and those that had begun go on where they were.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import anyio

from lpo_agent import data as data_files
from lpo_agent.bench.grid import Bench, Cell, cell_spec, cells, load_splits
from lpo_agent.bench.rows import BenchResult, CellRow, row_of
from lpo_agent.bench.statistics import CellScores, compare_arms, compare_reference, compare_with_seed
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.events import BenchStarted, CellFinished
from lpo_agent.core.result import RunResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import BudgetExceeded, ConfigError, LpoError, ProviderError
from lpo_agent.journal import open_journal
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.outcomes import prompt_hash
from lpo_agent.runs.run import RunRequest, new_run_id, supervised
from lpo_agent.runs.session import Session, calls_of_test, used_up
from lpo_agent.runs.task import calls_each, load_task, need
from lpo_agent.runs.wiring import Account, ModelPool, marker_kind
from lpo_agent.search.methods import plan_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from lpo_agent.core.events import Event
    from lpo_agent.data import Splits
    from lpo_agent.environment import Environment
    from lpo_agent.journal import Journal
    from lpo_agent.journal.store import RunRecord
    from lpo_agent.runs.run import Run
    from lpo_agent.spec import RunSpec

AT_ONCE: Final = 8
"""Cells that run at the same time, unless said otherwise."""
KIND: Final = "bench"


class BenchRequest(Bench):
    """A benchmark as the journal keeps it: with the keys of its rows, and its limits."""

    splits: dict[str, str]
    notes: tuple[str, ...] = ()
    at_once: int = AT_ONCE
    command: str = ""


@asynccontextmanager
async def open_bench(
    bench: Bench,
    *,
    folder: Path | None = None,
    at_once: int = AT_ONCE,
    command: str = "",
    env: Environment | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Run]:
    """Start a benchmark; its result is a :class:`BenchResult`. Leaving the block before its end cancels it.

    ``folder`` holds the data of tasks that are not in the package (default: LPO_BENCH_DATA).
    ``at_once`` cells run at the same time. ``command``: the command line that asks for it, for the result.
    Raises InputError before anything is spent.
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
    notes = (f"not in the data folder, so left out: {', '.join(missing)}",) if missing else ()
    async with open_journal(env.journal) as journal:
        keys = {name: await journal.put_blob(data_files.to_json(s)) for name, s in material.items() if s is not None}
        order = BenchRequest(**bench.model_dump(), splits=keys, notes=notes, at_once=at_once, command=command)
        run_id = new_run_id(time.time())
        await journal.create_run(run_id, KIND, order.model_dump_json())
        async with _running(journal, env, order, run_id, say) as run:
            yield run


def _check(bench: Bench, cell: Cell, splits: Splits | None) -> None:
    """Raise InputError for a cell that cannot be run, or that cannot pay its choice on dev."""
    spec = cell_spec(bench, cell)
    task = load_task(spec, "optimize", splits)
    if bench.search_calls is None:
        return
    method = "local-search" if spec.method == "auto" else spec.method
    choice = need(task, plan_for(method, spec, marker_kind(spec, method)), None).calls - calls_of_test(task)
    if choice >= bench.search_calls:
        raise ConfigError(
            f"search_calls {bench.search_calls} leaves nothing to search with: the choice on dev alone takes up to "
            f"{choice} calls in {cell.name}"
        )


@asynccontextmanager
async def resume_bench(
    journal: Journal, env: Environment, record: RunRecord, say: Callable[[str], None]
) -> AsyncIterator[Run]:
    """Go on with a benchmark that was interrupted."""
    await journal.reopen_run(record.run_id)
    order = BenchRequest.model_validate_json(record.spec_json)
    async with _running(journal, env, order, record.run_id, say) as run:
        yield run


@asynccontextmanager
async def _running(
    journal: Journal, env: Environment, order: BenchRequest, run_id: str, say: Callable[[str], None]
) -> AsyncIterator[Run]:
    specs = {cell: cell_spec(order, cell) for cell in cells(order)}
    common = next(iter(specs.values()))
    ledger, prices = Ledger(common.budget, already=journal.totals(run_id)), load_prices(common.prices)
    account = Account(journal, ledger, prices, run_id, "" if common.cache else run_id, say)

    async def job(run: Run, emit: Callable[[Event], None], stop: anyio.Event) -> BenchResult:
        async with AsyncExitStack() as stack:
            session = Session(journal, common, ModelPool(stack, common, env, account), prices, ledger, run_id)
            floor = _Floor(session, order, emit, stop)
            rows = await floor.run(specs)
        tested = {row.cell: floor.tested(row) for row in rows if row.status == "completed"}
        ended = "asked to stop" if stop.is_set() else _shortfall(rows)
        return BenchResult(
            run_id=run_id,
            status="stopped" if ended else "completed",
            stop_reason=ended or "all cells done",
            name=order.name,
            model=common.model,
            optimizer_model=common.optimizer_model or common.model,
            rows=tuple(rows),
            comparisons=compare_arms(tested),
            gains=compare_with_seed(tested),
            against=compare_reference(tested, order.reference),
            reference=order.reference,
            search_calls=order.search_calls,
            command=order.command,
            usage=run.usage(),
            notes=order.notes,
        )

    async with supervised(journal, run_id, ledger, job) as run:
        yield run


def _shortfall(rows: Sequence[CellRow]) -> str:
    """Return how many cells did not end, and why the first did not; "" if all did."""
    short = [row for row in rows if row.status != "completed"]
    return f"{len(short)} of {len(rows)} cells did not end (first: {short[0].reason})" if short else ""


@dataclass(slots=True)
class _Floor:
    """Where the cells run."""

    session: Session
    order: BenchRequest
    emit: Callable[[Event], None]
    stop: anyio.Event
    rows: dict[Cell, CellRow] = field(default_factory=dict)
    splits: dict[str, Splits] = field(default_factory=dict)

    async def run(self, specs: Mapping[Cell, RunSpec]) -> list[CellRow]:
        """Run the cells that are missing; return all rows in the grid's order."""
        for name, key in self.order.splits.items():
            self.splits[name] = data_files.from_json(self.session.journal.get_blob(key))
        known = self.session.journal.parts(self.session.session_id)
        for cell in specs:
            record = known.get(self._id(cell))
            if record is not None and record.result_json is not None:
                row = self._row(cell, RunResult.model_validate_json(record.result_json))
                if row.status == "completed":
                    self.rows[cell] = row
        self._tell_start(specs)
        limiter = anyio.CapacityLimiter(self.order.at_once)
        async with anyio.create_task_group() as tasks:
            for cell, spec in specs.items():
                if cell not in self.rows:
                    tasks.start_soon(partial(self._take, limiter, cell, spec, again=self._id(cell) in known))
        return [self.rows[cell] for cell in specs]

    def _id(self, cell: Cell) -> str:
        return f"{self.session.session_id}.{cell.name}"

    async def _take(self, limiter: anyio.CapacityLimiter, cell: Cell, spec: RunSpec, *, again: bool) -> None:
        """Run a cell when it is its turn, and note its row. What ends all cells is raised."""
        async with limiter:
            if self.stop.is_set():
                row = self._without(cell, BudgetExceeded("asked to stop"))
            else:
                try:
                    row = self._row(cell, await self._one(cell, spec, again=again))
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

    async def _one(self, cell: Cell, spec: RunSpec, *, again: bool) -> RunResult:
        """Run one cell as a run of the journal; raises LpoError."""
        run_id, journal = self._id(cell), self.session.journal
        order = RunRequest("optimize", spec, self.order.splits[cell.task])
        await (journal.reopen_run(run_id) if again else journal.create_run(run_id, "optimize", order.to_json()))
        task = load_task(spec, "optimize", self.splits[cell.task])
        shared = replace(order, spec=spec.model_copy(update={"budget": Budget()}))
        result = await self.session.run(run_id, shared, task, stop=self.stop, search_calls=self.order.search_calls)
        assert isinstance(result, RunResult)  # noqa: S101 - the kind of run decides it
        return result

    def _row(self, cell: Cell, result: RunResult) -> CellRow:
        """Return a cell's row. A search that used up its own calls is complete once it is tested."""
        cap = self.order.search_calls
        if cap is None:
            return row_of(cell, result)
        task = load_task(cell_spec(self.order, cell), "optimize", self.splits[cell.task])
        seed, best = result.seed, result.challenger or result.best
        scores = {each.prompt: each.test for each in (seed, best)}
        items = len(task.splits.test)
        tested = all((0 if s is None else s.n + s.unscored) == items for s in scores.values())
        asked = result.usage.calls + result.usage.cached_calls - len(scores) * items * calls_each(task)
        return row_of(
            cell, result, whole=tested and result.stop_reason == used_up(cap), calls=asked if tested else None
        )

    def _without(self, cell: Cell, problem: LpoError) -> CellRow:
        """Return the row of a cell without a result; raises what other cells would meet too."""
        if isinstance(problem, ProviderError) and problem.fatal:
            raise problem
        status: Literal["not run", "failed"] = "not run" if isinstance(problem, BudgetExceeded) else "failed"
        return CellRow(cell=cell, run_id=self._id(cell), status=status, reason=str(problem))

    def _tell_start(self, specs: Mapping[Cell, RunSpec]) -> None:
        spec = next(iter(specs.values()))
        self.emit(
            BenchStarted(
                run_id=self.session.session_id,
                bench=self.order.name,
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
        seed = load_task(cell_spec(self.order, row.cell), "optimize", splits).prompt.text
        best, old = prompt_hash(row.prompt or ""), prompt_hash(seed)
        found = CellScores({}, {})
        for prompt, item, outcome in self.session.journal.outcomes(row.run_id):
            for values, hashed in zip(found, (best, old), strict=True):
                if item in wanted and prompt == hashed:
                    values[item] = outcome.value
        return found
