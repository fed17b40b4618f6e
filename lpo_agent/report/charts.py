"""Draws the report's charts as inline SVG: the score curve, the scatter plot, intervals and the tree of prompts.

Elements have classes instead of inline styles, which the page's security policy forbids; the style sheet colours
them for light and dark screens. Each chart is drawn for a width in pixels, once for wide and once for narrow screens.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.report import markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lpo_agent.report.lineage import Line, Node, Tree

WIDE: Final = 760
NARROW: Final = 344
ROW_HEIGHT: Final = 24
MARK_ROW_HEIGHT: Final = 17
MARK_WIDTH: Final = 13
FATES: Final = {
    "dropped": "dropped as worse",
    "outrun": "outrun by others",
    "finished": "finished, not better",
    "promoted": "better on its items",
    "scored": "scored, not kept",
    "not scored": "not scored",
}
"""How the scoring of a candidate ended, as events name it, with the words for it in the legend."""


class Frame(NamedTuple):
    """The coordinates of a plot: its size in pixels, and the values at the edges of its plotting area."""

    width: int
    height: int
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        """Return the horizontal position of a value, in pixels."""
        return round(LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the vertical position of a value, in pixels."""
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)


LEFT, RIGHT, TOP, BOTTOM = 46, 18, 14, 44
"""Margins around the plotting area, in pixels."""


def both(draw: Callable[[int], str]) -> str:
    """Return a chart drawn twice: for wide screens and paper, and for narrow screens."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round values between ``low`` and ``high``: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of an axis for scores: theirs with a margin, but within 0 and 1 if all scores are."""
    low, high = min(values), max(values)
    room = max(0.05, (high - low) * 0.15, 0.1 - (high - low) / 2)
    return (max(0.0, low - room) if low >= 0 else low - room, min(1.0, high + room) if high <= 1 else high + room)


def svg(width: int, height: float, body: str, label: str) -> str:
    """Return an SVG element; ``label`` describes it for screen readers."""
    size = f'width="{width}" height="{height:.0f}" viewBox="0 0 {width} {height:.0f}"'
    return f'<svg {size} role="img" aria-label="{markup.plain(label)}">{body}</svg>'


