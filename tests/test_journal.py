"""Tests of the journal: it is durable, shared by processes, and detects runs that died."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent.core.budget import Spent
from lpo_agent.core.scores import Scored
from lpo_agent.errors import JournalError
from lpo_agent.journal import MIGRATIONS, Journal, RunSummary, open_journal, store
from lpo_agent.models.base import Completion, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

WRITER = """
import sys, anyio
from pathlib import Path
from lpo_agent.core.budget import Spent
from lpo_agent.journal import open_journal
from lpo_agent.models.base import Completion, Usage

async def main():
    async with open_journal(Path(sys.argv[1])) as journal:
        await journal.create_run(sys.argv[2], "optimize", "{}")
        for n in range(int(sys.argv[3])):
            journal.book(sys.argv[2], Spent(False, 2, 1, 0.5))
            await journal.put(f"{sys.argv[2]}{n}".encode(), sys.argv[2], "m", Completion(str(n), Usage(2, 1)))
            print(n, flush=True)

anyio.run(main)
"""


async def test_replies_stay_and_the_first_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.sqlite3"
    async with open_journal(path) as journal:
        assert journal.get(b"k") is None
        await journal.put(b"k", "run", "m", Completion("one \U0001f600", Usage(3, 4), truncated=True))
        await journal.put(b"k", "run", "m", Completion("two", Usage(9, 9)))
    async with open_journal(path) as journal:
        assert journal.get(b"k") == Completion("one \U0001f600", Usage(3, 4), truncated=True)
    assert path.stat().st_mode & 0o077 == 0


async def test_many_tasks_write_at_once(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        async with anyio.create_task_group() as tasks:
            for n in range(300):
                tasks.start_soon(journal.put, str(n).encode(), "run", "m", Completion(str(n), Usage()))
        assert [journal.get(str(n).encode()) for n in range(300)] == [Completion(str(n), Usage()) for n in range(300)]


async def test_outcomes_come_back_in_order(tmp_path: Path) -> None:
    one, two = Scored(value=0.5, output="x", feedback="why"), Scored(value=1.0, output="\U0001f600")
    async with open_journal(tmp_path / "j") as journal:
        journal.keep("run", [(b"p", "dev:0", one), (b"q", "dev:0", two)])
        journal.keep("other", [(b"p", "dev:1", one)])
    async with open_journal(tmp_path / "j") as journal:
        assert list(journal.outcomes("run")) == [(b"p", "dev:0", one), (b"q", "dev:0", two)]


async def test_the_cost_of_attempts_adds_up_over_sessions(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_journal(tmp_path / "j") as journal:
            journal.book("run", Spent(failed=False, input_tokens=5, output_tokens=2, usd=0.25))
            journal.book(
                "run", Spent(failed=True, input_tokens=0, output_tokens=0, usd=0.0, unsure_tokens=9, unsure_usd=0.5)
            )
    async with open_journal(tmp_path / "j") as journal:
        totals = journal.totals("run")
        assert (totals.calls, totals.failed_calls, totals.input_tokens, totals.output_tokens) == (4, 2, 10, 4)
        assert (totals.usd, totals.unsure_tokens, totals.unsure_usd) == (0.5, 18, 1.0)
        assert journal.totals("nobody").calls == 0
        journal.book("run", Spent(failed=False, input_tokens=1, output_tokens=1, usd=None))
    async with open_journal(tmp_path / "j") as journal:
        assert journal.totals("run").usd is None


async def test_an_attempt_that_was_announced_counts_until_it_is_booked_or_withdrawn(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    most = Spent(failed=True, input_tokens=0, output_tokens=0, usd=0.0, unsure_tokens=90, unsure_usd=0.5)
    async with open_journal(path) as journal:
        booked, withdrawn, lost = [await journal.announce("run", most) for _ in range(3)]
        assert len({booked, withdrawn, lost}) == 3
        journal.book("run", Spent(failed=False, input_tokens=5, output_tokens=2, usd=0.25), booked)
        journal.withdraw(withdrawn)
    async with open_journal(path) as journal:
        totals = journal.totals("run")
    assert (totals.calls, totals.failed_calls, totals.input_tokens) == (2, 1, 5)
    assert (totals.usd, totals.unsure_tokens, totals.unsure_usd) == (0.25, 90, 0.5)


async def test_a_journal_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "j")
    db.executescript(MIGRATIONS[0] + "PRAGMA user_version=1;")
    db.execute("INSERT INTO attempts (run, failed, input_tokens, output_tokens, usd) VALUES ('run', 0, 3, 1, 0.5)")
    db.commit()
    db.close()
    async with open_journal(tmp_path / "j") as journal:
        assert journal.totals("run").input_tokens == 3
        assert list(journal.outcomes("run")) == []


async def test_a_bad_row_fails_alone(tmp_path: Path) -> None:
    outcomes = []

    async with open_journal(tmp_path / "j") as journal:

        async def put(text: str) -> None:
            try:
                await journal.put(text.encode("utf-8", "replace"), "run", "m", Completion(text, Usage()))
                outcomes.append("kept")
            except JournalError:
                outcomes.append("refused")

        async with anyio.create_task_group() as tasks:
            for text in ("a", "half a pair: \ud800", "b"):
                tasks.start_soon(put, text)
        assert journal.get(b"a")
        assert journal.get(b"b")
    assert sorted(outcomes) == ["kept", "kept", "refused"]


async def test_runs_events_and_rows(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        for name in ("20260101-a", "20260101-b"):
            await journal.create_run(name, "optimize", '{"n": 1}')
        await journal.append("20260101-a", [("one", "1"), ("two", "2")])
        await journal.finish_run("20260101-a", "completed", "{}", 2.5)
        key = await journal.put_blob(b"rows \xff")
        assert journal.get_blob(key) == b"rows \xff"
        assert list(journal.events("20260101-a")) == ["1", "2"]
        assert [record.run_id for record in journal.runs()] == ["20260101-b", "20260101-a"]
        assert journal.run("last").run_id == "20260101-b"
        assert journal.run("20260101-a").status == "completed"
        assert journal.totals("20260101-a").seconds == 2.5
        with pytest.raises(JournalError, match="beginning of 2 runs"):
            journal.run("2026")
        with pytest.raises(JournalError, match="no run 'x'"):
            journal.run("x")


MANY = 2_000
MANY_STEPS = 5 * MANY
"""Steps of SQLite's virtual machine that even the simplest scan of so many runs takes."""


