"""Metrics, which judge answers: the built-in ones by name, a language model as judge, and the user's own functions.

A metric returns a value in [0, 1] and, if useful, a short feedback for the critic.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lpo_agent.data import labels_of
from lpo_agent.errors import ConfigError, MetricError
from lpo_agent.loading import load_function
from lpo_agent.metrics.base import Judgement, Metric
from lpo_agent.metrics.choice import Choice
from lpo_agent.metrics.judges import Custom, ModelJudge
from lpo_agent.metrics.rules import COMPARISONS, NUMBER, Comparison, Pattern, normalize, number_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model

__all__ = [
    "NAMES",
    "Choice",
    "Comparison",
    "Custom",
    "Judgement",
    "Metric",
    "MetricError",
    "ModelJudge",
    "Pattern",
    "answer_tokens",
    "as_metric",
    "comes_with_us",
    "default_metric",
    "load_metric",
    "normalize",
    "number_in",
]

NAMES: Final = (*COMPARISONS, "choice", "regex", "judge")
LONG_ANSWER: Final = 256
SHORT_ANSWER: Final = 64
JUDGED_ANSWER: Final = 512


def load_metric(
    name: str, *, labels: tuple[str, ...] = (), judge: Model | None = None, pattern: str | None = None
) -> Metric:
    """Return the metric with this name; raises ConfigError.

    ``name``: one of :data:`NAMES`, ``regex:PATTERN``, ``path/to/file.py:function`` or
    ``package.module:function``. ``labels`` are used by the metric choice, ``judge`` is the model of the metric
    judge, ``pattern`` is used by regex.
    """
    if name in COMPARISONS:
        return Comparison(name, COMPARISONS[name])
    if name == "choice":
        return Choice(labels)
    if name == "judge":
        if judge is None:
            raise ConfigError("the metric judge needs a model that judges the answers; name one")
        return ModelJudge(judge)
    if name == "regex":
        return Pattern(None if pattern is None else _compiled(pattern))
    if name.startswith("regex:"):
        return Pattern(_compiled(name.removeprefix("regex:")), name)
    return _load_custom(name)


def comes_with_us(name: str) -> bool:
    """Return whether the metric runs only code of this package, and no code of the user."""
    return name in NAMES or name.startswith("regex:")


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise ConfigError(f"metric regex: {pattern!r} is not a regular expression: {exc}") from None


def _load_custom(name: str) -> Custom:
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        known = ", ".join(NAMES)
        own = "regex:PATTERN, path/to/file.py:function or package.module:function"
        raise ConfigError(f"unknown metric {name!r}; write one of {known}, {own}")
    return Custom(load_function(place, function, what=f"metric {name}"), name)


def as_metric(
    given: str | Metric | Callable[..., float | tuple[float, str] | Awaitable[Any]],
    *,
    labels: tuple[str, ...] = (),
    judge: Model | None = None,
    pattern: str | None = None,
) -> Metric:
    """Return a metric from a name, a Metric object or a plain function; raises ConfigError."""
    if isinstance(given, str):
        return load_metric(given, labels=labels, judge=judge, pattern=pattern)
    if isinstance(given, Metric):
        return given
    if not callable(given):
        wanted = "give a name, a function, or an object with a name and an async method judge"
        raise ConfigError(f"the metric is a {type(given).__name__}; {wanted}")
    return Custom(given, getattr(given, "__name__", type(given).__name__))


def default_metric(rows: Sequence[Row], labels: tuple[str, ...] | None = None) -> str:
    """Return the name of the default metric for these targets: choice, numeric or normalized.

    ``labels``: the possible answers; None: those of :func:`lpo_agent.data.labels_of`.
    """
    if labels_of(rows) if labels is None else labels:
        return "choice"
    if rows and all(NUMBER.fullmatch(row.target.strip()) for row in rows):
        return "numeric"
    return "normalized"


def answer_tokens(metric_name: str, rows: Sequence[Row]) -> int:
    """Return the maximal number of tokens of an answer.

    It is 8 to 64 for metrics that compare the whole answer with short targets. Otherwise it leaves room for
    reasoning, and for the longest target (estimated at 2.5 bytes a token).
    """
    longest = max((len(row.target.encode("utf-8", "surrogatepass")) for row in rows), default=0)
    needed = int(longest / 2.5 + 1) + 6
    if metric_name in {"choice", "exact", "normalized"} and needed <= SHORT_ANSWER:
        return max(8, needed)
    return max(JUDGED_ANSWER if metric_name == "judge" else LONG_ANSWER, needed)
