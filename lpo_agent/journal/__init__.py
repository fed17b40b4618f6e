"""The journal: every paid reply, every run and its events, durable in one sqlite file."""

from lpo_agent.journal.schema import MIGRATIONS
from lpo_agent.journal.store import Journal, RunRecord, Status, open_journal

__all__ = ["MIGRATIONS", "Journal", "RunRecord", "Status", "open_journal"]
