"""The journal: stores every paid reply, every run and its events in one SQLite file.

Several runs and processes can use the same file. One thread does all writing and commits rows in
groups; a coroutine that waits for its row continues once the row is committed. Reads run on the
event loop's own thread, because a lookup takes microseconds, less than switching threads. The file
is in WAL mode with ``synchronous=NORMAL``: a committed row survives the death of the process. Do
not put the file on a network file system, where SQLite's locks are not reliable.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import socket
import sqlite3
import time
import zlib
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread
from anyio.lowlevel import current_token

from lpo_agent.core.budget import Totals
from lpo_agent.core.scores import Scored
from lpo_agent.errors import JournalError
from lpo_agent.journal.keys import Keys
from lpo_agent.journal.tables import connect
from lpo_agent.journal.writer import Writer
from lpo_agent.models.base import Completion, Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterator, Sequence

    from lpo_agent.core.budget import Spent
    from lpo_agent.core.result import RunStatus

REPLY: Final = (
    "INSERT OR IGNORE INTO replies (key, run, model, text, truncated, input_tokens, output_tokens, made) "
    "VALUES (?,?,?,?,?,?,?,?)"
)
ATTEMPT: Final = (
    "INSERT OR REPLACE INTO attempts (id, run, failed, input_tokens, output_tokens, usd, unsure_tokens, unsure_usd) "
    "VALUES (?,?,?,?,?,?,?,?)"
)
OUTCOME: Final = "INSERT INTO outcomes (run, prompt, item, value, output, feedback) VALUES (?,?,?,?,?,?)"

SPENT: Final = (
    "SELECT COUNT(*), TOTAL(failed), TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(usd IS NULL), TOTAL(usd), "
    "TOTAL(unsure_tokens), TOTAL(unsure_usd) FROM attempts"
)

TOP_LEVEL: Final = "instr(run, '.') = 0"
"""SQL condition for runs that are not part of another run; the index ``runs_started`` has the same one."""
NEWEST_FIRST: Final = f"{TOP_LEVEL} ORDER BY started DESC, rowid DESC LIMIT ? OFFSET ?"
STARTS_WITH: Final = f"run >= ? AND run < ? AND {TOP_LEVEL}"
"""SQL condition for a prefix of a run's id, as a range of the primary key; see :func:`_prefix_range`."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a list of runs shows; times are seconds since 1970 (UTC)."""

    run_id: str
    kind: str
    status: str
    started: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class RunRecord(RunSummary):
    """All that the journal stores about a run itself; ``result_json`` is None until the run has a result."""

    spec_json: str
    result_json: str | None


@asynccontextmanager
async def open_journal(path: Path) -> AsyncIterator[Journal]:
    """Open the journal; create the file and its folder if needed, readable by their owner only.

    Raises JournalError if the file is no journal, comes from a newer version, or cannot be written.
    """
    journal = Journal(connect(path), Writer(connect(path), path, current_token()), path)
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(journal.close)


