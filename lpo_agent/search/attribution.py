"""What each edit of a prompt is worth: by taking it out again and scoring what is left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lpo_agent.core.edits import applied, edits_between, new_spans, reverted
from lpo_agent.core.result import EditResult
from lpo_agent.core.scores import paired, values
from lpo_agent.core.stats import mean, paired_interval
from lpo_agent.core.text import MarkedPrompt, Replacement, splice
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.edits import Edit
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.scoring import Scoring


def unmeasured(seed: Prompt, text: str) -> tuple[EditResult, ...]:
    """Return the edits that lead from the seed to ``text``; none for a text that changes what must be kept."""
    try:
        return tuple(_result(seed, edit) for edit in edits_between(seed, text))
    except EditRejected:
        return ()


async def attribute(
    scoring: Scoring, seed: Prompt, text: str, rows: Sequence[Row], most: int
) -> tuple[EditResult, ...]:
    """Return the edits of ``text`` with their worth on ``rows``, measured for the ``most`` longest ones.

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


async def pruned(
    scoring: Scoring, seed: Prompt, parent: Prompt, rows: Sequence[Row], most: int
) -> tuple[MarkedPrompt, Prompt] | None:
    """Return ``parent``, with those edits marked that can be taken out for nothing, and what it is without them.

    Edits that made the prompt longer are taken out one after another, the least worth first, as long as the
    mean score on ``rows`` does not fall; so of edits that do the same, one stays. None where all are needed.
    Raises RequestFailed when the budget is spent.
    """
    edits = edits_between(seed, parent.text)
    found = await attribute(scoring, seed, parent.text, rows, most)
    longer = [n for n, edit in enumerate(edits) if len(edit.text) > edit.span.end - edit.span.start]
    barren = [n for n in longer if (worth := found[n].worth) is not None and worth <= 0]
    gone: list[int] = []
    best = await _mean(scoring, parent.text, rows)
    for number in sorted(barren, key=lambda n: (found[n].worth or 0.0, n)):
        kept = [edit for n, edit in enumerate(edits) if n not in {*gone, number}]
        text = applied(seed, kept).text
        if text.strip() and (score := await _mean(scoring, text, rows)) >= best:
            best, gone = score, sorted([*gone, number])
    if not gone or len(gone) == len(edits):
        return None
    places = new_spans(edits)
    marked = MarkedPrompt(prompt=parent, spans=tuple(places[number] for number in gone))
    return marked, splice(marked, [Replacement(at, edits[n].span.of(seed.text)) for at, n in enumerate(gone)])


async def _mean(scoring: Scoring, text: str, rows: Sequence[Row]) -> float:
    return mean(values(await scoring.score(text, rows)).values())


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
