"""Text and numbers as HTML: nothing foreign gets through as markup, and every number says where it is from."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Form = Literal["mean", "signed", "count", "percent", "p", "money", "time", "about"]

_ODD: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that cannot be seen and steer what is around them, and halves of pairs; joiners are left alone."""


def text(content: str) -> str:
    """Return foreign text as HTML; characters that hide or turn text around are spelled out."""
    escaped = html.escape(content, quote=True)
    return _ODD.sub(lambda match: f'<span class="odd">U+{ord(match[0]):04X}</span>', escaped)


def plain(content: str) -> str:
    """Return foreign text for an attribute or an SVG title, where nothing can be set off."""
    return html.escape(_ODD.sub(lambda match: f"[U+{ord(match[0]):04X}]", content), quote=True)


def inert_json(value: object) -> str:
    """Return JSON that cannot end the script element that it stands in."""
    written = json.dumps(value, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plural(number: int, noun: str) -> str:
    """Return the form of a noun that goes with a number."""
    return noun if number == 1 else f"{noun}s"


def count(number: int, noun: str) -> str:
    """Return a number of things, one that stands in no result."""
    return f"{number:,} {plural(number, noun)}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Shows values of a result, ``content``, by their dotted path in it."""

    content: dict[str, Any]

    def at(self, key: str) -> Any:
        """Return the value at a path such as ``search.curve.0.1``; raises KeyError or IndexError."""
        found: Any = self.content
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found

    def show(self, key: str, form: Form, tag: str = "span") -> str:
        """Return an element with the number, rounded for people, that also holds its path and exact value."""
        value = self.at(key)
        if value is None:
            return '<span class="none">none</span>'
        return (
            f'<{tag} class="n" data-key="{plain(key)}" data-value="{json.dumps(value)}">{written(value, form)}</{tag}>'
        )

    def things(self, key: str, noun: str) -> str:
        """Return a number of things."""
        return f"{self.show(key, 'count')} {plural(self.at(key), noun)}"

    def interval(self, key: str, form: Form = "mean") -> str:
        """Return a 95 % interval, in words where it is not known."""
        if self.at(key) is None:
            return '<span class="none">no interval</span>'
        return f'<span class="ci">{self.show(f"{key}.0", form)} to {self.show(f"{key}.1", form)}</span>'


def written(value: float, form: Form) -> str:
    """Return a number as people read it."""
    return WRITERS[form](value)


def signed(value: float) -> str:
    """Return a difference with its sign; the minus is as wide as the plus."""
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
    """Return US dollars: cents, or four decimals where it is less than a dollar."""
    return f"${usd:.2f}" if usd == 0 or usd >= 1 else f"${usd:.4f}"


WRITERS: Final[Mapping[Form, Callable[[float], str]]] = {
    "mean": "{:.2f}".format,
    "signed": signed,
    "count": "{:,}".format,
    "percent": "{:.0%}".format,
    "p": _p_value,
    "money": dollars,
    "time": duration,
    "about": "{:,.0f}".format,
}
