"""Numbers, durations and foreign text as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.core.beam_options import BEAM_METHODS
from lpo_agent.report.markup import dollars

if TYPE_CHECKING:
    from lpo_agent.core.result import TestDelta, UsageResult
    from lpo_agent.core.scores import Score

UNKNOWN_PRICE = "price unknown (give it with --prices FILE)"


def mean(value: float | None) -> str:
    """Return a score in [0, 1] with two decimals."""
    return "none" if value is None else f"{value:.2f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Return a 95 % interval of a score."""
    return "none" if bounds is None else f"{bounds[0]:.2f}..{bounds[1]:.2f}"


def score(value: Score | None) -> str:
    """Return a score with what it rests on."""
    if value is None or value.n == 0:
        return "not scored"
    missing = f", {value.unscored} unscored" if value.unscored else ""
    return f"{mean(value.mean)} on {count(value.n, 'item')} (95 % {interval(value.ci95)}{missing})"


def count(number: int, noun: str) -> str:
    """Return a number of things, such as "1 test item" or "2,000 test items"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shape(method: str, branches: int, steps: int) -> str:
    """Return how large a search is, in the words of its method."""
    if method in BEAM_METHODS:
        return count(steps, "step")
    return f"{branches} {'branch' if branches == 1 else 'branches'} x {count(steps, 'step')}"


def difference(delta: TestDelta) -> str:
    """Return a paired difference with its interval and p-value."""
    low, high = delta.ci95
    return f"{delta.mean:+.2f} (95 % interval {low:+.2f}..{high:+.2f}, {p_value(delta.p_value)})"


def p_value(value: float) -> str:
    """Return a p-value with two digits that count."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def money(usd: float | None) -> str:
    """Return US dollars; a price that is not known is said, not guessed."""
    if usd is None:
        return UNKNOWN_PRICE
    return dollars(usd)


def calls(usage: UsageResult) -> str:
    """Return what was asked of models."""
    return f"{usage.calls:,} calls, {usage.cached_calls:,} cached, {usage.failed_calls:,} failed"


def tokens(usage: UsageResult) -> str:
    """Return the tokens that were paid for, and those that broken calls may have cost."""
    unsure = f", at most {usage.unsure_tokens:,} more for calls that broke" if usage.unsure_tokens else ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{unsure}"


def roughly(seconds: float) -> str:
    """Return a guess of seconds with no more digits than it deserves."""
    return f"~{seconds:.0f} s" if seconds < 90 else f"~{seconds / 60:.0f} min"


def visible(text: str) -> str:
    """Return ``text`` with control characters (other than line ends and tabs) and halves of pairs spelled out.

    Prompts and replies come from models; they must not steer the terminal.
    """
    return "".join(c if c in "\n\t" or not _steers(c) else f"\\u{ord(c):04x}" for c in text)


def _steers(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def one_line(text: str) -> str:
    """Return ``text`` on one line, safe for a terminal."""
    return visible(" ".join(text.split()))
