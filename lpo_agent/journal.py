"""The journal: every paid reply, every run and its events, durable in one sqlite file.

Several runs and processes share it. One thread writes, in groups; who waits for a row is woken
when the row is committed. Reads are done inline: a lookup takes microseconds, less than a thread
hop. WAL with ``synchronous=NORMAL``: nothing acknowledged is lost when a process is killed. Not
for network file systems.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import sqlite3
import threading
import time
import zlib
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token

from lpo_agent.core.budget import Totals
from lpo_agent.core.scores import Scored
from lpo_agent.errors import JournalError
from lpo_agent.models.base import Completion, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from anyio.lowlevel import EventLoopToken

    from lpo_agent.core.budget import Spent

MIGRATIONS: Final = (
    """
    CREATE TABLE replies (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, run TEXT NOT NULL, model TEXT NOT NULL,
        text TEXT NOT NULL, truncated INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, made REAL NOT NULL);
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, failed INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd REAL);
    CREATE INDEX attempts_run ON attempts (run);
    CREATE TABLE runs (
        run TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, spec TEXT NOT NULL,
        result TEXT, started REAL NOT NULL, ended REAL, seconds REAL NOT NULL DEFAULT 0,
        pid INTEGER, process TEXT);
    CREATE TABLE events (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX events_run ON events (run);
    CREATE TABLE blobs (hash TEXT PRIMARY KEY, body BLOB NOT NULL);
    """,
    """
    ALTER TABLE attempts ADD COLUMN unsure_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN unsure_usd REAL NOT NULL DEFAULT 0;
    CREATE TABLE outcomes (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, prompt BLOB NOT NULL, item TEXT NOT NULL,
        value REAL NOT NULL, output TEXT NOT NULL, feedback TEXT NOT NULL);
    CREATE INDEX outcomes_run ON outcomes (run);
    """,
)

REPLY: Final = (
    "INSERT OR IGNORE INTO replies (key, run, model, text, truncated, input_tokens, output_tokens, made) "
    "VALUES (?,?,?,?,?,?,?,?)"
)
ATTEMPT: Final = (
    "INSERT INTO attempts (run, failed, input_tokens, output_tokens, usd, unsure_tokens, unsure_usd) "
    "VALUES (?,?,?,?,?,?,?)"
)
OUTCOME: Final = "INSERT INTO outcomes (run, prompt, item, value, output, feedback) VALUES (?,?,?,?,?,?)"

BUNDLE: Final = 64
"""Rows a statement."""

Status = Literal["running", "completed", "stopped", "failed", "interrupted"]


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


_Row = tuple[str, tuple[object, ...]]


@dataclass(eq=False, slots=True)
class _Group:
    """Rows that are committed together, and what their authors wait for."""

    rows: list[_Row] = field(default_factory=list)
    urgent: bool = False
    done: anyio.Event | None = None
    failed: dict[int, Exception] = field(default_factory=dict)


@asynccontextmanager
async def open_journal(path: Path) -> AsyncIterator[Journal]:
    """Open the journal, creating file and folder (readable by their owner only) as needed.

    Raises JournalError if the file is no journal, comes from a newer version, or cannot be written.
    """
    journal = Journal(_connect(path), _connect(path), path, current_token())
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(journal.close)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=512)
        for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL", "cache_size=-65536"):
            db.execute(f"PRAGMA {pragma}")
        _migrate(db, path)
    except (sqlite3.Error, OSError) as exc:
        raise JournalError(f"{path}: the journal cannot be used: {exc}; see LPO_HOME") from None
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        db.execute("ROLLBACK")
        raise JournalError(f"{path}: written by a newer version of lpo-agent (schema {version}); update it")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in script.split(";"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version={number}")
    db.execute("COMMIT")


class Journal:
    """Use :func:`open_journal`. Methods that write and return are durable once they have returned."""

    def __init__(
        self, reader: sqlite3.Connection, writer: sqlite3.Connection, path: Path, token: EventLoopToken
    ) -> None:
        self._db, self._writer, self._path, self._token = reader, writer, path, token
        self._group: _Group | None = None
        self._lock, self._work, self._closing = threading.Lock(), threading.Semaphore(0), False
        self._thread = threading.Thread(target=self._write, name="lpo-journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, fold the log into the file, and close; blocks."""
        self._closing = True
        self._work.release(2)  # one for rows that nobody waits for, one for the end
        self._thread.join()
        with closing(self._writer), closing(self._db):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # replies

    def get(self, key: bytes) -> Completion | None:
        """Return the recorded reply with this key."""
        row = self._db.execute(
            "SELECT text, truncated, input_tokens, output_tokens FROM replies WHERE key=?", (key,)
        ).fetchone()
        return None if row is None else Completion(row[0], Usage(row[2], row[3]), truncated=bool(row[1]))

    async def put(self, key: bytes, run_id: str, model: str, reply: Completion) -> None:
        """Record a reply; the first one with a key stays."""
        used = reply.usage
        await self._durable(
            REPLY,
            (key, run_id, model, reply.text, int(reply.truncated), used.input_tokens, used.output_tokens, time.time()),
        )

    def book(self, run_id: str, spent: Spent) -> None:
        """Note what an attempt cost; durable with the next commit."""
        self._add(ATTEMPT, (run_id, *spent), urgent=spent.failed)

    def totals(self, run_id: str) -> Totals:
        """Return what the run's earlier sessions spent."""
        calls, failed, into, out, unknown, usd, unsure_tokens, unsure_usd = self._db.execute(
            "SELECT COUNT(*), TOTAL(failed), TOTAL(input_tokens), TOTAL(output_tokens), TOTAL(usd IS NULL), TOTAL(usd),"
            " TOTAL(unsure_tokens), TOTAL(unsure_usd) FROM attempts WHERE run=?",
            (run_id,),
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

    def keep(self, run_id: str, prompt: bytes, item: str, outcome: Scored) -> None:
        """Note an item's outcome under a prompt (by its hash); durable with the next commit."""
        self._add(OUTCOME, (run_id, prompt, item, outcome.value, outcome.output, outcome.feedback))

    def outcomes(self, run_id: str) -> Iterator[tuple[bytes, str, Scored]]:
        """Yield what the run's earlier sessions scored: prompt, item, outcome."""
        sql = "SELECT prompt, item, value, output, feedback FROM outcomes WHERE run=? ORDER BY id"
        for prompt, item, value, output, feedback in self._db.execute(sql, (run_id,)):
            yield prompt, item, Scored(value=value, output=output, feedback=feedback)

    # runs

    async def create_run(self, run_id: str, kind: str, spec_json: str) -> None:
        """Book a new run as running in this process."""
        await self._durable(
            "INSERT INTO runs (run, kind, status, spec, started, pid, process) VALUES (?,?,'running',?,?,?,?)",
            (run_id, kind, spec_json, time.time(), os.getpid(), _process(os.getpid())),
        )

    async def reopen_run(self, run_id: str) -> None:
        """Book a run as running again, in this process."""
        await self._durable(
            "UPDATE runs SET status='running', ended=NULL, pid=?, process=? WHERE run=?",
            (os.getpid(), _process(os.getpid()), run_id),
        )

    async def finish_run(self, run_id: str, status: Status, result_json: str | None, seconds: float) -> None:
        """Book how a run ended, and its time in all sessions."""
        await self._durable(
            "UPDATE runs SET status=?, result=?, ended=?, seconds=? WHERE run=?",
            (status, result_json, time.time(), seconds, run_id),
        )

    def run(self, run_id: str) -> RunRecord:
        """Return the run with this id, unique beginning of an id, or "last"; raises JournalError."""
        if run_id == "last":
            found = self.runs(1)
        else:
            found = [record for record in self.runs() if record.run_id.startswith(run_id)]
            found = [record for record in found if record.run_id == run_id] or found
        if not found:
            raise JournalError(f"there is no run {run_id!r}; `lpo runs` lists them")
        if len(found) > 1:
            raise JournalError(f"{run_id!r} is the beginning of {len(found)} runs; give more of the id")
        return found[0]

    def runs(self, limit: int = -1) -> list[RunRecord]:
        """Return the runs, newest first; one whose process is gone is "interrupted"."""
        rows = self._db.execute(
            "SELECT run, kind, status, spec, result, started, ended, pid, process FROM runs "
            "ORDER BY started DESC, rowid DESC LIMIT ?",
            (limit,),
        )
        return [
            RunRecord(run, kind, _status(status, pid, process), spec, result, started, ended)
            for run, kind, status, spec, result, started, ended, pid, process in rows
        ]

    # events and blobs

    async def append(self, run_id: str, events: Sequence[tuple[str, str]]) -> None:
        """Record events of a run as pairs of type and JSON."""
        sql = "INSERT INTO events (run, type, body) VALUES (?,?,?)"
        for kind, body in events[:-1]:
            self._add(sql, (run_id, kind, body))
        for kind, body in events[-1:]:
            await self._durable(sql, (run_id, kind, body))

    def events(self, run_id: str) -> Iterator[str]:
        """Yield a run's events as JSON, oldest first."""
        for (body,) in self._db.execute("SELECT body FROM events WHERE run=? ORDER BY id", (run_id,)):
            yield body

    async def put_blob(self, text: str) -> str:
        """Keep a text under the hash of its content, and return that."""
        body = text.encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(body, digest_size=16).hexdigest()
        await self._durable("INSERT OR IGNORE INTO blobs VALUES (?,?)", (key, zlib.compress(body)))
        return key

    def get_blob(self, key: str) -> str:
        """Return a kept text; raises JournalError."""
        row = self._db.execute("SELECT body FROM blobs WHERE hash=?", (key,)).fetchone()
        if row is None:
            raise JournalError(f"{self._path}: the rows of this run are missing")
        return zlib.decompress(row[0]).decode("utf-8", "surrogatepass")

    # the writer

    def _add(self, sql: str, values: tuple[object, ...], *, urgent: bool = False) -> _Group:
        """Put a row into the group that is committed next; the first urgent one wakes the writer."""
        with self._lock:
            group = self._group = self._group or _Group()
            group.rows.append((sql, values))
            wake, group.urgent = urgent and not group.urgent, group.urgent or urgent
        if wake:
            self._work.release()
        return group

    async def _durable(self, sql: str, values: tuple[object, ...]) -> None:
        group = self._add(sql, values, urgent=True)
        number = len(group.rows) - 1
        group.done = done = group.done or anyio.Event()
        await done.wait()
        if number in group.failed:
            raise JournalError(f"{self._path}: the journal cannot be written: {group.failed[number]}")

    def _write(self) -> None:
        while True:
            self._work.acquire()
            with self._lock:
                group, self._group = self._group, None
            if group is not None:
                self._commit_group(group)
            elif self._closing:
                return

    def _commit_group(self, group: _Group) -> None:
        if self._commit(group.rows) is not None:  # one bad row must not take the others with it
            errors = [self._commit([row]) for row in group.rows]
            group.failed = {number: error for number, error in enumerate(errors) if error is not None}
        from_thread.run_sync(_wake, group, token=self._token)

    def _commit(self, rows: Sequence[_Row]) -> Exception | None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for sql, values in _bundled(rows):
                self._writer.execute(sql, values)
            self._writer.execute("COMMIT")
        except (sqlite3.Error, UnicodeError, OverflowError) as exc:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            return exc
        return None


def _bundled(rows: Sequence[_Row]) -> Iterator[_Row]:
    """Yield the statements with insertions into the same table as one.

    Each statement lets go of the interpreter and must wait to get it back, which takes longer than
    the insertion.
    """
    insertions: dict[str, list[tuple[object, ...]]] = {}
    for sql, values in rows:
        if sql.startswith("INSERT") and "(?" in sql:
            insertions.setdefault(sql, []).append(values)
        else:
            yield sql, values
    for sql, many in insertions.items():
        marks = sql[sql.rindex("(") :]
        for start in range(0, len(many), BUNDLE):
            part = many[start : start + BUNDLE]
            yield sql + f",{marks}" * (len(part) - 1), tuple(itertools.chain.from_iterable(part))


def _wake(group: _Group) -> None:
    if group.done is not None:
        group.done.set()


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
