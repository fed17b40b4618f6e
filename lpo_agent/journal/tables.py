"""The journal's tables: opens the SQLite file, and creates or updates the tables in it."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Final

from lpo_agent.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for a lock that another process holds."""
RETRY_INTERVAL: Final = 0.02
"""Seconds between attempts to switch to WAL mode."""
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
INDEXES: Final = ("CREATE INDEX IF NOT EXISTS runs_started ON runs (started) WHERE instr(run, '.') = 0",)
"""Created in every journal, also in old ones. They do not change the version of the schema, so that version
0.1.0 can still open the file."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file; create the file and update its tables if needed.

    Raises JournalError if the file is no journal, comes from a newer version, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT, cached_statements=512
        )
        _switch_to_wal(db)
        for pragma in ("synchronous=NORMAL", "cache_size=-65536"):
            db.execute(f"PRAGMA {pragma}")
        _migrate(db, path)
    except (sqlite3.Error, OSError) as exc:
        raise JournalError(f"{path}: the journal cannot be used: {exc}; see LPO_HOME") from None
    return db


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Turn on the write-ahead log.

    Retries by itself: while another process does the same, SQLite fails at once and ignores the
    connection's busy time-out.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL)
        else:
            return


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        db.execute("ROLLBACK")
        raise JournalError(f"{path}: written by a newer version of lpo-agent (schema {version}); update it")
    if version == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone():
        db.execute("ROLLBACK")
        raise JournalError(f"{path}: this is a database of another program; move it away, or see LPO_HOME")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in script.split(";"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version={number}")
    for statement in INDEXES:
        db.execute(statement)
    db.execute("COMMIT")
