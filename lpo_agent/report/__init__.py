"""Makes a report of a run: one self-contained HTML page without scripts.

:func:`gather` collects the contents of the page (:class:`Facts`) from a result and from what the journal has about
the run; :func:`render_page` returns them as HTML. Both are pure functions: they read and write no files. Prompts, rows
and replies are escaped, so they cannot change the page.

What a report on the terminal shares with the page is here too: the verdict in words, the difference between two
prompts, amounts of money and time. Public are the names in ``__all__``.
"""

from lpo_agent.report.facts import Facts, gather, prompts_compared
from lpo_agent.report.markup import dollars, duration
from lpo_agent.report.page import render_page
from lpo_agent.report.pieces import Piece, pieces_of
from lpo_agent.report.verdicts import VerdictText, explain_verdict

__all__ = [
    "Facts",
    "Piece",
    "VerdictText",
    "dollars",
    "duration",
    "explain_verdict",
    "gather",
    "pieces_of",
    "prompts_compared",
    "render_page",
]
