"""Keeps the keys of all recorded replies in memory, so that most look-ups need no SQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

MAX_KEYS: Final = 500_000
"""The most keys that are kept in memory (about 50 MB)."""
REFRESH_INTERVAL: Final = 1.0
"""Seconds between two reads of the keys that other processes wrote."""


class Keys:
    """The set of the keys of all recorded replies.

    Most look-ups are for replies that do not exist yet; the set answers those without SQL. Keys
    that other processes wrote are read once a second. With more than ``MAX_KEYS`` keys nothing is
    kept in memory, and :meth:`may_hold` is always true.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._known = db, set[bytes]()
        self._last_id, self._refreshed = 0, float("-inf")
        (count,) = db.execute("SELECT COUNT(*) FROM (SELECT 1 FROM replies LIMIT ?)", (MAX_KEYS + 1,)).fetchone()
        self._complete = count <= MAX_KEYS

    def may_hold(self, key: bytes) -> bool:
        """Return False if there is certainly no reply with this key."""
        if not self._complete or key in self._known:
            return True
        now = time.monotonic()
        if now - self._refreshed < REFRESH_INTERVAL:
            return False
        self._refreshed = now
        rows = self._db.execute("SELECT id, key FROM replies WHERE id > ? ORDER BY id", (self._last_id,)).fetchall()
        self._known.update(each for _, each in rows)
        self._last_id = rows[-1][0] if rows else self._last_id
        return key in self._known

    def add(self, key: bytes) -> None:
        """Add the key of a reply that this process records."""
        self._known.add(key)
