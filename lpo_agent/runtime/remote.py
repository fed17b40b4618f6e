"""Scoring on other machines, seen from the run: workers answer and judge, the run books and files.

The run's own bus stays in its process. Its scorer is a :class:`Gateway`: what the journal knows is judged
here; for the rest a worker is asked over the network, within the budget, and what its model said is in the
journal before it is used. So caps, resume and caching are as on one machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
from pydantic import BaseModel, ConfigDict

from lpo_agent.agents.scorer import Placement
from lpo_agent.core.messages import SCORE, ScoreReply
from lpo_agent.core.retry import Retry
from lpo_agent.core.scores import Unscored
from lpo_agent.errors import BudgetTied, MaybeCharged, NotAnswered, NotKnown, RequestFailed
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.layers import TIED, Tries

if TYPE_CHECKING:
    from lpo_agent.agents.scorer import Scorer
    from lpo_agent.bus.base import Bus
    from lpo_agent.core.budget import Ledger, Reservation, Spent
    from lpo_agent.core.messages import Failure, Heard, ScoreAsk
    from lpo_agent.journal import Journal
    from lpo_agent.models.base import Call
    from lpo_agent.models.layers import Recorded
    from lpo_agent.models.prices import Prices

AGAIN: Final = frozenset({NotAnswered.__name__, MaybeCharged.__name__, "Unavailable"})
CHARGED: Final = frozenset({MaybeCharged.__name__, "Unavailable", "WorkersLost"})


class Recipe(BaseModel):
    """A run's rules of scoring, for workers: how to ask, how long an answer may be, how to judge it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    labels: tuple[str, ...] = ()
    placement: Placement = "before"
    max_tokens: int = 256
    temperature: float | None = 0.0
    extract: str | None = None
    extract_tokens: int = 10


@dataclass(frozen=True, slots=True)
class Known:
    """A model that only knows what is in the journal; raises NotKnown for the rest."""

    recorded: Recorded

    @property
    def name(self) -> str:
        """The model's name."""
        return self.recorded.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.recorded.identity

    async def complete(self, call: Call) -> Completion:
        """Return the recorded answer."""
        found = self.recorded.journal.get(self.recorded.key(call))
        if found is None:
            raise NotKnown(self.name)
        self.recorded.ledger.cached()
        return found


@dataclass(slots=True)
class Gateway:
    """Scores by asking workers. ``scorer`` has the run's rules, and a model that knows the journal only.

    ``calls``: model calls that one item takes.
    """

    wire: Bus
    scorer: Scorer
    recorded: Recorded
    journal: Journal
    ledger: Ledger
    prices: Prices
    run_id: str
    calls: int = 1
    rng: random.Random = field(default_factory=random.Random)

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome; raises as :class:`lpo_agent.agents.scorer.Scorer` does, and BudgetExceeded."""
        try:
            return await self.scorer.score(ask)
        except NotKnown:
            pass
        tries = Tries()
        while True:
            found = await self._try(ask)
            if isinstance(found, ScoreReply):
                return found
            pause = tries.pause(Retry(), self.rng)
            if pause is None:
                return ScoreReply(outcome=Unscored(reason=f"{found.kind}: {found.detail}"))
            await anyio.sleep(pause)

    async def _try(self, ask: ScoreAsk) -> ScoreReply | Failure:
        """Ask a worker once; return what it said, or why it should be asked again."""
        promise = await self._promised(self.scorer.question(ask))
        spent: list[Spent] = []
        unsure = True  # who is cut off does not know what the worker did
        try:
            reply = await self.wire.request(SCORE, ask.model_copy(update={"run": self.run_id}), timeout=float("inf"))
            await self._file(ask, reply.heard)
            spent = self._settled(promise, reply.heard)
        except RequestFailed as failed:
            unsure = failed.failure.kind in CHARGED
            if failed.failure.kind not in AGAIN:
                raise
            return failed.failure
        finally:
            for each in spent or [self.ledger.fail(promise, unsure=unsure)]:
                self.journal.book(self.run_id, each)
        return ScoreReply(outcome=reply.outcome)

    async def _promised(self, call: Call) -> Reservation:
        """Reserve the most that an item may cost, once calls under way leave room; raises BudgetExceeded."""
        most, usd = call.most_usage, self.prices.cost(self.recorded.name, call.most_usage)
        tokens = self.calls * (most.input_tokens + most.output_tokens)
        while True:
            try:
                return self.ledger.reserve(
                    calls=self.calls, tokens=tokens, usd=None if usd is None else self.calls * usd
                )
            except BudgetTied:
                await anyio.sleep(TIED)

    def _settled(self, promise: Reservation, heard: tuple[Heard, ...]) -> list[Spent]:
        """Book what was heard in place of what was promised."""
        into, out = sum(each.input_tokens for each in heard), sum(each.output_tokens for each in heard)
        usd = self.prices.cost(self.recorded.name, Usage(into, out))
        return [self.ledger.settle(promise, input_tokens=into, output_tokens=out, usd=usd)]

    async def _file(self, ask: ScoreAsk, heard: tuple[Heard, ...]) -> None:
        """Put the answers into the journal, under the calls that they answer."""
        call = self.scorer.question(ask)
        for each in heard[: 1 + (self.scorer.extract is not None)]:
            reply = Completion(each.text, Usage(each.input_tokens, each.output_tokens), each.truncated)
            await self.journal.put(self.recorded.key(call), self.run_id, each.model, reply)
            if self.scorer.extract is not None:
                call = self.scorer.extraction(ask, each.text, self.scorer.extract)
