"""Metrics, which judge answers: the built-in ones by name, a language model as judge, and the caller's own code.

A metric returns a score in [0, 1] and, if useful, a short feedback for the critic. The table
:data:`lpo_agent.plugins.METRICS` holds functions ``(output, target, row)``, and objects that have a method ``judge``
(:class:`Metric`) or a method ``set_up`` that returns such an object (:class:`~lpo_agent.metrics.base.NeedsSetting`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lpo_agent import plugins
from lpo_agent.data import labels_of
from lpo_agent.errors import ConfigError, MetricError
from lpo_agent.loading import load_function
from lpo_agent.metrics.base import Judgement, Metric, MetricSetting, NeedsSetting, name_of
from lpo_agent.metrics.custom import Custom, of_function, of_object
from lpo_agent.metrics.rules import NUMBER, Pattern, normalize, number_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model

__all__ = [
    "Judgement",
    "Metric",
    "MetricError",
    "answer_tokens",
    "as_metric",
    "default_metric",
    "is_known",
    "load_metric",
    "name_of",
    "normalize",
    "number_in",
]

REGEX: Final = "regex"
LONG_ANSWER: Final = 256
SHORT_ANSWER: Final = 64
JUDGED_ANSWER: Final = 512


def load_metric(
    name: str, *, labels: tuple[str, ...] = (), judge: Model | None = None, pattern: str | None = None
) -> Metric:
    """Return the metric with this name; raises ConfigError.

    ``name``: a name in the table, ``regex:PATTERN``, ``path/to/file.py:function`` or
    ``package.module:function``. ``labels`` are used by the metric choice, ``judge`` is the model of the metric
    judge, ``pattern`` is used by regex.
    """
    word, _, rest = name.partition(":")
    if word == REGEX and rest:
        return Pattern(name=name).set_up(MetricSetting(pattern=rest))
    if name not in plugins.METRICS:
        return _load_function(name)
    found = plugins.METRICS.load(name)
    if isinstance(found, NeedsSetting):
        return found.set_up(MetricSetting(labels, judge, pattern))
    return found if name in plugins.METRICS.built_in else as_metric(found)


def is_known(name: str) -> bool:
    """Return whether this is the name of a metric of this package or an installed one, and not the user's code."""
    return name in plugins.METRICS or name.startswith(f"{REGEX}:")


def _load_function(name: str) -> Metric:
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        known = ", ".join(plugins.METRICS.names())
        own = "regex:PATTERN, path/to/file.py:function or package.module:function"
        raise ConfigError(f"unknown metric {name!r}; write one of {known}, {own}")
    return of_function(load_function(place, function, what=f"metric {name}"), name)


def as_metric(
    given: str | Metric | Callable[..., Any],
    *,
    labels: tuple[str, ...] = (),
    judge: Model | None = None,
    pattern: str | None = None,
) -> Metric:
    """Return a metric from a name, a Metric object or a plain function; raises ConfigError."""
    if isinstance(given, str):
        return load_metric(given, labels=labels, judge=judge, pattern=pattern)
    if isinstance(given, Custom):
        return given
    if isinstance(given, Metric):
        return of_object(given)
    if not callable(given):
        wanted = "give a name, a function, or an object with an async method judge"
        raise ConfigError(f"the metric is a {type(given).__name__}; {wanted}")
    return of_function(given, getattr(given, "__name__", type(given).__name__))


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
