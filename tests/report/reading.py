"""Parses a report page into elements with attributes and texts, for tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "img", "link", "input", "hr"}
CLOSED = {"path", "circle", "rect", "line"}


@dataclass
class Element:
    """An element with all the text inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: tuple[str, ...] = ()


@dataclass
class Page:
    """All elements of a page in the order of their starts, and the text outside style and script."""

    elements: list[Element] = field(default_factory=list)
    bare: str = ""

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def keyed(self) -> list[Element]:
        return [element for element in self.elements if "data-key" in element.attributes]

    @property
    def keys(self) -> set[str]:
        return {str(element.attributes["data-key"]) for element in self.keyed()}

    @property
    def titles(self) -> list[str]:
        return [element.text for element in self.all("h2")]

    @property
    def embedded(self) -> Any:
        (script,) = self.all("script")
        return json.loads(script.text)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page, self.open = Page(), list[Element]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len({name for name, _ in attrs}), "an attribute is given twice"
        element = Element(tag, dict(attrs), inside=tuple(each.tag for each in self.open))
        self.page.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED, tag
        self.page.elements.append(Element(tag, dict(attrs), inside=tuple(each.tag for each in self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data
        hidden = any(each.tag in {"style", "script"} or "data-key" in each.attributes for each in self.open)
        self.page.bare += "" if hidden else data


def read(page: str) -> Page:
    """Read a page; raises AssertionError where its elements do not nest."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader.page


def lookup(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[int(part)] if isinstance(content, list) else content[part]
    return content


def agrees(shown: str, value: float) -> bool:
    """Tell whether a shown number is the value, rounded to the digits that are shown."""
    shown = shown.replace("\N{MINUS SIGN}", "-").replace(",", "").replace("$", "").strip()
    if shown.startswith("<"):
        return value < float(shown[1:])
    if clock := re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d) (?:min|h)", shown):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return abs(hours * 3600 + minutes * 60 + seconds - value) <= 0.5
    unit = 0.01 if shown.endswith("%") else 1.0
    digits = re.fullmatch(r"([+-]?)(\d+)(?:\.(\d+))?(?:e-\d+)?(?:%| s)?", shown)
    assert digits, f"{shown!r} is no number"
    number = float(re.sub("[% s]", "", shown)) * unit
    signed = digits[1] != "+" or value > 0
    return signed and abs(number - value) <= 0.5 * 10.0 ** -len(digits[3] or "") * unit + 1e-9
