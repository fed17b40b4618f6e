"""The journal: stores every paid reply, every run and its events in one SQLite file.

A run is resumed from it, a known reply is never paid for twice, and reports are made from it.
"""

from lpo_agent.journal.store import Journal, RunRecord, RunSummary, open_journal
from lpo_agent.journal.tables import MIGRATIONS

__all__ = ["MIGRATIONS", "Journal", "RunRecord", "RunSummary", "open_journal"]
