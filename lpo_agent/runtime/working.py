"""A worker: serves runs of other machines with its own models, at a pace that all workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from lpo_agent.agents.scorer import Scorer
from lpo_agent.core.messages import Heard, ScoreAsk, ScoreReply
from lpo_agent.errors import MaybeCharged, NotAnswered
from lpo_agent.metrics import as_metric
from lpo_agent.models.base import Completion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lpo_agent.models.base import Call, Model
    from lpo_agent.models.layers import Paced
    from lpo_agent.runtime.remote import Recipe


@dataclass(slots=True)
class OneTry:
    """A model that is asked once for each call, and notes what it said.

    Who is over the rate is asked again by the run that pays, within its budget.
    Raises NotAnswered or MaybeCharged where another try may succeed, else the ProviderError.
    """

    paced: Paced
    heard: list[Heard] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.paced.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.paced.identity

    async def complete(self, call: Call) -> Completion:
        """Ask once."""
        found = await self.paced.once(call)
        if isinstance(found, Completion):
            used = found.usage
            self.heard.append(
                Heard(
                    model=self.name,
                    text=found.text,
                    truncated=found.truncated,
                    input_tokens=used.input_tokens,
                    output_tokens=used.output_tokens,
                )
            )
            return found
        if found.retry is None:
            raise found
        raise (MaybeCharged if found.unsure else NotAnswered)(f"{type(found).__name__}: {found}")


@dataclass(slots=True)
class Worker:
    """Scores for any run whose recipe it can find. ``find`` returns a run's recipe; raises ConfigError."""

    task: Paced
    judge: Paced
    find: Callable[[str], Awaitable[Recipe]]
    _recipes: dict[str, Recipe] = field(init=False, default_factory=dict)
    _lock: anyio.Lock = field(init=False, default_factory=anyio.Lock)

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome with all that was heard for it."""
        recipe = await self._recipe(ask.run)
        heard: list[Heard] = []
        judge: Model = OneTry(self.judge, heard)
        scorer = Scorer(
            OneTry(self.task, heard),
            as_metric(recipe.metric, labels=recipe.labels, judge=judge),
            recipe.placement,
            recipe.max_tokens,
            recipe.temperature,
            extract=recipe.extract,
            extract_tokens=recipe.extract_tokens,
        )
        reply = await scorer.score(ask)
        return reply.model_copy(update={"heard": tuple(heard)})

    async def _recipe(self, run: str) -> Recipe:
        async with self._lock:
            if run not in self._recipes:
                self._recipes[run] = await self.find(run)
        return self._recipes[run]
