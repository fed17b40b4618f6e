"""The journal: every paid reply, every run and its events, durable in one sqlite file."""

from lpo_agent.journal.store import Journal, RunRecord, open_journal
from lpo_agent.journal.tables import MIGRATIONS

__all__ = ["MIGRATIONS", "Journal", "RunRecord", "open_journal"]
