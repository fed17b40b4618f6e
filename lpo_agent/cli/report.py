"""The command that writes a run as a page: report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import TypeAdapter

from lpo_agent import data as data_files
from lpo_agent.cli import files, history, options
from lpo_agent.core.events import AnyEvent
from lpo_agent.core.result import RunResult
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, JournalError
from lpo_agent.journal import open_journal
from lpo_agent.report import gather, prompts_compared, render_page
from lpo_agent.runs.outcomes import prompt_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.core.messages import Row
    from lpo_agent.core.scores import Scored
    from lpo_agent.journal import Journal, RunRecord
    from lpo_agent.report import Facts


def report(given: Mapping[str, Any]) -> None:
    """Write a run's page to `--out`, by default to a file named after the run; `-` is standard output."""
    output, path = options.output(given), read_environment().journal
    if output.out is not None and not _is_stdout(output.out):
        files.check_writable(output.out)
    if not path.exists():
        raise JournalError(f"there is no run {given['run']!r}; {path} does not exist yet, so nothing was run")
    facts = anyio.run(_read, path, given["run"])
    page = render_page(facts)
    target = output.out or Path(f"report-{facts.result.run_id}.html")
    if _is_stdout(target):
        sys.stdout.write(page)
        return
    files.write_text(target, page)
    if not output.quiet:
        print(target)


async def _read(path: Path, name: str) -> Facts:
    async with open_journal(path) as journal:
        return _facts(journal, name)


def _is_stdout(path: Path) -> bool:
    return str(path) == "-"


def _facts(journal: Journal, name: str) -> Facts:
    """Return the facts of a run; raises JournalError or ConfigError where there is nothing to report."""
    record = journal.run(name)
    result = _result(journal, record)
    adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
    events = [adapter.validate_json(body) for body in journal.events(record.run_id)]
    return gather(result, events, _outcomes(journal, record, result), _test_rows(journal, record))


def _result(journal: Journal, record: RunRecord) -> RunResult:
    run_id = record.run_id
    if record.kind == "bench":
        parts = [part.run_id for part in journal.parts(run_id).values() if part.result_json is not None]
        hint = f"each of its searches has one, such as: lpo report {parts[0]}" if parts else "no search of it is done"
        raise ConfigError(f"run {run_id} is a benchmark; {hint}")
    if record.kind != "optimize":
        raise ConfigError(f"run {run_id} is of kind {record.kind}, not optimize; see it with: lpo show {run_id}")
    result = history.stored_result(record)
    if not isinstance(result, RunResult):
        hint = "wait for its end" if record.status == "running" else f"go on with: lpo resume {run_id}"
        raise ConfigError(f"run {run_id} has no result yet; it is {record.status}; {hint}")
    return result


def _outcomes(journal: Journal, record: RunRecord, result: RunResult) -> dict[str, dict[str, Scored]]:
    """Return the outcomes of the two prompts that the page compares, by item."""
    by_hash = {prompt_hash(text): text for text in prompts_compared(result)}
    found: dict[str, dict[str, Scored]] = {text: {} for text in by_hash.values()}
    for key, item, outcome in journal.outcomes(record.run_id):
        if key in by_hash:
            found[by_hash[key]][item] = outcome
    return found


def _test_rows(journal: Journal, record: RunRecord) -> tuple[Row, ...]:
    """Return the rows of the test split, none where the journal no longer has them."""
    key = json.loads(record.spec_json).get("rows")
    if not isinstance(key, str):
        return ()
    try:
        return data_files.from_json(journal.get_blob(key)).test
    except JournalError:
        return ()
