"""The scorer: one example answered by the task model and judged by the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core.messages import ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.core.text import PLACEHOLDER, fill
from lpo_agent.errors import MetricError, ProviderError
from lpo_agent.models.base import Call, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.core.messages import Placement
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model


@dataclass(frozen=True, slots=True)
class Scorer:
    """Answers rows greedily and judges the answers.

    ``max_tokens`` bounds an answer: few where the wanted answers are short. With ``extract``, such as
    "Therefore, the answer (arabic numerals) is", the model is asked with these words for the answer
    alone, after its first reply, and only that is judged (zero-shot chain of thought: Kojima et al.
    2022, section 3; so PE2 and LPO).
    """

    model: Model
    metric: Metric
    placement: Placement = "before"
    max_tokens: int = 256
    temperature: float | None = 0.0
    extract: str | None = None
    extract_tokens: int = 10

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome. A failure of this one item is an outcome too: Unscored.

        Raises ProviderError where no other item could succeed either, and BudgetExceeded.
        """
        try:
            text = shown = (await self.model.complete(self.question(ask))).text
            if self.extract is not None:
                text = (await self.model.complete(self.extraction(ask, text, self.extract))).text
                shown = f"{shown}\n{self.extract} {text}"
            judged = await self.metric.judge(text, ask.row)
        except ProviderError as exc:
            if exc.fatal:
                raise
            return ScoreReply(outcome=Unscored(reason=f"{type(exc).__name__}: {exc}"))
        except MetricError as exc:
            return ScoreReply(outcome=Unscored(reason=f"metric: {exc}"))
        return ScoreReply(outcome=Scored(value=judged.value, output=shown, feedback=judged.feedback))

    def question(self, ask: ScoreAsk) -> Call:
        """Return the call that puts the example to the model."""
        return Call(place(ask.text, ask.row.variables, self.placement), self.max_tokens, self.temperature)

    def extraction(self, ask: ScoreAsk, answer: str, words: str) -> Call:
        """Return the call that asks, after an answer, for the answer alone."""
        turns = (*self.question(ask).turns, Turn("assistant", answer), Turn("user", words))
        return Call(turns, self.extract_tokens, self.temperature)


def place(text: str, variables: Mapping[str, str], placement: Placement) -> tuple[Turn, ...]:
    """Return the conversation that puts an example to the task model.

    Placeholders in ``text`` say where the example goes. Without any, ``placement`` does: the
    prompt before the input, after it ("Q: input", "A: prompt" as in the paper), or as the system
    message.
    """
    if PLACEHOLDER.search(text):
        return (Turn("user", fill(text, variables)),)
    example = _shown(variables)
    prompt = fill(text, {})
    if placement == "system":
        return Turn("system", prompt), Turn("user", example)
    if placement == "after":
        return (Turn("user", f"Q: {example}\nA: {prompt}"),)
    return (Turn("user", f"{prompt}\n\n{example}"),)


def _shown(variables: Mapping[str, str]) -> str:
    if len(variables) == 1:
        return next(iter(variables.values()))
    return "\n".join(f"{name}: {value}" for name, value in variables.items())
