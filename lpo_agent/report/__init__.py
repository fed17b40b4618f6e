"""A run as one HTML page: self-contained, without scripts, safe to open whatever a prompt or a reply holds.

:func:`gather` makes :class:`Facts` of a result and what the journal has beside it, :func:`render_page`
writes them down. Neither reads nor writes files.
"""

from lpo_agent.report.facts import Facts, gather, prompts_compared
from lpo_agent.report.page import render_page

__all__ = ["Facts", "gather", "prompts_compared", "render_page"]
