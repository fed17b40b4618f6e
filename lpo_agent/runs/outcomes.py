"""Stores the outcomes of items and the cost of calls in the journal, which a resumed run needs besides the replies."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpo_agent.core.budget import Spent
    from lpo_agent.core.messages import Row
    from lpo_agent.core.scores import Scored
    from lpo_agent.journal import Journal
    from lpo_agent.search.scoring import Outcomes

TOGETHER: Final = 256


@dataclass(frozen=True, slots=True)
class JournalCosts:
    """Implements :class:`lpo_agent.models.billing.CostStore` for one run."""

    journal: Journal
    run_id: str

    async def announce(self, most: Spent) -> int:
        """Record the highest cost of an attempt."""
        return await self.journal.announce(self.run_id, most)

    def book(self, spent: Spent, number: int | None) -> None:
        """Queue the actual cost of an attempt to be written."""
        self.journal.book(self.run_id, spent, number)

    def withdraw(self, number: int) -> None:
        """Queue the removal of an announced attempt that was not made."""
        self.journal.withdraw(number)


class JournalOutcomes:
    """Implements :class:`lpo_agent.search.scoring.OutcomeStore` for one run.

    The journal also has the replies, from which all outcomes could be computed again, but a long run would then need
    minutes to resume instead of a second. With ``recalls`` false the stored outcomes are not used: every agent is
    called again, and its calls count as they did the first time.
    """

    def __init__(self, journal: Journal, run_id: str, *, recalls: bool = True) -> None:
        self._journal, self._run_id = journal, run_id
        self._earlier: dict[bytes, Outcomes] = {}
        self._recalls = recalls
        for prompt, item, outcome in journal.outcomes(run_id):
            self._earlier.setdefault(prompt, {})[item] = outcome
        self._paid = Counter(item for found in self._earlier.values() for item in found)
        self._hashes: dict[str, bytes] = {}
        self._pending: list[tuple[bytes, str, Scored]] = []

    def recall(self, text: str) -> Outcomes:
        """Return the outcomes of this prompt from earlier sessions."""
        return self._earlier.pop(self._hash(text), {}) if self._recalls else {}

    def paid(self, rows: Iterable[Row]) -> int:
        """Return how many outcomes of these rows, under any prompt, are known from earlier sessions."""
        return sum(self._paid[row.id] for row in rows) if self._recalls else 0

    def keep(self, text: str, row_id: str, outcome: Scored) -> None:
        """Store an outcome; it may be written later with others, because its reply is already in the journal."""
        if row_id in self._earlier.get(self._hash(text), {}):
            return
        self._pending.append((self._hash(text), row_id, outcome))
        if len(self._pending) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write the pending outcomes."""
        self._journal.keep(self._run_id, self._pending)
        self._pending = []

    def _hash(self, text: str) -> bytes:
        if text not in self._hashes:
            self._hashes[text] = prompt_hash(text)
        return self._hashes[text]


def prompt_hash(text: str) -> bytes:
    """Return the key of a prompt's outcomes, a hash of 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
