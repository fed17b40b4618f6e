"""How good is an answer? The named metrics, a language model as judge, and the caller's own.

A metric gives a value in [0, 1] and, where it helps, a few words of feedback for the critic.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, runtime_checkable

from anyio import to_thread

from lpo_agent.errors import ConfigError, LpoError, ReplyError
from lpo_agent.loading import load_function
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model

LONGEST_FEEDBACK: Final = 200
_NUMBER: Final = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_CUE: Final = re.compile(r"(?:####|answer\s*(?:is|:|=))", re.IGNORECASE)
_OPTION: Final = re.compile(r"\(([A-Za-z])\)")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_FENCE: Final = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)


class MetricError(LpoError):
    """A metric failed on one item, which is then unscored; the message gives the reason."""


class Judgement(NamedTuple):
    """A value in [0, 1] and what to tell the critic about it."""

    value: float
    feedback: str = ""


@runtime_checkable
class Metric(Protocol):
    """Anything that judges answers; raises MetricError for an item that it cannot judge."""

    async def judge(self, output: str, row: Row) -> Judgement:
        """Judge the task model's ``output`` for ``row``."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric that compares the output with the target by a pure function."""

    compare: Callable[[str, str], float]

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the comparison's value."""
        value = self.compare(output, row.target)
        return Judgement(value, "" if value >= 1 else f"expected {row.target!r}"[:LONGEST_FEEDBACK])


@dataclass(frozen=True, slots=True)
class Choice:
    """Which label does the reply choose? Labels are compared without case and punctuation.

    A reply chooses the label that it starts with, else the only label that it names; a reply that
    names several, or none, chooses nothing. Without ``labels``, options such as (A) are read.
    """

    labels: tuple[str, ...] = ()

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return 1 if the target is chosen."""
        chosen = self.chosen(output, row.target)
        if chosen == normalize(row.target):
            return Judgement(1.0)
        found = "names none of the labels, or several" if chosen is None else f"chooses {chosen!r}"
        return Judgement(0.0, f"expected {row.target!r}, the reply {found}"[:LONGEST_FEEDBACK])

    def chosen(self, output: str, target: str) -> str | None:
        """Return the chosen label, normalized, or None."""
        if not self.labels and _OPTION.fullmatch(target.strip()):
            options = {match.casefold() for match in _OPTION.findall(output)} or {output.strip(" .()").casefold()}
            return normalize(options.pop()) if len(options) == 1 else None
        text, labels = normalize(output), [normalize(label) for label in self.labels or (target,)]
        starts = [label for label in labels if _has_words(text, label, start=True)]
        named = {label for label in labels if _has_words(text, label)}
        named = {label for label in named if not any(label != other and label in other for other in named)}
        return max(starts, key=len) if starts else named.pop() if len(named) == 1 else None


def _has_words(text: str, words: str, *, start: bool = False) -> bool:
    return bool(words) and bool(re.search(rf"{'^' if start else chr(92) + 'b'}{re.escape(words)}(?!\w)", text))


@dataclass(frozen=True, slots=True)
class Pattern:
    """The first group of ``pattern`` (or its whole match) in the reply must equal the target.

    Without a pattern, each row's target is one, to be found anywhere in the reply.
    """

    pattern: re.Pattern[str] | None = None

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return 1 on a match; raises MetricError if the target is no regular expression."""
        try:
            pattern = self.pattern or re.compile(row.target)
        except re.error as exc:
            raise MetricError(f"row {row.id}: the target is no regular expression: {exc}") from None
        found = pattern.search(output)
        if self.pattern is None or found is None:
            return Judgement(float(found is not None), "" if found else "the pattern is not in the reply")
        value = found[1] if pattern.groups else found[0]
        return Judgement(
            float((value or "").strip() == row.target.strip()), f"the pattern finds {value!r}"[:LONGEST_FEEDBACK]
        )


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """A language model grades the answer from 0 to 10; its reason is the feedback."""

    model: Model

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the grade over 10; raises MetricError after one re-ask, and ProviderError."""
        from lpo_agent.agents.asking import ask  # noqa: PLC0415 - agents stand above metrics

        template = load("judge", {"input", "target", "output"})
        given = "\n".join(row.variables.values())
        question = template.substitute(input=fenced(given), target=fenced(row.target), output=fenced(output))
        try:
            return await ask(self.model, question, _grade, max_tokens=200, temperature=0.0, replicate=0)
        except ReplyError as exc:
            raise MetricError(f"the judge gave no grade: {exc}") from None


def _grade(reply: str) -> Judgement:
    reason, _, last = reply.strip().rpartition("\n")
    if not re.fullmatch(r"\W*(?:10|\d)(?:\s*/\s*10)?\W*", last):
        raise ReplyError("the last line is not a whole number from 0 to 10")
    return Judgement(int(re.findall(r"\d+", last)[0]) / 10, reason.strip()[:LONGEST_FEEDBACK])


@dataclass(frozen=True, slots=True)
class Custom:
    """The caller's ``function(output, target, row)``, plain (run in a worker thread) or async.

    It returns a number in [0, 1], or a pair of that and feedback.
    """

    function: Callable[..., Any]

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the function's value; raises MetricError if it raises or returns something else."""
        content = {**row.variables, "target": row.target}
        try:
            if inspect.iscoroutinefunction(self.function):
                value = await self.function(output, row.target, content)
            else:
                value = await to_thread.run_sync(self.function, output, row.target, content, abandon_on_cancel=True)
        except LpoError:
            raise
        except Exception as exc:  # the caller's code is a boundary too: it may raise anything
            raise MetricError(f"the metric raised {type(exc).__name__}") from exc
        return _judgement(value)