def axes(frame: Frame, x_label: str, y_label: str) -> str:
    """Return the axes of a plot: horizontal grid lines, tick values and the names of both axes."""
    parts = []
    for value in ticks(frame.low_y, frame.high_y):
        at = frame.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{frame.width - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for value in ticks(frame.low_x, frame.high_x, 6 if frame.width > 500 else 4):
        at, low = frame.x(value), frame.height - BOTTOM
        parts.append(f'<path class="axis" d="M{at} {low}v5"/>')
        parts.append(f'<text class="tick" x="{at}" y="{low + 19}" text-anchor="middle">{value:,.10g}</text>')
    low = frame.height - BOTTOM
    parts.append(f'<path class="axis" d="M{LEFT} {low}H{frame.width - RIGHT}"/>')
    middle = (LEFT + frame.width - RIGHT) / 2
    parts.append(f'<text class="name" x="{middle:.0f}" y="{frame.height - 6}" text-anchor="middle">{x_label}</text>')
    parts.append(f'<text class="name" x="{LEFT - 40}" y="-2">{y_label}</text>')
    return "".join(parts)


def curve(points: Sequence[tuple[float, float]], seed: float | None, labels: tuple[str, str], width: int) -> str:
    """Return the best score by calls as a step line.

    ``points``: calls and score. ``seed``: the seed prompt's score, drawn as a horizontal line. ``labels``:
    SVG text for that line and for the last value; not escaped here.
    """
    top = max(calls for calls, _ in points)
    low, high = padded([*(value for _, value in points), *([] if seed is None else [seed])])
    frame = Frame(width, 270, 0.0, max(1.0, top * 1.02), low, high)
    path = f"M{frame.x(points[0][0])} {frame.y(points[0][1])}"
    last = points[0][1]
    for calls, value in points[1:]:
        if value != last:
            path += f"H{frame.x(calls)}V{frame.y(value)}"
            last = value
    end = frame.x(top), frame.y(last)
    parts = [axes(frame, "model calls of the search", "best mean so far")]
    if seed is not None:
        at = frame.y(seed)
        parts.append(f'<path class="seedline" d="M{LEFT} {at}H{width - RIGHT}"/>')
        beside = at - 7 if at + 20 > frame.height - BOTTOM else at + 16
        parts.append(f'<text class="label" x="{LEFT + 6}" y="{beside:.1f}">{labels[0]}</text>')
    parts.append(f'<path class="curve" d="{path}H{end[0]}"/><circle class="end" cx="{end[0]}" cy="{end[1]}" r="4"/>')
    if seed is None or abs(frame.y(seed) - end[1]) > 14:
        above = end[1] - 9 if end[1] > 28 else end[1] + 18
        parts.append(
            f'<text class="label strong" x="{end[0] - 10:.1f}" y="{above:.1f}" text-anchor="end">{labels[1]}</text>'
        )
    return svg(width, 286, f'<g transform="translate(0 14)">{"".join(parts)}</g>', "Best mean score by model calls")


def scatter(points: Sequence[tuple[float, float]], ours: Sequence[int], width: int) -> str:
    """Return scores by tokens; ``points``: tokens and score, ``ours``: the indices of the points to highlight."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    room = max(1.0, (max(xs) - min(xs)) * 0.1)
    frame = Frame(width, 250, max(0.0, min(xs) - room), max(xs) + room, *padded(ys))
    parts = [axes(frame, "tokens of one call (estimated)", "mean on dev")]
    for number, (x, y) in enumerate(points):
        at_x, at_y, kind = frame.x(x), frame.y(y), "point strong" if number in ours else "point"
        parts.append(f'<circle class="{kind}" cx="{at_x}" cy="{at_y}" r="9"/>')
        parts.append(f'<text class="inpoint" x="{at_x}" y="{at_y + 4:.1f}" text-anchor="middle">{number + 1}</text>')
    return svg(width, 266, f'<g transform="translate(0 14)">{"".join(parts)}</g>', "Score by tokens of one call")


def whisker(mean: float, bounds: Sequence[float] | None, span: tuple[float, float], kind: str, width: int) -> str:
    """Return a mean with its interval (``bounds``) on a scale from ``span[0]`` to ``span[1]``; 0 has a vertical line.

    ``kind``: the class that gives the colour.
    """
    low, high = span

    def at(value: float) -> float:
        return round(7 + (min(max(value, low), high) - low) / (high - low) * (width - 14), 1)

    parts = [f'<path class="rail" d="M7 12H{width - 7}"/>']
    if low < 0 < high:
        parts.append(f'<path class="zero" d="M{at(0)} 3V21"/>')
    if bounds is not None:
        left, right = at(bounds[0]), at(bounds[1])
        parts.append(f'<path class="ci {kind}" d="M{left} 12H{right}M{left} 7v10M{right} 7v10"/>')
    parts.append(f'<circle class="mean {kind}" cx="{at(mean)}" cy="12" r="5"/>')
    return svg(width, 24, "".join(parts), "mean and 95 % interval")


def tree(found: Tree, width: int) -> str:
    """Return the tree of prompts: one row per line of the tree, and below it marks for the prompts without a row."""
    deepest = max(line.depth for line in found.lines)
    indent = max(3.0, min(22.0, (width * 0.35) / max(1, deepest)))
    parts: list[str] = []
    tops: list[float] = []
    y = 16.0
    for line in found.lines:
        x = 12 + line.depth * indent
        tops.append(y)
        if line.above is not None:
            start = 12 + found.lines[line.above].depth * indent
            parts.append(f'<path class="branch" d="M{start:.1f} {tops[line.above] + 7:.1f}V{y:.1f}H{x - 7:.1f}"/>')
        parts.append(_row(line, x, y, width))
        y += ROW_HEIGHT
        drawn, rows = _rest(line.rest, x + 12, y, width, folded=found.folded)
        parts.append(drawn)
        y += rows * MARK_ROW_HEIGHT + (5 if rows else 0)
    return svg(width, y, "".join(parts), "Which prompt came from which")


def _row(line: Line, x: float, y: float, width: int) -> str:
    kind = "found" if line.found else "kept" if line.node is None or line.node.kept else "inner"
    title = "" if line.node is None or not line.node.text else f"<title>{markup.plain(line.node.text[:400])}</title>"
    label = f'<text class="label" x="{x + 12:.1f}" y="{y + 4:.1f}">{_label(line, width)}</text>'
    return f'<g><circle class="node {kind}" cx="{x:.1f}" cy="{y:.1f}" r="6">{title}</circle>{label}</g>'


def _label(line: Line, width: int) -> str:
    node = line.node
    if node is None:
        return '<tspan class="strong">seed prompt</tspan>' + (" = the answer" if line.found else "")
    score = "not scored" if node.mean is None else f"{node.mean:.2f}"
    parts = [f'<tspan class="strong">{score}</tspan>', f"step {node.step}"]
    if width >= WIDE:
        if node.parent_mean is not None:
            parts.insert(1, f"parent {node.parent_mean:.2f}")
        parts += [f"branch {node.branch}", markup.count(node.items, "item")]
        parts += [markup.plain(node.note[:40])] if node.note else []
    elif node.parent_mean is not None:
        parts.insert(1, f"was {node.parent_mean:.2f}")
    parts += ['<tspan class="strong">found</tspan>'] if line.found else []
    return " · ".join(parts)


def _rest(rest: Sequence[Node], x: float, y: float, width: int, *, folded: bool) -> tuple[str, int]:
    """Return marks for the prompts without a row (if ``folded``, their counts), and the number of lines they take."""
    if not rest:
        return "", 0
    if folded:
        counts = [f"{number} {FATES[fate]}" for fate, number in Counter(node.fate for node in rest).most_common()]
        lines = [", ".join(counts)] if width >= WIDE else [markup.count(len(rest), "other")]
        body = "".join(
            f'<text class="few" x="{x:.1f}" y="{y + n * MARK_ROW_HEIGHT:.1f}">{each}</text>'
            for n, each in enumerate(lines)
        )
        return body, len(lines)
    per_row = max(1, int((width - x - 8) // MARK_WIDTH))
    marks = "".join(
        _mark(node, x + 5 + number % per_row * MARK_WIDTH, y + number // per_row * MARK_ROW_HEIGHT - 2)
        for number, node in enumerate(rest)
    )
    return marks, -(-len(rest) // per_row)


def _mark(node: Node, x: float, y: float) -> str:
    """Return the sign for how a candidate's scoring ended, as in the legend."""
    score = "" if node.mean is None else f", {node.mean:.2f} on {markup.count(node.items, 'item')}"
    title = f"<title>step {node.step}, branch {node.branch}: {FATES[node.fate]}{score}</title>"
    return f'<g class="mark" transform="translate({x:.1f} {y:.1f})">{title}{SIGNS[node.fate]}</g>'


SIGNS: Final = {
    "dropped": '<path class="cross" d="M-3.5 -3.5L3.5 3.5M-3.5 3.5L3.5 -3.5"/>',
    "outrun": '<circle class="ring" r="3.8"/>',
    "finished": '<circle class="disc" r="3.8"/>',
    "promoted": '<path class="disc" d="M0 -5L5 4H-5Z"/>',
    "scored": '<circle class="disc" r="3.8"/>',
    "not scored": '<path class="cross" d="M-4 0H4"/>',
}


def legend(found: Tree) -> Iterator[tuple[str, str]]:
    """Yield each sign that is used in the tree with its meaning and how often it is used."""
    used = Counter(node.fate for line in found.lines for node in line.rest)
    for fate in used:
        sign = f'<g class="mark" transform="translate(8 8)">{SIGNS[fate]}</g>'
        yield svg(16, 16, sign, FATES[fate]), f"{FATES[fate]}: {used[fate]:,}"
