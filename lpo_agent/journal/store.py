"""The journal: every paid reply, every run and its events, durable in one sqlite file.

Several runs and processes share it. One thread writes, in groups; who waits for a row is woken
when the row is committed. Reads are done inline: a lookup takes microseconds, less than a thread
hop. WAL with ``synchronous=NORMAL``: nothing acknowledged is lost when a process is killed. Not
for network file systems.
"""

from __future__ import annotations

import hashlib
import os
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
    "INSERT INTO attempts (run, failed, input_tokens, output_tokens, usd, unsure_tokens, unsure_usd) "
    "VALUES (?,?,?,?,?,?,?)"
)
OUTCOME: Final = "INSERT INTO outcomes (run, prompt, item, value, output, feedback) VALUES (?,?,?,?,?,?)"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the journal knows it; times are seconds since 1970 (UTC)."""

    run_id: str
    kind: str
    status: str
    spec_json: str
    result_json: str | None
    started: float
    ended: float | None


@asynccontextmanager
async def open_journal(path: Path) -> AsyncIterator[Journal]:
    """Open the journal, creating file and folder (readable by their owner only) as needed.

    Raises JournalError if the file is no journal, comes from a newer version, or cannot be written.
    """
    journal = Journal(connect(path), Writer(connect(path), path, current_token()), path)
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(journal.close)


class Journal:
    """Use :func:`open_journal`. Methods that write and return are durable once they have returned."""

    def __init__(self, db: sqlite3.Connection, writer: Writer, path: Path) -> None:
        self._db, self._writer, self._path = db, writer, path
        self._keys = Keys(db)

    def close(self) -> None:
        """Write what is queued, and close; blocks."""
        with closing(self._db):
            self._writer.close()

    # replies

    def get(self, key: bytes) -> Completion | None:
        """Return the recorded reply with this key; one that another process just wrote may be missed."""
        if not self._keys.may_hold(key):
            return None
        row = self._db.execute(
            "SELECT text, truncated, input_tokens, output_tokens FROM replies WHERE key=?", (key,)
        ).fetchone()
        return None if row is None else Completion(row[0], Usage(row[2], row[3]), truncated=bool(row[1]))

    async def put(self, key: bytes, run_id: str, model: str, reply: Completion) -> None:
        """Record a reply; the first one with a key stays."""
        used = reply.usage
        self._keys.add(key)
        await self._writer.durable(
            REPLY,
            (key, run_id, model, reply.text, int(reply.truncated), used.input_tokens, used.output_tokens, time.time()),
        )

    def book(self, run_id: str, spent: Spent) -> None:
        """Note what an attempt cost; durable with the next commit."""
        self._writer.add(ATTEMPT, (run_id, *spent), urgent=spent.failed)

    def totals(self, run_id: str, *, parts: bool = False) -> Totals:
        """Return what the run's earlier sessions spent; with ``parts``, the runs that are part of it included."""
        where, values = "run=?", (run_id,)
        if parts:
            where, values = "run=? OR (run>? AND run<?)", (run_id, f"{run_id}.", f"{run_id}/")  # "/" follows "."
        calls, failed, into, out, unknown, usd, unsure_tokens, unsure_usd = self._db.execute(
            "SELECT COUNT(*), TOTAL(failed), TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(usd IS NULL), TOTAL(usd),"
            f" TOTAL(unsure_tokens), TOTAL(unsure_usd) FROM attempts WHERE {where}",
            values,
        ).fetchone()
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
        """Note items' outcomes as prompt (its hash), item and outcome; durable with the next commit."""
        for prompt, item, outcome in outcomes:
            self._writer.add(OUTCOME, (run_id, prompt, item, outcome.value, outcome.output, outcome.feedback))

    def outcomes(self, run_id: str) -> Iterator[tuple[bytes, str, Scored]]:
        """Yield what the run's earlier sessions scored: prompt, item, outcome."""
        sql = "SELECT prompt, item, value, output, feedback FROM outcomes WHERE run=? ORDER BY id"
        for prompt, item, value, output, feedback in self._db.execute(sql, (run_id,)):
            yield prompt, item, Scored(value=value, output=output, feedback=feedback)

    # runs

    async def create_run(self, run_id: str, kind: str, spec_json: str) -> None:
        """Book a new run as running in this process."""
        await self._writer.durable(
            "INSERT INTO runs (run, kind, status, spec, started, pid, process) VALUES (?,?,'running',?,?,?,?)",
            (run_id, kind, spec_json, time.time(), os.getpid(), _process(os.getpid())),
        )

    async def reopen_run(self, run_id: str) -> None:
        """Book a run as running again, in this process."""
        await self._writer.durable(
            "UPDATE runs SET status='running', ended=NULL, pid=?, process=? WHERE run=?",
            (os.getpid(), _process(os.getpid()), run_id),
        )

    def note_seconds(self, run_id: str, seconds: float) -> None:
        """Note a run's time so far, in all sessions; durable with the next commit."""
        self._writer.add("UPDATE runs SET seconds=? WHERE run=?", (seconds, run_id))

    async def finish_run(self, run_id: str, status: RunStatus, result_json: str | None, seconds: float) -> None:
        """Book how a run ended, and its time in all sessions."""
        await self._writer.durable(
            "UPDATE runs SET status=?, result=?, ended=?, seconds=? WHERE run=?",
            (status, result_json, time.time(), seconds, run_id),
        )

    def run(self, run_id: str) -> RunRecord:
        """Return the run with this id, unique beginning of an id, or "last"; raises JournalError.

        Runs that are part of another one, such as the cells of a benchmark, go by their whole id only.
        """
        found = self.runs(1) if run_id == "last" else [r for r in self.runs() if r.run_id.startswith(run_id)]
        found = self._records("run = ?", (run_id,)) or found
        if not found:
            raise JournalError(f"there is no run {run_id!r}; `lpo runs` lists them")
        if len(found) > 1:
            raise JournalError(f"{run_id!r} is the beginning of {len(found)} runs; give more of the id")
        return found[0]

    def runs(self, limit: int = -1) -> list[RunRecord]:
        """Return the runs, newest first; one whose process is gone is "interrupted"."""
        return self._records("instr(run, '.') = 0 ORDER BY started DESC, rowid DESC LIMIT ?", (limit,))

    def parts(self, run_id: str) -> dict[str, RunRecord]:
        """Return the runs that are part of this one, by id."""
        records = self._records("substr(run, 1, ?) = ?", (len(run_id) + 1, f"{run_id}."))
        return {record.run_id: record for record in records}

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        columns = "run, kind, status, spec, result, started, ended, pid, process"
        rows = self._db.execute(f"SELECT {columns} FROM runs WHERE {where}", values)  # noqa: S608 - no foreign text
        return [
            RunRecord(run, kind, _status(status, pid, process), spec, result, started, ended)
            for run, kind, status, spec, result, started, ended, pid, process in rows
        ]

    # events and blobs

    async def append(self, run_id: str, events: Sequence[tuple[str, str]]) -> None:
        """Record events of a run as pairs of type and JSON."""
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
        """Keep something under the hash of its content, and return that."""
        key = hashlib.blake2b(body, digest_size=16).hexdigest()
        await self._writer.durable("INSERT OR IGNORE INTO blobs VALUES (?,?)", (key, zlib.compress(body, 1)))
        return key

    def get_blob(self, key: str) -> bytes:
        """Return what is kept under the key; raises JournalError."""
        row = self._db.execute("SELECT body FROM blobs WHERE hash=?", (key,)).fetchone()
        if row is None:
            raise JournalError(f"{self._path}: the rows of this run are missing")
        return zlib.decompress(row[0])


def _status(status: str, pid: int, process: str) -> str:
    return "interrupted" if status == "running" and _process(pid) != process else status


def _process(pid: int) -> str:
    """Return what tells a live process from an earlier one with the same number; "" if it is gone.

    Where the system does not tell when a process began (other than Linux), its life must do.
    """
    try:
        os.kill(pid, 0)
        born = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (ProcessLookupError, PermissionError):
        return ""
    except OSError:
        born = "?"
    return f"{socket.gethostname()}:{pid}:{born}"
