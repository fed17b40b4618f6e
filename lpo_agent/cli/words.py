"""Formats numbers for people, and makes texts of models and users safe for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.report import dollars

if TYPE_CHECKING:
    from lpo_agent.results import FaultCounts, Score, TestDelta, UsageResult

UNKNOWN_PRICE = "price unknown (give it with --prices FILE)"


def mean(value: float | None) -> str:
    """Return a score in [0, 1] with two decimals."""
    return "none" if value is None else f"{value:.2f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Return a 95 % interval of a score."""
    return "none" if bounds is None else f"{bounds[0]:.2f}..{bounds[1]:.2f}"


def score(value: Score | None) -> str:
    """Return a score with its number of items and its interval."""
    if value is None or value.n == 0:
        return "not scored"
    missing = f", {value.unscored} unscored" if value.unscored else ""
    return f"{mean(value.mean)} on {count(value.n, 'item')} (95 % {interval(value.ci95)}{missing})"


def count(number: int, noun: str) -> str:
    """Return a number of things, such as "1 test item" or "2,000 test items"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def faults(found: FaultCounts) -> str:
    """Return what is wrong with answers, in short."""
    wrong = f"{found.form} with a wrong form, {found.content} with a wrong content"
    return f"of {count(found.rows, 'answer')}, {found.right} right, {wrong}"


def shape(branches: int, steps: int) -> str:
    """Return the size of a search: "4 branches x 3 steps", or "3 steps" if there is only one branch."""
    return count(steps, "step") if branches == 1 else f"{branches} branches x {count(steps, 'step')}"


def difference(delta: TestDelta) -> str:
    """Return a paired difference with its interval and p-value."""
    low, high = delta.ci95
    return f"{delta.mean:+.2f} (95 % interval {low:+.2f}..{high:+.2f}, {p_value(delta.p_value)})"


def p_value(value: float) -> str:
    """Return a p-value with two significant digits."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def money(usd: float | None) -> str:
    """Return an amount of US dollars, or a hint if the price is not known."""
    return UNKNOWN_PRICE if usd is None else dollars(usd)


def calls(usage: UsageResult) -> str:
    """Return the numbers of model calls."""
    return f"{usage.calls:,} calls, {usage.cached_calls:,} cached, {usage.failed_calls:,} failed"


def tokens(usage: UsageResult) -> str:
    """Return the tokens that were paid for, and those that failed calls may have cost."""
    unsure = f", at most {usage.unsure_tokens:,} more for failed calls" if usage.unsure_tokens else ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{unsure}"


def roughly(seconds: float) -> str:
    """Return a rough duration, in seconds or minutes."""
    return f"~{seconds:.0f} s" if seconds < 90 else f"~{seconds / 60:.0f} min"


def visible(text: str) -> str:
    """Return ``text`` with control characters (other than line ends and tabs) and lone surrogates as escapes.

    Prompts and replies come from models, and their control characters could change what the terminal shows.
    """
    return "".join(c if c in "\n\t" or not _is_control(c) else f"\\u{ord(c):04x}" for c in text)


def _is_control(character: str) -> bool:
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000


def one_line(text: str) -> str:
    """Return ``text`` on one line, safe for a terminal."""
    return visible(" ".join(text.split()))
