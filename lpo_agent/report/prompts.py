"""The report's sections about the text of the prompts: changes, their worth, edited places, and test items.

Each function returns HTML, or "" if there is nothing to show.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from lpo_agent.core.text import Span
from lpo_agent.report import charts, markup
from lpo_agent.report.facts import cut
from lpo_agent.report.pieces import split_shared_blanks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.result import EditResult
    from lpo_agent.report.facts import Facts, Item, Place
    from lpo_agent.report.markup import Numbers
    from lpo_agent.report.pieces import Piece

MAX_ITEMS: Final = 60
UNFOLDED_ITEMS: Final = 8
MAX_PLACES: Final = 40
MAX_EDIT: Final = 400
"""Characters of an edit that are shown."""


def diff(facts: Facts, numbers: Numbers) -> str:
    """Return the seed prompt with the changes that lead to the found prompt."""
    if facts.found is None:
        return (
            '<p class="quiet">Nothing: the answer is the seed prompt itself.</p>'
            f'<div class="prompt" dir="auto">{markup.text(facts.result.seed.prompt)}</div>'
        )
    what = "best prompt" if facts.found_key == "best" else "challenger, which was not shown to be better"
    numbered = _known(facts.found.edits)
    signs = '<p class="quiet">Removed text is <del>crossed out</del>, new text is <ins>underlined</ins>.'
    signs += " Numbers refer to the edits below.</p>" if numbered else "</p>"
    following = [*(piece.edit for piece in facts.pieces[1:]), None]
    body = "".join(
        _piece(piece, number=piece.edit if numbered and piece.edit != after else None)
        for piece, after in zip(facts.pieces, following, strict=True)
    )
    step = numbers.show(f"{facts.found_key}.step", "count")
    ratio = numbers.show("locality.length_ratio", "mean") if facts.found_key == "best" else ""
    length = f"; it has {ratio} times the seed prompt's words" if ratio else ""
    return (
        f"<p>From the seed prompt to the {what}, found in step {step}{length}.</p>{signs}"
        f'<div class="prompt" dir="auto">{body}</div>'
        f"<details><summary>The {what.partition(',')[0]} in full</summary>"
        f'<div class="prompt" dir="auto">{markup.text(facts.found.prompt)}</div></details>'
    )


def _piece(piece: Piece, number: int | None) -> str:
    """Return a piece of text; ``number``: the index of the edit that ends with it."""
    if piece.kind == "same":
        return markup.text(piece.text)
    tag = "del" if piece.kind == "gone" else "ins"
    sign = "" if number is None else f"<sup>{number + 1}</sup>"
    return f"<{tag}>{_shown(piece.text)}</{tag}>{sign}"


def _shown(content: str) -> str:
    """Return changed text; if it consists of white space only, with visible signs for it."""
    if content.strip():
        return markup.text(content)
    return markup.text(content.replace(" ", "·").replace("\t", "→").replace("\n", "↵\n"))


def _known(edits: Sequence[EditResult]) -> bool:
    return any(edit.worth is not None for edit in edits)


def edits(facts: Facts, numbers: Numbers) -> str:
    """Return what each edit contributes to the score, if that was measured."""
    found = facts.found
    if found is None or not _known(found.edits):
        return ""
    ends = [end for edit in found.edits for end in (edit.ci95 or ())]
    ends += [edit.worth for edit in found.edits if edit.worth is not None]
    span = (min(-0.05, *ends), max(0.05, *ends))
    rows = []
    for number, edit in sorted(enumerate(found.edits), key=lambda pair: -(pair[1].worth or 0.0)):
        key = f"{facts.found_key}.edits.{number}"
        bar = "" if edit.worth is None else charts.whisker(edit.worth, edit.ci95, span, _sign(edit.worth), 200)
        rows.append(
            f'<tr><td class="num">{number + 1}</td><td class="change" dir="auto">{_change(edit)}</td>'
            f'<td class="num big">{numbers.show(f"{key}.worth", "signed")}</td>'
            f'<td class="bar">{bar}<small>{numbers.interval(f"{key}.ci95", "signed")}, '
            f"{numbers.things(f'{key}.n', 'item')}</small></td></tr>"
        )
    head = "<thead><tr><th>#</th><th>edit</th><th>worth</th><th>with its 95 % interval</th></tr></thead>"
    return (
        "<p>The mean score with the edit minus that without it, with all other edits kept, on the same training "
        "items.</p>"
        f'<table class="edits">{head}<tbody>{"".join(rows)}</tbody></table>'
    )


def _change(edit: EditResult) -> str:
    _, old, new, _ = split_shared_blanks(edit.old, edit.new)
    gone = f"<del>{_shown(cut(old, MAX_EDIT))}</del>" if old else ""
    added = f"<ins>{_shown(cut(new, MAX_EDIT))}</ins>" if new else ""
    return " ".join(part for part in (gone, added) if part)


def _sign(value: float) -> str:
    return "up" if value > 0 else "down" if value < 0 else "level"


def places(facts: Facts, numbers: Numbers) -> str:
    """Return the seed prompt with its edited places highlighted, by how often they were edited and how well."""
    if not facts.places:
        return ""
    meaning = (
        "improved / tried: how many edits at a place had a higher score than their parent, of those that were scored."
        if facts.measured
        else "kept / marked: in how many steps the place was marked for an edit and the new prompt was kept, of those "
        "in which it was marked."
    )
    legend = (
        f'<p class="quiet">Small numbers: {meaning} <span class="heat up h2">Solid lines</span>: successful at least '
        'once; darker if tried more often. <span class="heat down h2">Dotted lines</span>: never successful. '
        "A plus marks a place where text was inserted.</p>"
    )
    table = _places_table(facts, numbers) if facts.measured else ""
    return f'{legend}<div class="prompt" dir="auto">{_highlighted(facts, numbers)}</div>{table}'


def _highlighted(facts: Facts, numbers: Numbers) -> str:
    text, found = facts.result.seed.prompt, facts.places
    edges = sorted({0, len(text), *(edge for place in found for edge in place.span if edge <= len(text))})
    most = max(place.tried for place in found)
    parts = [_counts(facts, numbers, 0)]
    for start, end in pairwise(edges):
        here = [place for place in found if place.span.start <= start and end <= place.span.end]
        shown = markup.text(Span(start, end).of(text))
        parts.append(f'<span class="heat {_heat_class(here, most)}">{shown}</span>' if here else shown)
        parts.append(_counts(facts, numbers, end))
    return "".join(parts)


def _heat_class(here: Sequence[Place], most: int) -> str:
    """Return the CSS classes of some text: "up" if an edit of it succeeded, and h1 to h4 for the number of edits."""
    tried, paid = sum(place.tried for place in here), sum(place.paid for place in here)
    return f"{'up' if paid else 'down'} h{1 + min(3, 4 * (tried - 1) // max(1, most))}"


def _counts(facts: Facts, numbers: Numbers, at: int) -> str:
    """Return the counts of the places that end at this offset, with a plus for a place of no length."""
    parts = []
    for number, place in enumerate(facts.places):
        if place.span.end != at:
            continue
        key = f"search.spans.{number}"
        paid, tried = (
            (numbers.show(f"{key}.paid", "count"), numbers.show(f"{key}.tried", "count"))
            if facts.measured
            else (f"{place.paid}", f"{place.tried}")
        )
        plus = "+" if place.span.start == place.span.end else ""
        parts.append(f'<sup class="{"up" if place.paid else "down"}">{plus}{paid}/{tried}</sup>')
    return "".join(parts)


def _places_table(facts: Facts, numbers: Numbers) -> str:
    order = sorted(range(len(facts.places)), key=lambda n: (-facts.places[n].tried, n))
    rows = []
    for number in order[:MAX_PLACES]:
        place, key = facts.places[number], f"search.spans.{number}"
        rows.append(
            f'<tr><td dir="auto">{_place_name(facts.result.seed.prompt, place.span)}</td>'
            f'<td class="num">{numbers.show(f"{key}.tried", "count")}</td>'
            f'<td class="num">{numbers.show(f"{key}.paid", "count")}</td>'
            f'<td class="num">{numbers.show(f"{key}.gain", "signed")}</td></tr>'
        )
    more = f"<p>{len(order) - MAX_PLACES:,} more are in the JSON.</p>" if len(order) > MAX_PLACES else ""
    head = "<thead><tr><th>place</th><th>tried</th><th>improved</th><th>mean gain</th></tr></thead>"
    return (
        f"<details><summary>The places as a table</summary>"
        f"<table>{head}<tbody>{''.join(rows)}</tbody></table>{more}</details>"
    )


def _place_name(seed: str, span: Span) -> str:
    if span.start != span.end:
        return markup.text(cut(span.of(seed), 80))
    before = seed[max(0, span.start - 24) : span.start].strip()
    return f"new text after “{markup.text(before)}”" if before else "new text at the beginning"


def items(facts: Facts, numbers: Numbers) -> str:
    """Return the test items on which the two prompts have different scores."""
    found = facts.items
    if found is None:
        return (
            '<p class="quiet">The two prompts were not both scored on test items, so they cannot be compared.</p>'
            if facts.found is not None and numbers.at("seed.test") is not None
            else ""
        )
    missing = f" {markup.count(found.missing, 'item')} lack a score under one of them." if found.missing else ""
    return (
        f'<p><strong class="up">{len(found.won):,} won</strong>, '
        f'<strong class="down">{len(found.lost):,} lost</strong>, '
        f"{found.level:,} level.{missing}</p>"
        + _items_table("won", "found prompt has the higher score", found.won)
        + _items_table("lost", "seed prompt has the higher score", found.lost)
    )


def _items_table(kind: str, why: str, found: Sequence[Item]) -> str:
    """Return the items as a table; all but the first few are folded."""
    if not found:
        return ""
    listed = found[:MAX_ITEMS]
    more = f'<p class="quiet">{len(found) - MAX_ITEMS:,} more are not listed.</p>' if len(found) > MAX_ITEMS else ""
    rest = _item_rows(kind, listed[UNFOLDED_ITEMS:])
    return (
        f"<h3>{len(found):,} {kind}: the {why}</h3>{_item_rows(kind, listed[:UNFOLDED_ITEMS])}"
        + (f"<details><summary>{len(listed) - UNFOLDED_ITEMS:,} more</summary>{rest}</details>" if rest else "")
        + more
    )


def _item_rows(kind: str, found: Sequence[Item]) -> str:
    rows = "".join(
        f'<tr><td><div class="input" dir="auto">{markup.text(item.shown)}</div>'
        f"<small><b>{markup.text(item.name)}</b> · wanted <q>{markup.text(item.target)}</q> · "
        f"seed: <q>{markup.text(item.seed_output)}</q> · "
        f"found: <q>{markup.text(item.found_output)}</q></small></td>"
        f'<td class="num">{item.seed:.2f}</td><td class="num">{item.found:.2f}</td></tr>'
        for item in found
    )
    head = "<thead><tr><th>item</th><th>seed</th><th>found</th></tr></thead>"
    return f'<table class="items {kind}">{head}<tbody>{rows}</tbody></table>' if rows else ""
