"""Writing: one thread, groups of rows, and waking who waits for them."""

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

BUNDLE: Final = 64
"""Rows a statement."""

_Row = tuple[str, tuple[object, ...]]


@dataclass(eq=False, slots=True)
class _Group:
    """Rows that are committed together, and what their authors wait for."""

    rows: list[_Row] = field(default_factory=list)
    urgent: bool = False
    done: anyio.Event | None = None
    failed: dict[int, Exception] = field(default_factory=dict)


class Writer:
    """One thread that writes, in groups: what came while the last group was committed is the next one."""

    def __init__(self, db: sqlite3.Connection, path: Path, token: EventLoopToken) -> None:
        self._db, self._path, self._token = db, path, token
        self._group: _Group | None = None
        self._lock, self._work, self._closing = threading.Lock(), threading.Semaphore(0), False
        self._thread = threading.Thread(target=self._write, name="lpo-journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, fold the log into the file, and close; blocks."""
        self._closing = True
        self._work.release(2)  # one for rows that nobody waits for, one for the end
        self._thread.join()
        with closing(self._db), suppress(sqlite3.Error):  # tidiness only
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def add(self, sql: str, values: tuple[object, ...], *, urgent: bool = False) -> _Group:
        """Put a row into the group that is committed next; the first urgent one wakes the writer."""
        with self._lock:
            group = self._group = self._group or _Group()
            group.rows.append((sql, values))
            wake, group.urgent = urgent and not group.urgent, group.urgent or urgent
        if wake:
            self._work.release()
        return group

    async def durable(self, sql: str, values: tuple[object, ...]) -> None:
        """Put a row into the group that is committed next, and wait until it is; raises JournalError."""
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
        problem = self._commit(group.rows)
        if problem is not None:
            alone = not isinstance(problem, sqlite3.OperationalError)  # one bad row must not take the others with it
            errors = [self._commit([row]) if alone else problem for row in group.rows]
            group.failed = {number: error for number, error in enumerate(errors) if error is not None}
        with suppress(RuntimeError):  # the loop is gone, and with it who waited
            from_thread.run_sync(_wake, group, token=self._token)

    def _commit(self, rows: Sequence[_Row]) -> Exception | None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql, values in _bundled(rows):
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except (sqlite3.Error, UnicodeError, OverflowError) as exc:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
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
