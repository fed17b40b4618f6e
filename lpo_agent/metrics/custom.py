"""Metrics of the caller: functions, and objects with a method ``judge``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from lpo_agent.errors import LpoError, MetricError
from lpo_agent.metrics.base import OWN_FEEDBACK, Judgement, name_of, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.core.messages import Row
    from lpo_agent.metrics.base import Metric


@dataclass(frozen=True, slots=True)
class Custom:
    """Calls code of the caller, and checks what it returns.

    ``call(output, row)`` returns a number or bool in [0, 1], a pair of the score and feedback, a mapping with
    ``score`` and perhaps ``feedback``, or an awaitable of one of these. Code that is not async runs in a worker
    thread; when a run is cancelled, such code continues until it ends by itself.
    """

    call: Callable[[str, Row], Any]
    name: str = "custom"
    is_async: bool = False

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the judgement; raises MetricError if the code raises or returns something else."""
        try:
            if self.is_async:
                value = await self.call(output, row)
            else:
                # in a tuple, because trio refuses a coroutine as the result of a thread
                (value,) = await to_thread.run_sync(lambda: (self.call(output, row),), abandon_on_cancel=True)
                value = await value if inspect.isawaitable(value) else value
        except LpoError:
            raise
        except (Exception, SystemExit) as exc:
            raise MetricError(short(f"{self.name} raised {type(exc).__name__}: {exc}")) from exc
        return _checked(value, self.name)


def of_function(function: Callable[..., Any], name: str) -> Custom:
    """Return the metric that calls ``function(output, target, row)``, which may be async.

    ``row`` is a dict of the example's variables and ``target``.
    """

    def call(output: str, row: Row) -> Any:
        return function(output, row.target, {**row.variables, "target": row.target})

    return Custom(call, name, inspect.iscoroutinefunction(function))


def of_object(metric: Metric) -> Custom:
    """Return the metric that calls the object's method ``judge``."""
    return Custom(metric.judge, name_of(metric), inspect.iscoroutinefunction(metric.judge))


def _checked(returned: object, name: str) -> Judgement:
    score, feedback = _parts(returned)
    if isinstance(score, str) or not hasattr(score, "__float__") or not isinstance(feedback, str):
        kind = type(returned).__name__
        wanted = "return a number, or a pair of number and str, or a mapping with score"
        raise MetricError(f"{name} returned a value of type {kind}; {wanted}")
    try:
        value = float(score)
    except (TypeError, ValueError) as exc:
        raise MetricError(f"{name} returned a score that is not one number ({exc}); return one number") from None
    if not 0 <= value <= 1:
        raise MetricError(f"{name} returned {value:g}; return a number from 0 to 1")
    return Judgement(value, short(feedback, OWN_FEEDBACK))


def _parts(returned: object) -> tuple[object, object]:
    """Return score and feedback."""
    if isinstance(returned, Mapping):
        return returned.get("score"), returned.get("feedback") or ""
    if isinstance(returned, tuple) and len(returned) == 2:
        return returned
    return returned, ""
