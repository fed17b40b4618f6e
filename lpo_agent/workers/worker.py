"""A worker: serves runs of other machines with its own models, at a pace that all workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from lpo_agent.agents.scorer import Scorer
from lpo_agent.core.messages import Failure, Heard, ScoreAsk, ScoreReply
from lpo_agent.errors import OutageError, TransientError, UnreachableError
from lpo_agent.metrics import as_metric
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.middleware import FIRST_TRIES, PATIENCE, SHORTEST, Layer, Paced
from lpo_agent.workers.gateway import OUTAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.errors import ProviderError
    from lpo_agent.models.base import Call
    from lpo_agent.workers.gateway import Recipe


@dataclass(slots=True)
class Account:
    """What models said for one item, and the call that failed, if one did."""

    heard: list[Heard] = field(default_factory=list)
    failed: Failure | None = None


@dataclass(frozen=True, slots=True)
class OneTry(Layer):
    """A model that is asked once for each call, and writes down what came of it.

    Whether to ask again is for the run to say, which pays. ``known`` are answers to the first calls.
    """

    inner: Paced
    account: Account
    known: Sequence[str] = ()
    _told: list[str] = field(default_factory=list)

    async def complete(self, call: Call) -> Completion:
        """Ask once; raises the ProviderError that came instead of an answer."""
        if len(self._told) < len(self.known):
            self._told.append(self.known[len(self._told)])
            return Completion(self._told[-1], Usage(0, 0))
        found = await self._once(call)
        if not isinstance(found, Completion):
            self.account.failed = failed = self._failure(found)
            raise (TransientError(str(found)) if failed.retryable else found)
        used = found.usage
        self.account.heard.append(
            Heard(
                model=self.name,
                text=found.text,
                truncated=found.truncated,
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
            )
        )
        return found

    async def _once(self, call: Call) -> Completion | ProviderError:
        """Ask once; a server that never answered may be about to start, so it is given a moment."""
        for _ in range(FIRST_TRIES - 1):
            found = await self.inner.once(call)
            if not self._never_there(found):
                return found
            await anyio.sleep(SHORTEST)
        return await self.inner.once(call)

    def _never_there(self, found: Completion | ProviderError) -> bool:
        return isinstance(found, UnreachableError) and not self.inner.answered

    def _failure(self, problem: ProviderError) -> Failure:
        """Describe the problem; raises OutageError where the service has been silent for too long."""
        out_for = self.inner.limiter.outage_seconds if problem.retry is not None else 0.0
        if out_for > PATIENCE:
            raise OutageError(f"{problem}; it has been so for {out_for / 60:.0f} minutes") from None
        return Failure(
            kind=OUTAGE if out_for else type(problem).__name__,
            detail=str(problem),
            retryable=problem.retry is not None and not self._never_there(problem),
            unsure=problem.unsure,
        )


@dataclass(slots=True)
class Worker:
    """Scores for any run whose recipe it can find. ``find`` returns a run's recipe; raises ConfigError."""

    task: Paced
    judge: Paced
    find: Callable[[str], Awaitable[Recipe]]
    _recipes: dict[str, Recipe] = field(init=False, default_factory=dict)
    _lock: anyio.Lock = field(init=False, default_factory=anyio.Lock)

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome with all that was heard for it; raises what no other item could escape either."""
        recipe, account = await self._recipe(ask.run), Account()
        scorer = Scorer(
            OneTry(self.task, account, ask.known),
            as_metric(recipe.metric, labels=recipe.labels, judge=OneTry(self.judge, account)),
            recipe.placement,
            recipe.max_tokens,
            recipe.temperature,
            extract=recipe.extract,
            extract_tokens=recipe.extract_tokens,
        )
        reply = await scorer.score(ask)
        return reply.model_copy(update={"heard": tuple(account.heard), "failed": account.failed})

    async def _recipe(self, run: str) -> Recipe:
        async with self._lock:
            if run not in self._recipes:
                self._recipes[run] = await self.find(run)
        return self._recipes[run]
