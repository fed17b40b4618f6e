"""The journal's writer: one thread that commits queued rows in groups and wakes the tasks that wait for them.

Committing many rows at once (group commit) costs about as much as committing one.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
from anyio import from_thread

from lpo_agent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anyio.lowlevel import EventLoopToken

MAX_ROWS_PER_STATEMENT: Final = 64

_Row = tuple[str, tuple[object, ...]]


@dataclass(eq=False, slots=True)
class _Group:
    """Rows that are committed together.

    ``urgent``: somebody waits for a row of it. ``done`` is set after the commit. ``failed`` has the
    errors of rows that could not be written, by the row's position.
    """

    rows: list[_Row] = field(default_factory=list)
    urgent: bool = False
    done: anyio.Event | None = None
    failed: dict[int, Exception] = field(default_factory=dict)


class Writer:
    """Writes rows in a thread of its own; rows that arrive during a commit form the next group."""

    def __init__(self, db: sqlite3.Connection, path: Path, token: EventLoopToken) -> None:
        self._db, self._path, self._token = db, path, token
        self._group: _Group | None = None
        self._lock, self._work, self._closing = threading.Lock(), threading.Semaphore(0), False
        self._thread = threading.Thread(target=self._write, name="lpo-journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the queued rows, move the write-ahead log into the main file, and close; blocks."""
        self._closing = True
        self._work.release(2)  # the first writes rows that nobody waits for, the second ends the thread
        self._thread.join()
        with closing(self._db), suppress(sqlite3.Error):  # the checkpoint is optional: SQLite makes up for it later
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def add(self, sql: str, values: tuple[object, ...], *, urgent: bool = False) -> _Group:
        """Add a row to the group that is committed next; the group's first urgent row wakes the thread."""
        with self._lock:
            group = self._group = self._group or _Group()
            group.rows.append((sql, values))
            wake, group.urgent = urgent and not group.urgent, group.urgent or urgent
        if wake:
            self._work.release()
        return group

    async def durable(self, sql: str, values: tuple[object, ...]) -> None:
        """Add a row to the group that is committed next and wait for the commit; raises JournalError if it failed."""
        group = self.add(sql, values, urgent=True)
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
        """Commit a group; if one of its rows is invalid, commit each row alone so that only that one fails."""
        problem = self._commit(group.rows)
        if problem is not None:
            one_by_one = not isinstance(problem, sqlite3.OperationalError)  # such as a full disk: it affects all rows
            errors = [self._commit([row]) if one_by_one else problem for row in group.rows]
            group.failed = {number: error for number, error in enumerate(errors) if error is not None}
        with suppress(RuntimeError):  # the event loop has ended, and the waiting tasks with it
            from_thread.run_sync(_wake, group, token=self._token)

    def _commit(self, rows: Sequence[_Row]) -> Exception | None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql, values in _merge_inserts(rows):
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except (sqlite3.Error, UnicodeError, OverflowError) as exc:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return exc
        return None


def _merge_inserts(rows: Sequence[_Row]) -> Iterator[_Row]:
    """Yield the statements, with insertions into the same table merged into one statement of many rows.

    Python's ``sqlite3`` releases the interpreter lock for each statement, and getting it back takes
    longer than inserting a row.
    """
    insertions: dict[str, list[tuple[object, ...]]] = {}
    for sql, values in rows:
        if sql.startswith("INSERT") and "(?" in sql:
            insertions.setdefault(sql, []).append(values)
        else:
            yield sql, values
    for sql, many in insertions.items():
        marks = sql[sql.rindex("(") :]
        for start in range(0, len(many), MAX_ROWS_PER_STATEMENT):
            part = many[start : start + MAX_ROWS_PER_STATEMENT]
            yield sql + f",{marks}" * (len(part) - 1), tuple(itertools.chain.from_iterable(part))


def _wake(group: _Group) -> None:
    if group.done is not None:
        group.done.set()
