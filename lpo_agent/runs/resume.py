"""Going on with what was interrupted."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lpo_agent import data as data_files
from lpo_agent.bench.running import KIND, resume_bench
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.journal import open_journal
from lpo_agent.runs.run import read_request, running
from lpo_agent.runs.task import load_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lpo_agent.environment import Environment
    from lpo_agent.runs.run import Run


@asynccontextmanager
async def open_resumed(
    run_id: str,
    *,
    env: Environment | None = None,
    metric: object | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Run]:
    """Go on with a run or benchmark that was interrupted, by replay: only what is missing is asked for.

    ``run_id`` may be a unique beginning. A run with the caller's own ``metric`` needs it again.
    Raises JournalError for an unknown run, ConfigError for one that cannot be resumed.
    """
    env = env or read_environment()
    async with open_journal(env.journal) as journal:
        record = journal.run(run_id)
        if record.status in {"completed", "running"}:
            raise ConfigError(f"run {record.run_id} is {record.status}; there is nothing to resume")
        if record.kind == KIND:
            async with resume_bench(journal, env, record, say) as run:
                yield run
            return
        if record.kind == "guided":
            raise ConfigError(f"run {record.run_id} is guided by an assistant; it goes on through `lpo mcp`")
        order = read_request(record.spec_json)
        if order.custom_metric and metric is None:
            raise ConfigError(f"run {record.run_id} uses a metric object of the caller's; pass it to open_resumed")
        splits = data_files.from_json(journal.get_blob(order.rows))
        task = load_task(order.spec, order.kind, splits)
        await journal.reopen_run(record.run_id)
        async with running(journal, env, task, order, run_id=record.run_id, metric=metric, say=say) as run:
            yield run
