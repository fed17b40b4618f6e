"""What surrounds a model, one concern a layer: record, retry, limit, budget.

From outside in: ``Recorded(Retrying(Limited(Budgeted(adapter))))``. A known answer costs nothing;
a slot is not held while backing off; each attempt is paid for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from lpo_agent.errors import ProviderError, RateLimited, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lpo_agent.core.budget import Ledger
    from lpo_agent.journal import Journal
    from lpo_agent.models.base import Call, Completion, Model
    from lpo_agent.models.limits import Limiter
    from lpo_agent.models.prices import Prices

ATTEMPTS = 6
FIRST_TRIES = 3
SHORTEST, LONGEST, PATIENCE = 0.5, 30.0, 600.0


@dataclass(frozen=True, slots=True)
class Budgeted:
    """Reserves before each attempt, settles after it; raises BudgetExceeded instead of calling."""

    inner: Model
    ledger: Ledger
    prices: Prices
    book: Callable[[Completion | None, float | None], None] = lambda _reply, _usd: None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.inner.identity

    async def complete(self, call: Call) -> Completion:
        """Answer the call within the budget."""
        most = call.most_usage
        cost = self.prices.cost(self.name, most)
        promise = self.ledger.reserve(tokens=most.input_tokens + most.output_tokens, usd=cost)
        reply: Completion | None = None
        try:
            reply = await self.inner.complete(call)
        finally:
            if reply is None:
                self.ledger.fail(promise)
                self.book(None, None)
        used, usd = reply.usage, self.prices.cost(self.name, reply.usage)
        self.ledger.settle(promise, input_tokens=used.input_tokens, output_tokens=used.output_tokens, usd=usd)
        self.book(reply, usd)
        return reply


@dataclass(frozen=True, slots=True)
class Limited:
    """Lets calls through at the limiter's pace."""

    inner: Model
    limiter: Limiter

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.inner.identity

    async def complete(self, call: Call) -> Completion:
        """Answer the call when it is its turn."""
        async with self.limiter.slot(call.estimated_tokens) as slot:
            reply = await self.inner.complete(call)
            slot.settle(reply.usage.input_tokens + reply.usage.output_tokens)
            return reply


@dataclass(slots=True)
class Retrying:
    """The one owner of retries: full jitter, the service's own wishes first, no slot held meanwhile.

    A service that never answered is given up after three tries; one that did and vanishes is
    waited for, up to ten minutes, because that is an outage and not a wrong address.
    """

    inner: Model
    limiter: Limiter
    attempts: int = ATTEMPTS
    patience: float = PATIENCE
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    rng: random.Random = field(default_factory=random.Random)
    answered: bool = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.inner.identity

    async def complete(self, call: Call) -> Completion:
        """Answer the call, asking again where that can help; raises the last ProviderError."""
        waited, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                reply = await self.inner.complete(call)
            except ProviderError as exc:
                pause = self._pause(exc, attempt)
                if pause is None or waited + pause > self.patience:
                    raise
                if isinstance(exc, RateLimited):
                    self.limiter.pause(pause)
                waited += pause
                await self.sleep(pause)
            else:
                self.answered = True
                return reply

    def _pause(self, exc: ProviderError, attempt: int) -> float | None:
        """Return the seconds to wait before asking again, None for not at all."""
        outage = isinstance(exc, UnreachableError)
        most = self.attempts if self.answered else FIRST_TRIES if outage else self.attempts
        if exc.retry is None or (attempt >= most and not (outage and self.answered)):
            return None
        if exc.retry.after is not None:
            return exc.retry.after
        return self.rng.uniform(0, min(LONGEST, SHORTEST * 2.0**attempt)) if self.answered or not outage else SHORTEST


@dataclass(slots=True)
class Recorded:
    """Answers from the journal where it can; what it must ask for is durable before it is used.

    Identical calls in flight are made once. Failures are not recorded.
    """

    inner: Model
    journal: Journal
    ledger: Ledger
    run_id: str
    namespace: str = ""
    _flying: dict[bytes, anyio.Event] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.inner.identity

    async def complete(self, call: Call) -> Completion:
        """Return the recorded answer, or ask and record."""
        key = call.key({"name": self.name, **self.identity}, self.namespace)
        while True:
            known = self.journal.get(key)
            if known is not None:
                self.ledger.cached()
                return replace(known, cached=True)
            if key not in self._flying:
                break
            await self._flying[key].wait()
        landed = self._flying[key] = anyio.Event()
        try:
            reply = await self.inner.complete(call)
            await self.journal.put(key, self.run_id, self.name, reply)
        finally:
            del self._flying[key]
            landed.set()
        return reply
