"""Metrics that compare the reply with the target by a rule: exact, normalized, contains, numeric, f1, json, regex."""

from __future__ import annotations

import json
import math
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Never

from lpo_agent.errors import ConfigError, MetricError
from lpo_agent.metrics.base import Judgement, all_or_nothing, quoted, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.core.messages import Row
    from lpo_agent.metrics.base import MetricSetting

_N: Final = r"(?:(?<![\w)])[-+])?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+\b)?"
NUMBER: Final = re.compile(_N)
_CALCULATION: Final = re.compile(rf"(?:{_N}\s*[-+*/x\u00d7\u00f7]\s*)+{_N}\s*=\s*")
_CUE: Final = re.compile(r"####|answer\s*(?:is|:|=)", re.IGNORECASE)
_ARTICLES: Final = {"a", "an", "the"}
_EDGE: Final = string.punctuation + "\u2018\u2019\u201c\u201d\u00ab\u00bb"
_NUMBER_EDGE: Final = "".join(set(_EDGE) - set("-."))
_FENCE: Final = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_BEFORE: Final = r"(?<![\w-])(?:(?<!\d[.,])|(?!\d))"
_AFTER: Final = r"(?!\w|[.,]\d)"


def as_whole_words(pattern: str, text: str) -> str:
    """Return ``pattern``, which matches ``text``, restricted to matches of whole words and numbers.

    "toxic" does not match in "non-toxic", nor 5 in -5, 1.5 or 5,000. An end that is punctuation is not restricted.
    """
    return (_BEFORE if text[:1].isalnum() else "") + pattern + (_AFTER if text[-1:].isalnum() else "")


