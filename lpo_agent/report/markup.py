"""Text and numbers as HTML: escapes text, and gives each number its path in the result and its exact value.

All text that comes from a run must go through :func:`text` or :func:`plain`; ``tests/report/test_page.py`` checks
whole pages made from hostile texts.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Form = Literal["mean", "signed", "count", "percent", "p", "money", "time", "about"]

_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, characters that are invisible or change the direction of text, and unpaired surrogates.

Zero-width joiners are not among them, because emoji and some scripts need them."""


def text(content: str) -> str:
    """Return text as HTML; invisible and control characters are shown by their code, such as U+202E."""
    escaped = html.escape(content, quote=True)
    return _INVISIBLE.sub(lambda match: f'<span class="odd">U+{ord(match[0]):04X}</span>', escaped)


def plain(content: str) -> str:
    """Return text for an attribute or an SVG title, where no elements are possible; see :func:`text`."""
    return html.escape(_INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", content), quote=True)


def inert_json(value: object) -> str:
    """Return JSON for a script element, with "<", ">" and "&" escaped, so that it cannot end the element."""
    encoded = json.dumps(value, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plural(number: int, noun: str) -> str:
    """Return the noun, with an "s" unless the number is 1."""
    return noun if number == 1 else f"{noun}s"


def count(number: int, noun: str) -> str:
    """Return a number that is not part of the result with its noun, such as "2 items"."""
    return f"{number:,} {plural(number, noun)}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Shows numbers of a result; ``content`` is the result as JSON. A key is a path such as ``search.curve.0.1``."""

    content: dict[str, Any]

    def at(self, key: str) -> Any:
        """Return the value at a path; raises KeyError or IndexError if there is none."""
        found: Any = self.content
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found

    def show(self, key: str, form: Form, tag: str = "span") -> str:
        """Return an element with the rounded number, and with its path and exact value as attributes."""
        value = self.at(key)
        if value is None:
            return '<span class="none">none</span>'
        return (
            f'<{tag} class="n" data-key="{plain(key)}" data-value="{json.dumps(value)}">{FORMATS[form](value)}</{tag}>'
        )

    def things(self, key: str, noun: str) -> str:
        """Return the number at a path with its noun."""
        return f"{self.show(key, 'count')} {plural(self.at(key), noun)}"

    def interval(self, key: str, form: Form = "mean") -> str:
        """Return the 95 % interval at a path, or "no interval" if it is None."""
        if self.at(key) is None:
            return '<span class="none">no interval</span>'
        return f'<span class="ci">{self.show(f"{key}.0", form)} to {self.show(f"{key}.1", form)}</span>'


def signed(value: float) -> str:
    """Return a difference with its sign and two decimals; negative ones have a minus sign, not a hyphen."""
    shown = f"{value:+.2f}"
    return "0.00" if shown in {"+0.00", "-0.00"} else shown.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Return seconds as "8.1 s", "1:05 min" or "2:00:05 h"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


def _p_value(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def dollars(usd: float) -> str:
    """Return an amount of US dollars with two decimals, or with four if it is less than a dollar."""
    return f"${usd:.2f}" if usd == 0 or usd >= 1 else f"${usd:.4f}"


FORMATS: Final[Mapping[Form, Callable[[float], str]]] = {
    "mean": "{:.2f}".format,
    "signed": signed,
    "count": "{:,}".format,
    "percent": "{:.0%}".format,
    "p": _p_value,
    "money": dollars,
    "time": duration,
    "about": "{:,.0f}".format,
}
