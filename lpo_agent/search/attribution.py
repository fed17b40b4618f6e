"""Measures the worth of each edit of a prompt, by scoring the prompt without that edit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lpo_agent.core.edits import edits_between, reverted
from lpo_agent.core.events import PhaseStarted
from lpo_agent.core.result import EditResult
from lpo_agent.core.scores import paired
from lpo_agent.core.stats import paired_interval
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.edits import Edit
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.context import Search
    from lpo_agent.search.scoring import Scoring


def unmeasured(seed: Prompt, text: str) -> tuple[EditResult, ...]:
    """Return the edits that turn the seed into ``text``, without worth; none if ``text`` changes protected text."""
    try:
        return tuple(_result(seed, edit) for edit in edits_between(seed, text))
    except EditRejected:
        return ()


async def explain(context: Search, rows: Sequence[Row]) -> None:
    """Measure the worth of each edit of the best prompt on the first of ``rows``, if the budget has room for it."""
    outcome, plan = context.outcome, context.plan
    edits = min(plan.explained, len(unmeasured(context.prompt, outcome.best.prompt.text)))
    rows = rows[: plan.explained_on]
    if edits and outcome.best is not outcome.seed and context.rows.can_pay((edits + 1) * len(rows)):
        context.emit(PhaseStarted(phase="explain", total=edits * len(rows)))
        outcome.edits = await attribute(context.scoring, context.prompt, outcome.best.prompt.text, rows, plan.explained)


async def attribute(
    scoring: Scoring, seed: Prompt, text: str, rows: Sequence[Row], most: int
) -> tuple[EditResult, ...]:
    """Return the edits of ``text``, with the worth of the ``most`` longest ones measured on ``rows``.

    Raises RequestFailed when the budget is spent.
    """
    edits = edits_between(seed, text)
    longest = sorted(range(len(edits)), key=lambda number: (-_size(edits[number]), number))[:most]
    without = {number: reverted(seed, edits, number).text for number in longest}
    asked = {number: found for number, found in without.items() if found.strip()}
    await scoring.score_all([text, *asked.values()], rows)
    whole, ids = scoring.known(text, rows), [row.id for row in rows]
    results = []
    for number, edit in enumerate(edits):
        known = scoring.known(asked[number], rows) if number in asked else {}
        results.append(_result(seed, edit, paired(whole, known, ids)))
    return tuple(results)


def _size(edit: Edit) -> int:
    return edit.span.end - edit.span.start + len(edit.text)


def _result(seed: Prompt, edit: Edit, differences: Sequence[float] = ()) -> EditResult:
    (start, end), n = edit.span, len(differences)
    return EditResult(
        start=start,
        end=end,
        old=edit.span.of(seed.text),
        new=edit.text,
        worth=math.fsum(differences) / n if n else None,
        ci95=paired_interval(differences) if n else None,
        n=n,
    )