class Journal:
    """Reads and writes the journal; made by :func:`open_journal`.

    Once an ``async`` method that writes has returned, its rows are on disk. The other methods that
    write only queue their rows, which are written with the next commit. Every method that writes
    and waits raises JournalError if the file cannot be written.
    """

    def __init__(self, db: sqlite3.Connection, writer: Writer, path: Path) -> None:
        self._db, self._writer, self._path = db, writer, path
        self._keys = Keys(db)
        self._attempts = itertools.count(secrets.randbits(30) << 32)
        """Numbers of attempts; every process draws another start, so that none takes a number twice."""

    def close(self) -> None:
        """Write the queued rows and close the file; blocks the calling thread."""
        with closing(self._db):
            self._writer.close()

    # replies

    def get(self, key: bytes) -> Completion | None:
        """Return the recorded reply with this key, None if there is none.

        A reply that another process recorded within the last second may be missed.
        """
        if not self._keys.may_hold(key):
            return None
        row = self._db.execute(
            "SELECT text, truncated, input_tokens, output_tokens FROM replies WHERE key=?", (key,)
        ).fetchone()
        return None if row is None else Completion(row[0], Usage(row[2], row[3]), truncated=bool(row[1]))

    async def put(self, key: bytes, run_id: str, model: str, reply: Completion) -> None:
        """Record a reply; if the key has one already, the earlier reply is kept."""
        used = reply.usage
        self._keys.add(key)
        await self._writer.durable(
            REPLY,
            (key, run_id, model, reply.text, int(reply.truncated), used.input_tokens, used.output_tokens, time.time()),
        )

    async def announce(self, run_id: str, most: Spent) -> int:
        """Record the most that an attempt may cost before it is made, and return the attempt's number.

        If the process dies during the attempt, this is what counts.
        """
        number = next(self._attempts)
        await self._writer.durable(ATTEMPT, (number, run_id, *most))
        return number

    def book(self, run_id: str, spent: Spent, number: int | None = None) -> None:
        """Queue the cost of one attempt at a model call; written with the next commit.

        ``number``: the attempt was announced, and this replaces what was recorded then.
        """
        number = next(self._attempts) if number is None else number
        self._writer.add(ATTEMPT, (number, run_id, *spent), urgent=spent.failed)

    def withdraw(self, number: int) -> None:
        """Queue that an announced attempt was not made; written with the next commit."""
        self._writer.add("DELETE FROM attempts WHERE id=?", (number,))

    def totals(self, run_id: str, *, parts: bool = False) -> Totals:
        """Return what the run has spent so far, over all its sessions; ``parts``: add the runs that are part of it."""
        where, values = "run=?", [run_id]
        if parts:
            where, values = "run=? OR (run>? AND run<?)", [run_id, f"{run_id}.", f"{run_id}/"]  # "/" follows "."
        sql = f"{SPENT} WHERE {where}"
        calls, failed, into, out, unknown, usd, unsure_tokens, unsure_usd = self._db.execute(sql, values).fetchone()
        row = self._db.execute("SELECT seconds FROM runs WHERE run=?", (run_id,)).fetchone()
        return Totals(
            calls=calls,
            failed_calls=int(failed),
            input_tokens=int(into),
            output_tokens=int(out),
            usd=None if unknown else usd,
            seconds=row[0] if row else 0.0,
            unsure_tokens=int(unsure_tokens),
            unsure_usd=unsure_usd,
        )

    # outcomes

    def keep(self, run_id: str, outcomes: Sequence[tuple[bytes, str, Scored]]) -> None:
        """Queue the outcomes of items, each as (hash of the prompt, item id, outcome); written with the next commit."""
        for prompt, item, outcome in outcomes:
            self._writer.add(OUTCOME, (run_id, prompt, item, outcome.value, outcome.output, outcome.feedback))

    def outcomes(self, run_id: str) -> Iterator[tuple[bytes, str, Scored]]:
        """Yield the run's recorded outcomes, oldest first: hash of the prompt, item id, outcome."""
        sql = "SELECT prompt, item, value, output, feedback FROM outcomes WHERE run=? ORDER BY id"
        for prompt, item, value, output, feedback in self._db.execute(sql, (run_id,)):
            yield prompt, item, Scored(value=value, output=output, feedback=feedback)

    # runs

    async def create_run(self, run_id: str, kind: str, spec_json: str) -> None:
        """Record a new run, with status "running" in this process."""
        await self._writer.durable(
            "INSERT INTO runs (run, kind, status, spec, started, pid, process) VALUES (?,?,'running',?,?,?,?)",
            (run_id, kind, spec_json, time.time(), os.getpid(), _process_identity(os.getpid())),
        )

    async def reopen_run(self, run_id: str) -> None:
        """Record that a resumed run is running again, in this process."""
        await self._writer.durable(
            "UPDATE runs SET status='running', ended=NULL, pid=?, process=? WHERE run=?",
            (os.getpid(), _process_identity(os.getpid()), run_id),
        )

    def note_seconds(self, run_id: str, seconds: float) -> None:
        """Queue the seconds that a run has taken so far, over all sessions; written with the next commit."""
        self._writer.add("UPDATE runs SET seconds=? WHERE run=?", (seconds, run_id))

    async def finish_run(self, run_id: str, status: RunStatus, result_json: str | None, seconds: float) -> None:
        """Record a run's final status and result, and its ``seconds`` over all sessions."""
        await self._writer.durable(
            "UPDATE runs SET status=?, result=?, ended=?, seconds=? WHERE run=?",
            (status, result_json, time.time(), seconds, run_id),
        )

    def run(self, run_id: str) -> RunRecord:
        """Return the run with this id, the only run whose id starts with it, or the newest run for "last".

        A run that is part of another run, such as a cell of a benchmark, is found by its complete id
        only. Raises JournalError if there is no such run, or if several ids start with ``run_id``.
        """
        found = self._records("run = ?", (run_id,)) or (
            self.runs(1) if run_id == "last" else self._records(f"{STARTS_WITH} LIMIT 2", _prefix_range(run_id))
        )
        if not found:
            raise JournalError(f"there is no run {run_id!r}; `lpo runs` lists them")
        if len(found) > 1:
            count = self._count(STARTS_WITH, _prefix_range(run_id))
            raise JournalError(f"{run_id!r} is the beginning of {count} runs; give more of the id")
        return found[0]

    def runs(self, limit: int = -1, offset: int = 0) -> list[RunRecord]:
        """Return runs that are not part of another run, newest first.

        ``offset`` of them are skipped and at most ``limit`` returned (-1: all). A run with status
        "running" whose process no longer exists is returned as "interrupted".
        """
        return self._records(NEWEST_FIRST, (limit, offset))

    def run_summaries(self, limit: int = -1, offset: int = 0) -> list[RunSummary]:
        """Return the same runs as :meth:`runs`, but without reading their specs and results, which may be large."""
        columns = "run, kind, status, started, ended, pid, process"
        rows = self._db.execute(f"SELECT {columns} FROM runs WHERE {NEWEST_FIRST}", (limit, offset))  # noqa: S608 - constants
        return [
            RunSummary(run, kind, _current_status(status, pid, process), started, ended)
            for run, kind, status, started, ended, pid, process in rows
        ]

    def count_runs(self) -> int:
        """Return how many runs there are that are not part of another run."""
        return self._count(TOP_LEVEL, ())

    def parts(self, run_id: str) -> dict[str, RunRecord]:
        """Return the runs that are part of this run, such as the cells of a benchmark, by id."""
        records = self._records("run >= ? AND run < ?", _prefix_range(f"{run_id}."))
        return {record.run_id: record for record in records}

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        columns = "run, kind, status, started, ended, spec, result, pid, process"
        rows = self._db.execute(f"SELECT {columns} FROM runs WHERE {where}", values)  # noqa: S608 - constants only
        return [
            RunRecord(run, kind, _current_status(status, pid, process), started, ended, spec, result)
            for run, kind, status, started, ended, spec, result, pid, process in rows
        ]

    def _count(self, where: str, values: tuple[object, ...]) -> int:
        row = self._db.execute(f"SELECT COUNT(*) FROM runs WHERE {where}", values).fetchone()  # noqa: S608 - constants
        return int(row[0])

    # events and blobs

    async def append(self, run_id: str, events: Sequence[tuple[str, str]]) -> None:
        """Record events of a run, each as (type, JSON)."""
        sql = "INSERT INTO events (run, type, body) VALUES (?,?,?)"
        for kind, body in events[:-1]:
            self._writer.add(sql, (run_id, kind, body))
        for kind, body in events[-1:]:
            await self._writer.durable(sql, (run_id, kind, body))

    def events(self, run_id: str) -> Iterator[str]:
        """Yield a run's events as JSON, oldest first."""
        for (body,) in self._db.execute("SELECT body FROM events WHERE run=? ORDER BY id", (run_id,)):
            yield body

    def last_event(self, run_id: str) -> int:
        """Return the number of the run's last event, 0 if there is none; numbers grow."""
        (number,) = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM events WHERE run=?", (run_id,)).fetchone()
        return int(number)

    def events_after(self, run_id: str, number: int, most: int) -> list[tuple[int, str]]:
        """Return the run's next events after ``number`` as numbers and JSON, at most so many, oldest first."""
        sql = "SELECT id, body FROM events WHERE run=? AND id>? ORDER BY id LIMIT ?"
        return self._db.execute(sql, (run_id, number, most)).fetchall()

    async def put_blob(self, body: bytes) -> str:
        """Store bytes under the hash of their content, and return the hash."""
        key = hashlib.blake2b(body, digest_size=16).hexdigest()
        await self._writer.durable("INSERT OR IGNORE INTO blobs VALUES (?,?)", (key, zlib.compress(body, 1)))
        return key

    def get_blob(self, key: str) -> bytes:
        """Return the bytes that :meth:`put_blob` stored under the key; raises JournalError if there are none."""
        row = self._db.execute("SELECT body FROM blobs WHERE hash=?", (key,)).fetchone()
        if row is None:
            raise JournalError(f"{self._path}: the rows of this run are missing")
        return zlib.decompress(row[0])


def _prefix_range(prefix: str) -> tuple[str, str]:
    """Return the lowest string with this prefix, and one above the highest."""
    return prefix, f"{prefix}\U0010ffff"


def _current_status(status: str, pid: int, process: str) -> str:
    """Return the stored status, but "interrupted" for a running run whose process no longer exists."""
    return "interrupted" if status == "running" and _process_identity(pid) != process else status


def _process_identity(pid: int) -> str:
    """Return "host:pid:start time" of a running process, "" if there is none that this user owns.

    The start time (clock ticks since boot, field 22 of ``/proc/PID/stat``) tells the process from
    an earlier one with the same pid. It is "?" where there is no ``/proc``, as on macOS.
    """
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
        start_time = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (ProcessLookupError, PermissionError):
        return ""
    except OSError:
        start_time = "?"
    return f"{socket.gethostname()}:{pid}:{start_time}"
