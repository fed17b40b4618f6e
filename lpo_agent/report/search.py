"""The report's sections about the search: tree of prompts, progress, Pareto front, locality and cost.

Each function returns HTML, or "" if there is nothing to show.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.report import charts, markup
from lpo_agent.report.facts import cut

if TYPE_CHECKING:
    from lpo_agent.report.facts import Facts
    from lpo_agent.report.markup import Form, Numbers

MAX_RISES: Final = 40
MAX_FRONT: Final = 30
MAX_PROMPT: Final = 4000
"""Characters of a prompt that are shown."""
CURVE_POINT: Final[tuple[tuple[int, Form], ...]] = ((1, "mean"), (0, "count"))


def branches(facts: Facts, numbers: Numbers) -> str:
    """Return the tree of prompts."""
    tree = facts.tree
    if not tree.lines:
        return ""
    kept = len(tree.kept)
    signs = "".join(f"<li>{sign} {markup.text(words)}</li>" for sign, words in charts.legend(tree))
    total = numbers.things("search.candidates", "candidate")
    intro = (
        f"<p>{total} scored in the search. The search kept {kept:,} of {len(tree.nodes):,} different ones. Each of "
        "these has a row below the prompt that it was made from; a parent that was not kept itself has a hollow "
        "sign. The signs below a row are the other prompts made from it.</p>"
    )
    if tree.folded:
        intro += '<p class="quiet">There are too many prompts to draw each, so those without a row are counted.</p>'
    drawn = charts.both(partial(charts.tree, tree))
    return f'{intro}<div class="tree">{drawn}</div>' + (
        f'<ul class="legend">{signs}</ul>' if signs and not tree.folded else ""
    )


def curve(facts: Facts, numbers: Numbers) -> str:
    """Return the best score by the number of calls."""
    search = facts.result.search
    if len(search.curve) < 2:
        return ""
    seed_dev = facts.result.seed.dev
    own_seed = search.curve_on == "dev" and seed_dev is not None and seed_dev.mean is not None
    key, seed = ("seed.dev.mean", seed_dev.mean) if own_seed and seed_dev else ("search.curve.0.1", search.curve[0][1])
    last = len(search.curve) - 1
    start = f"{'seed prompt' if own_seed else 'at the start'} {numbers.show(key, 'mean', 'tspan')}"
    final, spent = (numbers.show(f"search.curve.{last}.{part}", form, "tspan") for part, form in CURVE_POINT)
    labels = start, f"{final} after {spent} calls"
    on = "the dev items" if search.curve_on == "dev" else "the training items that candidates were compared on"
    caution = "" if search.curve_on == "dev" else "; such means are too optimistic, and the test decides"
    drawn = charts.both(partial(charts.curve, search.curve, seed, labels))
    return (
        f"<p>The best mean so far on {on}{caution}. Calls are counted as if made one after another, "
        f"cached ones too.</p>{drawn}{_reached(facts, numbers)}{_rises(facts, numbers)}"
    )


def _reached(facts: Facts, numbers: Numbers) -> str:
    levels = facts.result.search.calls_to
    if not levels:
        return ""
    calls = {level: numbers.show(f"search.calls_to.{level}", "count") for level in levels}
    parts = [f"{markup.text(level.removesuffix('%'))} % of the gain by call {at}" for level, at in calls.items()]
    return f'<p class="quiet">{", ".join(parts)}.</p>'


def _rises(facts: Facts, numbers: Numbers) -> str:
    """Return the points at which the curve rises, as a table."""
    points = facts.result.search.curve
    rises = [n for n, (_, value) in enumerate(points) if n == 0 or value != points[n - 1][1] or n == len(points) - 1]
    rows = "".join(
        f'<tr><td class="num">{numbers.show(f"search.curve.{n}.0", "count")}</td>'
        f'<td class="num">{numbers.show(f"search.curve.{n}.1", "mean")}</td></tr>'
        for n in rises[-MAX_RISES:]
    )
    head = "<thead><tr><th>calls</th><th>best mean</th></tr></thead>"
    return f"<details><summary>The curve as numbers</summary><table>{head}<tbody>{rows}</tbody></table></details>"


def front(facts: Facts, numbers: Numbers) -> str:
    """Return the Pareto front: the prompts to which no other is preferable in score, words and tokens at once."""
    points = facts.result.front[:MAX_FRONT]
    if not points:
        return ""
    best = [n for n, point in enumerate(points) if point.prompt == facts.result.best.prompt]
    rows = []
    for n, point in enumerate(points):
        key = f"front.{n}"
        who = "best" if n in best else "seed" if point.prompt == facts.result.seed.prompt else ""
        name = f'<strong class="who">{who} prompt</strong>' if who else ""
        rows.append(
            f'<tr><td class="num">{n + 1}</td><td dir="auto">{name}<details><summary>'
            f"{markup.text(cut(' '.join(point.prompt.split()), 90))}</summary>"
            f'<div class="prompt" dir="auto">{markup.text(cut(point.prompt, MAX_PROMPT))}</div></details></td>'
            f'<td class="num">{numbers.show(f"{key}.dev.mean", "mean")}<small>'
            f"{numbers.interval(f'{key}.dev.ci95')}</small></td>"
            f'<td class="num">{numbers.show(f"{key}.words", "count")}</td>'
            f'<td class="num">{numbers.show(f"{key}.tokens", "about")}</td></tr>'
        )
    scored = [(point.tokens, point.dev.mean) for point in points if point.dev.mean is not None]
    drawn = charts.both(partial(charts.scatter, scored, best)) if len(scored) == len(points) > 1 else ""
    head = "<thead><tr><th>#</th><th>prompt</th><th>mean on dev</th><th>words</th><th>tokens</th></tr></thead>"
    more = len(facts.result.front) - len(points)
    rest = f'<p class="quiet">{more:,} more are in the JSON.</p>' if more else ""
    return (
        "<p>The Pareto front: for each of these prompts, no other that was scored on dev is at least as good in score, "
        "words and tokens, and better in one of them. Tokens are estimated for one call, prompt and answer together. "
        "Dev scores are too optimistic; only the seed prompt and the found one were tested.</p>"
        f"{drawn}"
        f'<table class="front">{head}<tbody>{"".join(rows)}</tbody></table>{rest}'
    )


LOCALITY: Final[tuple[tuple[str, str, Form], ...]] = (
    ("checked", "edits checked against their parent", "count"),
    ("violations", "of them changed text outside the marks", "count"),
    ("tagged_fraction", "of the words were open to change, on average", "percent"),
    ("length_ratio", "times the seed prompt's words in the best prompt", "mean"),
    ("proposals", "proposals", "count"),
    ("lost", "of them had no usable text", "count"),
    ("global_fallbacks", "made without marks, because there were none that could be used", "count"),
    ("tag_replies", "replies with tags or slots", "count"),
    ("malformed", "of these could not be used", "count"),
    ("leakage", "of the unmarked words changed, on average", "percent"),
    ("leakage_max", "at most", "percent"),
)
SPEND: Final[tuple[tuple[str, str, Form], ...]] = (
    ("calls", "calls of models", "count"),
    ("cached_calls", "answered from the journal", "count"),
    ("failed_calls", "failed", "count"),
    ("input_tokens", "tokens in", "count"),
    ("output_tokens", "tokens out", "count"),
    ("usd", "spent", "money"),
    ("wall_s", "of time", "time"),
    ("unsure_tokens", "more tokens at most, for calls that failed and may have been charged", "count"),
    ("unsure_usd", "more at most, for these calls", "money"),
)
KINDS: Final = {
    "enforce": "Text outside the marks could not change; each edit was checked, byte for byte.",
    "nudge": "The marks were advice and were not enforced.",
    "think": "There were no marks, but the model reasoned as much as it does to set marks.",
    "off": "There were no marks; whole prompts were rewritten.",
}


def locality(facts: Facts, numbers: Numbers) -> str:
    """Return how far changes were limited to the marked words."""
    found = facts.result.locality
    shown = [
        row for row in LOCALITY if getattr(found, row[0]) is not None and (row[0] in ALWAYS or getattr(found, row[0]))
    ]
    return f"<p>{KINDS[found.kind]}</p>" + _list("locality", shown, numbers)


ALWAYS: Final = {"checked", "violations", "length_ratio"}


def spend(facts: Facts, numbers: Numbers) -> str:
    """Return the calls, tokens, money and time that the run used."""
    used = facts.result.usage
    shown = [row for row in SPEND if getattr(used, row[0]) or not row[0].startswith("unsure")]
    if used.usd is None:
        shown = [row for row in shown if not row[0].endswith("usd")]
    price = '<p class="quiet">The price of a model is not known.</p>' if used.usd is None else ""
    search = [row for row in SEARCH if getattr(facts.result.search, row[0]) is not None]
    return _list("usage", shown, numbers) + _list("search", search, numbers) + price


SEARCH: Final[tuple[tuple[str, str, Form], ...]] = (
    ("scorings", "pairs of prompt and item scored by the search", "count"),
    ("optimizer_calls", "calls of the optimizer model in it", "count"),
)


def _list(part: str, rows: list[tuple[str, str, Form]], numbers: Numbers) -> str:
    cells = "".join(f"<li>{numbers.show(f'{part}.{name}', form)} {words}</li>" for name, words, form in rows)
    return f'<ul class="facts">{cells}</ul>' if cells else ""
