"""The scorer, which has the task model answer one example and the metric judge the answer."""

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
    """Answers rows with the task model and judges the answers with the metric.

    ``max_tokens`` and ``extract_tokens`` limit the length of the replies. With ``extract``, such as "Therefore,
    the answer (arabic numerals) is", a second call asks with these words for the answer alone, and only its
    reply is judged (zero-shot chain of thought: Kojima et al. 2022, section 3; PE2 and LPO do the same).
    """

    model: Model
    metric: Metric
    placement: Placement = "before"
    max_tokens: int = 256
    temperature: float | None = 0.0
    extract: str | None = None
    extract_tokens: int = 10

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome; it is Unscored if only this item failed.

        Raises ProviderError if the failure is fatal for all items, and BudgetExceeded.
        """
        try:
            reply = await self.model.complete(self.question(ask))
            text = shown = reply.text
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
        return ScoreReply(outcome=Scored(judged.value, shown, judged.feedback, reply.truncated))

    def question(self, ask: ScoreAsk) -> Call:
        """Return the call that asks the model to answer the example."""
        turns = place(ask.text, ask.row.variables, self.placement)
        return Call(turns, self.max_tokens, self.temperature, ask.replicate)

    def extraction(self, ask: ScoreAsk, answer: str, words: str) -> Call:
        """Return the second call, which asks with ``words`` for the answer alone, after the first answer."""
        turns = (*self.question(ask).turns, Turn("assistant", answer), Turn("user", words))
        return Call(turns, self.extract_tokens, self.temperature, ask.replicate)


def place(text: str, variables: Mapping[str, str], placement: Placement) -> tuple[Turn, ...]:
    """Return the conversation that asks the task model to answer an example.

    If the prompt ``text`` has placeholders, they are filled. Otherwise ``placement`` says where the prompt
    is: before the input, after it ("Q: input", "A: prompt", as in the LPO paper), or in the system message.
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
