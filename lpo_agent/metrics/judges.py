"""The metric judge: a language model grades the answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.errors import ConfigError, MetricError, ReplyError
from lpo_agent.metrics.base import Judgement, short
from lpo_agent.models.conversation import ask
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.core.messages import Row
    from lpo_agent.metrics.base import MetricSetting
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


class Judge:
    """The entry of the table: makes the metric once the model that judges is known."""

    def set_up(self, setting: MetricSetting) -> ModelJudge:
        """Return the metric; raises ConfigError without a model."""
        if setting.judge is None:
            raise ConfigError("the metric judge needs a model that judges the answers; name one")
        return ModelJudge(setting.judge)


JUDGE: Final = Judge()
