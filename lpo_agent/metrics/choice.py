"""The metric choice: checks which of a few labels a reply chooses."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.errors import MetricError
from lpo_agent.metrics.base import Judgement, all_or_nothing, quoted
from lpo_agent.metrics.rules import as_whole_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpo_agent.core.messages import Row
    from lpo_agent.metrics.base import MetricSetting

_OPTION: Final = re.compile(r"\(?([A-Za-z])\)?")
_LISTED_OPTION: Final = re.compile(r"\(([A-Za-z])\)")
_PAIRS: Final = (("yes", "no"), ("true", "false"))


@dataclass(frozen=True, slots=True)
class Choice:
    """Returns 1 if the reply chooses the target. Case, and punctuation between words, are ignored.

    A reply chooses the label that it starts with, otherwise the only label that it names. A reply that names
    no label or several labels chooses none. Punctuation counts if two labels differ in nothing else (C, C++).
    Labels of one letter are named as ``(A)``, or by the letter in the label's case; letters that a row's input
    lists as ``(A)`` count as labels too.

    Without ``labels``, they are derived from the target: A to E, yes and no, true and false, or the target
    alone.
    """

    labels: tuple[str, ...] = ()
    name: str = "choice"

    def set_up(self, setting: MetricSetting) -> Choice:
        """Return the metric with the setting's labels."""
        return Choice(setting.labels, self.name)

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return 1 if the target is chosen; raises MetricError for an empty target."""
        if not row.target.strip():
            raise MetricError("the target is empty, so no reply can choose it; choose another metric")
        labels = _by_key([*_listed(row), *(self.labels or _usual(row.target)), row.target])
        start, named = _mentions(output, labels)
        chosen = start or (next(iter(named)) if len(named) == 1 else None)
        if chosen is not None:
            found = f"chooses {quoted(labels[chosen])}"
        else:
            found = "names several labels" if named else "names none of the labels"
        return all_or_nothing(f"expected {quoted(row.target)}, the reply {found}", right=chosen == _key(row.target))


def _key(label: str) -> str:
    """Return the normal form of a label, the same for all of its spellings: "(A)" becomes "a"."""
    folded = unicodedata.normalize("NFKC", label).strip().casefold()
    option = _OPTION.fullmatch(folded)
    return option[1] if option else folded


def _by_key(labels: Iterable[str]) -> dict[str, str]:
    """Return the labels by key, the longest first, so that "not valid" is tried before "not"."""
    found = {_key(label): unicodedata.normalize("NFKC", label).strip() for label in labels if label.strip()}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _listed(row: Row) -> list[str]:
    """Return the options that a row's input lists as ``(A)``, if the target is such an option."""
    if not _OPTION.fullmatch(_key(row.target)):
        return []
    return [letter for text in row.variables.values() for letter in _LISTED_OPTION.findall(text)]


def _usual(target: str) -> tuple[str, ...]:
    """Return the usual set of labels that this target belongs to, empty if there is none."""
    if _OPTION.fullmatch(_key(target)):
        return tuple("ABCDE")
    return next((pair for pair in _PAIRS if _key(target) in pair), ())


def _mentions(output: str, labels: dict[str, str]) -> tuple[str | None, set[str]]:
    """Return the key of the label that a reply starts with, and the keys of all that it names."""
    text, keys = unicodedata.normalize("NFKC", output), list(labels)
    alike = Counter(_plain(key) for key in keys)
    patterns = [f"({_pattern(label, exactly=alike[_plain(key)] > 1)})" for key, label in labels.items()]
    found = list(re.finditer("|".join(patterns), text, re.IGNORECASE))
    named = [keys[(match.lastindex or 1) - 1] for match in found]
    at_start = bool(found) and not re.search(r"\w", text[: found[0].start()])
    return named[0] if at_start else None, set(named)


def _plain(label: str) -> str:
    return " ".join(re.findall(r"\w+", label))


def _pattern(label: str, *, exactly: bool) -> str:
    """Return a regular expression that finds a label in a reply, with its punctuation if ``exactly``."""
    if option := _OPTION.fullmatch(label):
        return _option_pattern(option[1])
    words = [re.escape(word) for word in re.findall(r"\w+", label)]
    return as_whole_words(re.escape(label) if exactly or not words else r"[\W_]+".join(words), label)


def _option_pattern(letter: str) -> str:
    """Return a regular expression that finds an option: ``(b)``, ``b)`` or ``b.`` at the start, or ``B`` as a word.

    A and I before a lower-case word are words of a sentence, not options.
    """
    first = rf"\A\W*{letter}(?=[^\S\n]*(?:[^\w\s'\u2019]|\n|\Z))"
    word = r"(?!\s+[a-z])" if letter in "AaI" else ""
    return rf"\({letter}\)|{first}|(?-i:{as_whole_words(letter, letter)}(?!['\u2019]\w){word})"


CHOICE: Final = Choice()