def _judgement(returned: object) -> Judgement:
    value, feedback = returned if isinstance(returned, tuple | list) and len(returned) == 2 else (returned, "")
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise MetricError(f"the metric returned {type(value).__name__}, not a number from 0 to 1 (or a pair)")
    return Judgement(float(value), str(feedback)[:LONGEST_FEEDBACK])


def normalize(text: str) -> str:
    """Fold case, width, punctuation at word edges, articles and white space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = (word.strip(string.punctuation) for word in _ARTICLES.sub(" ", folded).split())
    return " ".join(word for word in words if word)


def _contains(output: str, target: str) -> float:
    return float(_has_words(normalize(output), normalize(target)))


def number_in(text: str) -> float | None:
    """Return the number that a text gives as its answer: the last, or the first after "answer is"/"####"."""
    cues = list(_CUE.finditer(text))
    after = _NUMBER.search(text, cues[-1].end()) if cues else None
    every = _NUMBER.findall(text)
    found = after[0] if after else every[-1] if every else None
    return None if found is None else float(found.replace(",", ""))


def _numeric(output: str, target: str) -> float:
    wanted, given = number_in(target), number_in(output)
    if wanted is None:
        raise MetricError(f"the target {target[:40]!r} is not a number")
    return float(given is not None and math.isclose(wanted, given, rel_tol=1e-9, abs_tol=1e-6))


def _f1(output: str, target: str) -> float:
    """Return the F1 of the words in common (SQuAD, Rajpurkar et al. 2016)."""
    given, wanted = normalize(output).split(), normalize(target).split()
    common = sum((Counter(given) & Counter(wanted)).values())
    if not given or not wanted:
        return float(given == wanted)
    return 2 * common / (len(given) + len(wanted))


def _json(output: str, target: str) -> float:
    try:
        wanted = json.loads(target)
    except ValueError:
        raise MetricError(f"the target {target[:40]!r} is not JSON") from None
    for text in [*_FENCE.findall(output), output]:
        try:
            return float(json.loads(text) == wanted)
        except ValueError:
            continue
    return 0.0


COMPARISONS: Final[dict[str, Callable[[str, str], float]]] = {
    "exact": lambda output, target: float(output.strip() == target.strip()),
    "normalized": lambda output, target: float(normalize(output) == normalize(target)),
    "contains": _contains,
    "numeric": _numeric,
    "f1": _f1,
    "json": _json,
}
NAMES: Final = (*COMPARISONS, "choice", "regex", "judge")


def load_metric(name: str, *, labels: tuple[str, ...] = (), judge: Model | None = None) -> Metric:
    """Return the metric called ``name``.

    A name of the list, ``regex:PATTERN``, ``path/to/file.py:function`` or
    ``package.module:function``. ``judge`` is the model for the metric of that name. Raises
    ConfigError.
    """
    if name in COMPARISONS:
        return Comparison(COMPARISONS[name])
    if name == "choice":
        return Choice(labels)
    if name == "judge":
        if judge is None:
            raise ConfigError("the metric 'judge' needs a model to judge with")
        return ModelJudge(judge)
    kind, colon, rest = name.partition(":")
    if kind == "regex":
        return Pattern(_compiled(rest) if colon else None)
    place, colon, function = name.rpartition(":")
    if not colon or not place or not function.isidentifier():
        known = ", ".join(NAMES)
        raise ConfigError(
            f"unknown metric {name!r}; there are {known}, path/to/file.py:function, package.module:function"
        )
    return Custom(load_function(place, function, what="metric"))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise ConfigError(f"metric regex: {pattern!r} is no regular expression: {exc}") from None


def as_metric(
    given: str | Metric | Callable[..., float | tuple[float, str] | Awaitable[Any]],
    *,
    labels: tuple[str, ...] = (),
    judge: Model | None = None,
) -> Metric:
    """Return a metric from a name, a Metric object or a plain function."""
    if isinstance(given, str):
        return load_metric(given, labels=labels, judge=judge)
    return given if isinstance(given, Metric) else Custom(given)


def default_metric(rows: Sequence[Row], labels: tuple[str, ...]) -> str:
    """Return the metric that fits the targets: choice, numeric or normalized."""
    if labels:
        return "choice"
    if rows and all(_NUMBER.fullmatch(row.target.strip()) for row in rows):
        return "numeric"
    return "normalized"


def answer_tokens(metric: str, rows: Sequence[Row]) -> int:
    """Return a bound for the answers' tokens: few where short answers are wanted as they are."""
    if metric not in {"choice", "exact", "normalized"}:
        return 256
    longest = max((len(row.target) for row in rows), default=0)
    return min(256, max(8, int(longest / 2.5) + 7))