def fill(path: Path, count: int) -> None:
    """Write ``count`` runs, every third still "running" in a process that is gone, and as many parts of a run."""
    rows = [
        (name, "optimize", "running" if n % 3 == 0 else "completed", "{}", "x" * 2_000, float(n), 2**22 + n, "gone")
        for n in range(count)
        for name in (f"20260101-{n:04}", f"bench.{n:04}")
    ]
    with sqlite3.connect(path) as db:
        sql = "INSERT INTO runs (run, kind, status, spec, result, started, pid, process) VALUES (?,?,?,?,?,?,?,?)"
        db.executemany(sql, rows)
    db.close()


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path / "j"):
        pass
    fill(tmp_path / "j", MANY)
    async with open_journal(tmp_path / "j") as journal:
        yield journal


def steps_of(journal: Journal, ask: Callable[[], object]) -> int:
    """Return how many steps of SQLite's virtual machine the queries of ``ask`` take."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    journal._db.set_progress_handler(count, 1)
    ask()
    journal._db.set_progress_handler(None, 1)
    return steps


@pytest.mark.parametrize("name", ["20260101-1234", "20260101-123", "last", "nobody", "bench.0007", "20260101-1999"])
async def test_finding_a_run_does_not_read_the_others(many: Journal, name: str) -> None:
    def look() -> None:
        with contextlib.suppress(JournalError):
            many.run(name)

    assert steps_of(many, look) < MANY / 4


async def test_a_page_of_runs_does_not_read_the_others(many: Journal) -> None:
    found: list[RunSummary] = []
    assert steps_of(many, lambda: found.extend(many.run_summaries(10, 20))) < MANY / 4
    assert [each.run_id for each in found] == [f"20260101-{n:04}" for n in range(1979, 1969, -1)]
    assert steps_of(many, lambda: found.extend(many.runs(10, 20))) < MANY / 4
    page = found[10:]
    assert [(each.run_id, each.status, each.started) for each in page] == [
        (each.run_id, each.status, each.started) for each in found[:10]
    ]
    assert steps_of(many, many.run_summaries) > MANY_STEPS
    assert many.count_runs() == len(many.runs()) == len(many.run_summaries()) == MANY
    assert many.runs(10, MANY) == []


async def test_only_running_runs_have_their_process_checked(many: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def look(pid: int) -> str:
        looked.append(pid)
        return ""

    monkeypatch.setattr(store, "_process_identity", look)
    records = many.runs(9)
    assert [record.status for record in records].count("interrupted") == len(looked) == 3
    assert many.run("20260101-0001").status == "completed"
    assert len(looked) == 3


async def test_a_run_is_found_by_its_id_and_by_a_beginning_that_no_other_has(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        for name in ("ab", "abc", "abd", "abd.part", "b%_", "c\U0001f600d", "last-but-one"):
            await journal.create_run(name, "optimize", "{}")
        assert journal.run("ab").run_id == "ab"
        assert journal.run("abd").run_id == "abd"
        assert journal.run("abd.part").run_id == "abd.part"
        assert journal.run("b").run_id == "b%_"
        assert journal.run("c\U0001f600").run_id == "c\U0001f600d"
        assert journal.run("last").run_id == "last-but-one"
        assert list(journal.parts("abd")) == ["abd.part"]
        for name, count in (("a", 3), ("", 6)):
            with pytest.raises(JournalError, match=f"{name!r} is the beginning of {count} runs; give more of the id"):
                journal.run(name)
        for name in ("abd.p", "%", "_", "abcd", "B"):
            with pytest.raises(JournalError, match="there is no run"):
                journal.run(name)


async def test_a_journal_of_version_0_1_gets_the_index_and_keeps_its_version(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "j") as db:
        db.executescript("".join(MIGRATIONS) + f"PRAGMA user_version={len(MIGRATIONS)};")
    db.close()
    fill(tmp_path / "j", MANY)
    async with open_journal(tmp_path / "j") as journal:
        assert steps_of(journal, lambda: journal.runs(1)) < MANY / 4
        assert journal._db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def killed_writer(path: Path) -> int:
    """Write from another process, kill it in the middle, and return the last number it was told is durable."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "run", "100000"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 50:
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().splitlines(keepends=True)
    return max([int(line), *(int(more) for more in rest if more.endswith("\n"))])


