"""The keys of the recorded replies, in memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

MOST_KEYS: Final = 500_000
"""Keys that are kept in memory at most (about 50 MB)."""
FRESH: Final = 1.0
"""Seconds after which other processes' keys are fetched."""


class Keys:
    """The keys of the replies, in memory: most lookups are in vain, and this tells in a fraction of the time.

    Other processes' keys are fetched once a second. A very large journal is looked up instead.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._known = db, set[bytes]()
        self._upto, self._fetched = 0, float("-inf")
        (count,) = db.execute("SELECT COUNT(*) FROM (SELECT 1 FROM replies LIMIT ?)", (MOST_KEYS + 1,)).fetchone()
        self._complete = count <= MOST_KEYS

    def may_hold(self, key: bytes) -> bool:
        """Tell whether a lookup may find something."""
        if not self._complete or key in self._known:
            return True
        now = time.monotonic()
        if now - self._fetched < FRESH:
            return False
        self._fetched = now
        rows = self._db.execute("SELECT id, key FROM replies WHERE id > ? ORDER BY id", (self._upto,)).fetchall()
        self._known.update(each for _, each in rows)
        self._upto = rows[-1][0] if rows else self._upto
        return key in self._known

    def add(self, key: bytes) -> None:
        """Take in a key that this process writes."""
        self._known.add(key)
