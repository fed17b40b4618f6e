"""Makes a report of a run: one self-contained HTML page without scripts.

:func:`gather` collects the contents of the page (:class:`Facts`) from a result and from what the journal has about
the run; :func:`render_page` returns them as HTML. Both are pure functions: they read and write no files. Prompts, rows
and replies are escaped, so they cannot change the page.
"""

from lpo_agent.report.facts import Facts, gather, prompts_compared
from lpo_agent.report.page import render_page

__all__ = ["Facts", "gather", "prompts_compared", "render_page"]
