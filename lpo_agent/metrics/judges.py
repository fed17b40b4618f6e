"""Metrics that call other code: a language model as judge, and functions of the user."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from lpo_agent.errors import LpoError, MetricError, ReplyError
from lpo_agent.metrics.base import Judgement, short
from lpo_agent.models.conversation import ask
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from string import Template

    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """Asks a language model to grade the answer from 0 to 10; its reason is the feedback."""

    model: Model
    name: str = "judge"
    template: Template = field(default_factory=partial(load, "judge", {"input", "target", "output"}))

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the grade divided by 10; raises MetricError if two replies give no grade, and ProviderError."""
        values = row.variables
        given = "\n".join(values.values() if len(values) == 1 else [f"{name}: {text}" for name, text in values.items()])
        question = self.template.substitute(input=fenced(given), target=fenced(row.target), output=fenced(output))
        try:
            return await ask(self.model, question, _grade, max_tokens=200, temperature=0.0, replicate=0)
        except ReplyError as exc:
            raise MetricError(f"the judge gave no grade: {exc}") from None


def _grade(reply: str) -> Judgement:
    reason, _, last = reply.strip().rpartition("\n")
    grade = re.fullmatch(r"\**(10|[0-9])(?:\s*/\s*10)?\.?\**", last.strip())
    if grade is None:
        raise ReplyError("the last line is not a whole number from 0 to 10")
    return Judgement(int(grade[1]) / 10, short(" ".join(reason.split())))


@dataclass(frozen=True, slots=True)
class Custom:
    """Calls the user's ``function(output, target, row)``, which may be async; others run in a worker thread.

    ``row`` is a dict of the variables and ``target``. The function returns a number in [0, 1], or a pair of the
    number and feedback. When a run is cancelled, a function in a thread continues until it ends by itself.
    """

    function: Callable[..., Any]
    name: str = "custom"

    async def judge(self, output: str, row: Row) -> Judgement:
        """Return the function's value; raises MetricError if it raises or returns something else."""
        given = output, row.target, {**row.variables, "target": row.target}
        try:
            if inspect.iscoroutinefunction(self.function):
                value = await self.function(*given)
            else:
                # in a tuple, because trio refuses a coroutine as the result of a thread
                (value,) = await to_thread.run_sync(lambda: (self.function(*given),), abandon_on_cancel=True)
                value = await value if inspect.isawaitable(value) else value
        except LpoError:
            raise
        except Exception as exc:  # the user's function may raise anything
            raise MetricError(short(f"{self.name} raised {type(exc).__name__}: {exc}")) from exc
        return _checked(value, self.name)


def _checked(returned: object, name: str) -> Judgement:
    value, feedback = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, "")
    if not isinstance(value, Real) or not isinstance(feedback, str):
        kind = type(returned).__name__
        raise MetricError(f"{name} returned a value of type {kind}; return a number, or a pair of number and str")
    if not 0 <= float(value) <= 1:
        raise MetricError(f"{name} returned {float(value):g}; return a number from 0 to 1")
    return Judgement(float(value), short(feedback))