async def test_a_killed_process_loses_nothing_acknowledged_and_its_run_shows_as_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "j"
    last = killed_writer(path)
    async with open_journal(path) as journal:
        assert all(journal.get(f"run{n}".encode()) for n in range(last + 1))
        assert journal.run("run").status == "interrupted"
        totals = journal.totals("run")
        assert totals.calls >= last + 1
        assert totals.input_tokens == 2 * totals.calls
        assert totals.usd == totals.calls / 2


async def test_processes_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(anyio.run_process, [sys.executable, "-c", WRITER, str(path), name, "200"])
    async with open_journal(path) as journal:
        assert all(journal.get(f"{name}{n}".encode()) for name in "ab" for n in range(200))


async def test_a_run_of_this_process_is_running(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        await journal.create_run("r", "optimize", "{}")
        assert journal.run("r").status == "running"


async def test_files_that_are_no_journal_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 500, encoding="utf-8")
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    db.close()
    for name, reason in (("text", "cannot be used"), ("newer", "newer version"), ("text/j", "cannot be used")):
        with pytest.raises(JournalError, match=reason):
            async with open_journal(tmp_path / name):
                pass


@pytest.mark.skipif(os.name != "posix", reason="needs a full device to write to")
@pytest.mark.parametrize("table", ["notes", "runs"])
async def test_the_database_of_another_program_is_left_alone(tmp_path: Path, table: str) -> None:
    path = tmp_path / "j"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {table} (x)")
    with pytest.raises(JournalError, match="a database of another program"):
        async with open_journal(path):
            raise AssertionError
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]


async def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j") as journal:
        await journal.put(b"a", "run", "m", Completion("x", Usage()))
        journal._writer._db.execute("PRAGMA query_only=1")
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.put(b"b", "run", "m", Completion("x", Usage()))
