"""Puts the report's page together: the HTML around the sections, the summary, and the order of the sections.

Sections return HTML as plain strings, and each of them escapes the texts that it inserts with
:mod:`lpo_agent.report.markup`.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from lpo_agent.report import charts, markup, prompts, search
from lpo_agent.report.markup import Numbers
from lpo_agent.report.verdicts import explain_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lpo_agent.report.facts import Facts

    Section = Callable[[Facts, Numbers], str]

STYLE: Final = "style.css"


def render_page(facts: Facts) -> str:
    """Return the whole page as HTML; it contains no scripts and loads nothing.

    The complete result is in the page as JSON, in the element with the id ``result``.
    """
    content = facts.result.model_dump(mode="json", by_alias=True)
    numbers = Numbers(content)
    style = files(__package__).joinpath(STYLE).read_text(encoding="utf-8")
    shown = [(name, title, body) for name, (title, render) in SECTIONS.items() if (body := render(facts, numbers))]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    sections = "\n".join(f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in shown)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>Run {markup.plain(facts.result.run_id)}: {explain_verdict(facts.result).title}</title>
<style>{style}</style>
</head>
<body>
<header>{_header(facts)}<nav>{links}</nav></header>
<main>
{sections}
</main>
<footer>Each number of the result has its path and its exact value in the attributes <code>data-key</code> and
<code>data-value</code>; the complete result is in this file as JSON.</footer>
<script type="application/json" id="result">{markup.inert_json(content)}</script>
</body>
</html>
"""


def _policy(style: str) -> str:
    """Return a content security policy that allows this style sheet and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _header(facts: Facts) -> str:
    result, started = facts.result, facts.started
    parts = [f"method {markup.text(result.method)}"]
    if started is not None:
        parts.append(f"model {markup.text(started.model)}")
        if started.optimizer_model != started.model:
            parts.append(f"optimizer {markup.text(started.optimizer_model)}")
        parts.append(f"metric {markup.text(started.metric)}")
        parts.append(f"{started.train:,} train, {started.dev:,} dev, {started.test:,} test items")
    line = "".join(f"<span>{part}</span>" for part in parts)
    return f'<p class="run">lpo report · run <code>{markup.text(result.run_id)}</code></p><p class="setup">{line}</p>'


def _summary(facts: Facts, numbers: Numbers) -> str:
    result = facts.result
    verdict = explain_verdict(result)
    parts = [
        f'<p class="verdict {result.verdict}"><strong>{verdict.title}</strong></p>',
        f'<p class="lead">{verdict.paragraph}</p>',
    ]
    if result.status != "completed":
        reason = markup.text(result.stop_reason)
        parts.append(
            f'<p class="warn">This run is {result.status}: {reason}. The report shows what there was by then.</p>'
        )
    parts += [_tiles(facts, numbers), _scores(facts, numbers), _power(facts, numbers)]
    if result.notes:
        parts.append(f'<ul class="notes">{"".join(f"<li>{markup.text(note)}</li>" for note in result.notes)}</ul>')
    return "".join(parts)


def _tiles(facts: Facts, numbers: Numbers) -> str:
    """Return the found prompt's gains over the seed prompt: on test items, and on dev items not used for any choice."""
    result, tiles = facts.result, []
    for key, title, what in (
        ("test_delta", "Gain on test", "unused test item"),
        ("confirmation", "Gain on fresh dev items", "dev item not used for any choice"),
    ):
        if getattr(result, key) is None:
            continue
        n = numbers.at(f"{key}.n")
        shown = what if n == 1 else what.replace("item", "items")
        tiles.append(
            f'<div class="tile"><h3>{title}</h3><p class="big">{numbers.show(f"{key}.mean", "signed")}</p>'
            f"<p>95 % interval {numbers.interval(f'{key}.ci95', 'signed')}</p>"
            f"<p>p-value {numbers.show(f'{key}.p_value', 'p')}, "
            f"on {numbers.show(f'{key}.n', 'count')} {shown}</p></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _scores(facts: Facts, numbers: Numbers) -> str:
    names = {"seed": "seed prompt", "best": "best prompt", "challenger": "challenger"}
    who = ["seed", *(["best"] if facts.found_key == "best" and facts.found else [])]
    who += ["challenger"] if facts.result.challenger is not None else []
    rows = []
    for split in ("test", "dev"):
        for name in who:
            score = getattr(getattr(facts.result, name), split)
            if score is None or score.mean is None:
                continue
            key = f"{name}.{split}"
            missing = f", {numbers.show(f'{key}.unscored', 'count')} unscored" if score.unscored else ""
            bar = charts.whisker(score.mean, score.ci95, (0.0, 1.0), name, 240)
            rows.append(
                f"<tr><th>{names[name]}<small>on {split}</small></th>"
                f'<td class="num big">{numbers.show(f"{key}.mean", "mean")}</td>'
                f'<td class="bar">{bar}<small>{numbers.interval(f"{key}.ci95")}, '
                f"{numbers.things(f'{key}.n', 'item')}{missing}</small></td></tr>"
            )
    if not rows:
        return '<p class="quiet">No prompt was scored on a whole split.</p>'
    head = "<thead><tr><th>prompt</th><th>mean</th><th>0 to 1, with the 95 % interval</th></tr></thead>"
    return f'<table class="scores">{head}<tbody>{"".join(rows)}</tbody></table>'


def _power(facts: Facts, numbers: Numbers) -> str:
    """Return how large a gain the test can detect (statistical power)."""
    if facts.result.power is None:
        return ""
    return (
        f'<p class="quiet">Power: with {numbers.things("power.test_n", "test item")}, the test detects a gain of '
        f"{numbers.show('power.shows', 'mean')} with a probability of 80 %. To detect a gain of "
        f"{numbers.show('power.looked_for', 'mean')}, it needs {numbers.things('power.needed', 'item')}, if two "
        f"prompts differ on {numbers.show('power.discordant', 'percent')} of them.</p>"
    )


SECTIONS: Final[Mapping[str, tuple[str, Section]]] = {
    "summary": ("Summary", _summary),
    "diff": ("What changed", prompts.diff),
    "edits": ("What each edit is worth", prompts.edits),
    "places": ("Where edits improved the score", prompts.places),
    "tree": ("Which prompt came from which", search.branches),
    "curve": ("Score by calls", search.curve),
    "items": ("Test items one by one", prompts.items),
    "front": ("Best prompts by score and length", search.front),
    "locality": ("How local the edits were", search.locality),
    "spend": ("What it cost", search.spend),
}