@dataclass(frozen=True, slots=True)
class ComparisonMetric:
    """A metric that calls ``compare(output, target)``, a pure function."""

    name: str
    compare: Callable[[str, str], Judgement]

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the comparison's judgement; raises MetricError if the target does not fit the metric."""
        return self.compare(output, row.target)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The metric regex: the first group of ``pattern`` (or its whole match) in the reply must equal the target.

    Without a pattern, each row's target is a regular expression that must match somewhere in the reply.
    """

    pattern: re.Pattern[str] | None = None
    name: str = "regex"

    def set_up(self, setting: MetricSetting) -> Pattern:
        """Return the metric with the setting's pattern; raises ConfigError if that is no regular expression."""
        if setting.pattern is None:
            return self
        try:
            return Pattern(re.compile(setting.pattern), self.name)
        except re.error as exc:
            reason = f"{setting.pattern!r} is not a regular expression: {exc}"
            raise ConfigError(f"metric regex: {reason}") from None

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return 1 for a match, otherwise 0; raises MetricError if the target is used as pattern and is invalid."""
        if self.pattern is None:
            found = _compiled(row.target).search(output)
            return all_or_nothing("the wanted pattern is not in the reply", right=found is not None)
        found = self.pattern.search(output)
        if found is None:
            return Judgement(0.0, f"expected {quoted(row.target)}, the pattern is not in the reply")
        value = (found[1] if self.pattern.groups else found[0]) or ""
        feedback = f"expected {quoted(row.target)}, the pattern finds {quoted(value)}"
        return all_or_nothing(feedback, right=value.strip() == row.target.strip())


def _compiled(target: str) -> re.Pattern[str]:
    try:
        return re.compile(target)
    except re.error as exc:
        raise MetricError(
            f"the target is not a regular expression ({exc}); correct it or choose another metric"
        ) from None


def normalize(text: str) -> str:
    """Return the text in lower case, without articles, punctuation at word edges and extra white space.

    Full-width characters are converted to ordinary ones. If nothing else would be left ("A", "(A)", ") ]"),
    articles are kept, or all of the text.
    """
    words = _words(text)
    return " ".join([word for word in words if word not in _ARTICLES] or words or text.split())


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [bare for word in folded.split() if (bare := _bare(word))]


def _bare(word: str) -> str:
    """Return a word without punctuation at its edges; a number keeps a sign or decimal point at its start."""
    bare = word.strip(_EDGE)
    return word.rstrip(_EDGE).lstrip(_NUMBER_EDGE) if bare[:1].isdigit() else bare


def _exact(output: str, target: str) -> Judgement:
    hint = "; the reply differs in case, punctuation or spaces" if normalize(output) == normalize(target) else ""
    return all_or_nothing(f"expected exactly {quoted(target)}{hint}", right=output.strip() == target.strip())


def _normalized(output: str, target: str) -> Judgement:
    hint = "; the reply says more than that" if target.strip() and _has(output, target) else ""
    return all_or_nothing(f"expected {quoted(target)}{hint}", right=normalize(output) == normalize(target))


def _contains(output: str, target: str) -> Judgement:
    return all_or_nothing(f"the reply does not contain {quoted(target)}", right=_has(output, target))


def _has(output: str, target: str) -> bool:
    wanted, given = normalize(target), normalize(output)
    if not _words(target):
        given = " ".join(output.split())
    elif wanted in _ARTICLES:
        given = " ".join(_words(output))
    return re.search(as_whole_words(re.escape(wanted), wanted), given) is not None


def number_in(text: str) -> float | None:
    """Return the number that a text gives as its answer, None if it contains no number.

    It is the first number after the last "answer is", "answer:" or "####", or else the last number of the
    text. After such a marker, a calculation counts by its result: "2 + 3 = 5" gives 5. Commas, $, % and a full
    stop at the end are ignored.
    """
    text = text.replace("\u2212", "-")
    cues = list(_CUE.finditer(text))
    after = NUMBER.search(_CALCULATION.sub("", text[cues[-1].end() :], count=1)) if cues else None
    every = NUMBER.findall(text)
    found = after[0] if after else every[-1] if every else None
    return None if found is None else float(found.replace(",", "").replace("$", ""))


def _numeric(output: str, target: str) -> Judgement:
    wanted, given = number_in(target), number_in(output)
    if wanted is None:
        raise MetricError(f"the target {quoted(target)} is not a number; choose another metric")
    if given is None:
        return Judgement(0.0, f"expected {wanted:.10g}, the reply has no number")
    same = math.isclose(wanted, given, rel_tol=1e-9, abs_tol=1e-6)
    return all_or_nothing(f"expected {wanted:.10g}, the reply's number is {given:.10g}", right=same)


def _f1(output: str, target: str) -> Judgement:
    """Return the F1 of the words in common (SQuAD, Rajpurkar et al. 2016)."""
    given, wanted = normalize(output).split(), normalize(target).split()
    if not given or not wanted:
        return all_or_nothing(f"expected {quoted(target)}", right=given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    value = 2 * common / (len(given) + len(wanted))
    share = f"{common} of {len(wanted)} expected words are among the reply's {len(given)}"
    return Judgement(value, "" if value == 1 else short(f"expected {quoted(target)}, {share}"))


def _json(output: str, target: str) -> Judgement:
    try:
        wanted = _decoded(target)
    except ValueError:
        raise MetricError(f"the target {quoted(target)} is not JSON; choose another metric") from None
    for text in [output, *_FENCE.findall(output)]:
        try:
            same = _decoded(text) == wanted
        except ValueError:
            continue
        return all_or_nothing(f"the reply is JSON, but does not equal {quoted(target)}", right=same)
    return Judgement(0.0, "the reply is not JSON, and holds no fenced block of JSON")


def _decoded(text: str) -> object:
    """Return a JSON value in a form in which true does not equal 1; raises ValueError."""
    try:
        return _typed(json.loads(text, parse_constant=_refuse))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _typed(value: Any) -> object:
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return (bool, value) if isinstance(value, bool) else value


EXACT: Final = ComparisonMetric("exact", _exact)
NORMALIZED: Final = ComparisonMetric("normalized", _normalized)
CONTAINS: Final = ComparisonMetric("contains", _contains)
NUMERIC: Final = ComparisonMetric("numeric", _numeric)
F1: Final = ComparisonMetric("f1", _f1)
JSON: Final = ComparisonMetric("json", _json)
REGEX: Final = Pattern()
