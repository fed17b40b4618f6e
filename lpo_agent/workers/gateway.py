"""Scoring on other machines, seen from the run: workers answer and judge, the run books and files.

The run's own bus stays in its process. Its scorer is a :class:`Gateway`: what the journal knows is judged
here; for the rest a worker is asked over the network, within the budget, and what its model said is in the
journal before it is used. So caps, resume and caching are as on one machine.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import anyio
from pydantic import BaseModel, ConfigDict

from lpo_agent.agents.scorer import Placement
from lpo_agent.bus.base import TOO_LARGE
from lpo_agent.core.messages import Failure, ScoreReply
from lpo_agent.core.retry import Retry
from lpo_agent.core.scores import Unscored
from lpo_agent.errors import NotKnown, RateLimited, RequestFailed
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.middleware import Layer, Recorded, Tries

if TYPE_CHECKING:
    from lpo_agent.agents.scorer import Scorer
    from lpo_agent.bus.base import Bus
    from lpo_agent.core.messages import ScoreAsk, Topic
    from lpo_agent.models.base import Call, Model
    from lpo_agent.models.billing import Promise, Purse

LOST: Final = frozenset({"Unavailable", "WorkersLost"})
"""Failures of the bus after which nobody knows what a worker did."""
OUTAGE: Final = "Outage"
"""Kind of a failed call at a service that answers nobody at the moment."""


class Recipe(BaseModel):
    """A run's rules of scoring, for workers: whom and how to ask, how to judge, and the limits that it knows of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    labels: tuple[str, ...] = ()
    placement: Placement = "before"
    max_tokens: int = 256
    temperature: float | None = 0.0
    extract: str | None = None
    extract_tokens: int = 10
    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None


@dataclass(frozen=True, slots=True)
class Known(Layer):
    """A model that only knows what is in the journal; raises NotKnown for the rest."""

    inner: Recorded

    async def complete(self, call: Call) -> Completion:
        """Return the recorded answer."""
        found = self.inner.journal.get(self.inner.key(call))
        if found is None:
            raise NotKnown(self.name)
        self.inner.ledger.cached()
        return replace(found, cached=True)


def knowing(model: Model) -> Model:
    """Return the model under the same layers, which knows only what is in the journal."""
    if isinstance(model, Recorded):
        return Known(model)
    assert isinstance(model, Layer)  # noqa: S101 - a run's model is recorded at some depth
    return replace(model, inner=knowing(model.inner))  # type: ignore[type-var] # all layers are dataclasses


@dataclass(slots=True)
class Gateway:
    """Scores by asking workers over ``wire``.

    ``scorer`` has the run's rules, and a model that knows the journal only. ``calls``: the model calls that
    one item takes.
    """

    wire: Bus
    topic: Topic[ScoreAsk, ScoreReply]
    scorer: Scorer
    recorded: Recorded
    purse: Purse
    run_id: str
    calls: int = 1
    rng: random.Random = field(default_factory=random.Random)

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        """Return the outcome; raises as :class:`lpo_agent.agents.scorer.Scorer` does, and BudgetExceeded."""
        async with self.recorded.alone(self.recorded.key(self.scorer.question(ask))):
            try:
                return await self.scorer.score(ask)
            except NotKnown:
                return await self._ask(ask.model_copy(update={"run": self.run_id}))

    async def _ask(self, ask: ScoreAsk) -> ScoreReply:
        """Ask workers until one has the outcome, or asking again is in vain."""
        tries = Tries()
        while True:
            reply = await self._try(ask.model_copy(update={"known": self._known(ask)}))
            failed = reply.failed
            if failed is None or not failed.retryable:
                return ScoreReply(outcome=reply.outcome)
            if failed.kind == OUTAGE:
                continue  # the worker waits for the service
            pause = tries.pause(Retry(rate_limited=failed.kind == RateLimited.__name__), self.rng)
            if pause is None:
                return ScoreReply(outcome=Unscored(reason=f"{failed.kind}: {failed.detail}"))
            await anyio.sleep(pause)

    async def _try(self, ask: ScoreAsk) -> ScoreReply:
        """Ask a worker once."""
        promises = await self.purse.promise(self.scorer.question(ask).max_usage, self.calls - len(ask.known))
        reply = _unknown(Failure(kind="CutOff", detail="", unsure=True))
        try:
            reply = await self.wire.request(self.topic, ask, timeout=math.inf)
            await self._file(ask, reply)
        except RequestFailed as exc:
            failure, lost = exc.failure, exc.failure.kind in LOST
            reply = _unknown(failure.model_copy(update={"unsure": lost or failure.unsure, "retryable": lost}))
            if failure == TOO_LARGE:
                reply = reply.model_copy(update={"failed": None})  # no call was made
            elif not lost and failure.kind != TOO_LARGE.kind:
                raise
        finally:
            self._book(promises, reply)
        return reply

    def _known(self, ask: ScoreAsk) -> tuple[str, ...]:
        """Return the answers to the ask's calls that are in the journal already: to its question, at most."""
        if self.scorer.extract is None:
            return ()
        found = self.recorded.journal.get(self.recorded.key(self.scorer.question(ask)))
        return () if found is None else (found.text,)

    async def _file(self, ask: ScoreAsk, reply: ScoreReply) -> None:
        """Put the answers into the journal, under the calls that they answer; those of a judge have none."""
        calls, texts = [self.scorer.question(ask)], [*ask.known, *(each.text for each in reply.heard)]
        if self.scorer.extract is not None and texts:
            calls.append(self.scorer.extraction(ask, texts[0], self.scorer.extract))
        for call, each in zip(calls[len(ask.known) :], reply.heard, strict=False):
            answer = Completion(each.text, Usage(each.input_tokens, each.output_tokens), each.truncated)
            await self.recorded.journal.put(self.recorded.key(call), self.run_id, each.model, answer)

    def _book(self, promises: list[Promise], reply: ScoreReply) -> None:
        """Settle a promise for each answer that was heard; one call may have failed, the others were not made."""
        rest = iter(promises)
        for each, promise in zip(reply.heard, rest, strict=False):
            self.purse.paid(promise, Usage(each.input_tokens, each.output_tokens))
        left = list(rest)
        if reply.failed is not None and left:
            self.purse.failed(left.pop(0), unsure=reply.failed.unsure)
        for promise in left:
            self.purse.unused(promise)


def _unknown(failed: Failure) -> ScoreReply:
    return ScoreReply(outcome=Unscored(reason=f"{failed.kind}: {failed.detail}"), failed=failed)
