"""What surrounds a model, one concern a layer: record, pace and retry, budget.

From outside in: ``Recorded(Paced(Durable(Budgeted(adapter))))``. A known answer costs nothing; a place
is not held while backing off; each attempt is paid for; what was paid for is durable.
"""

from __future__ import annotations

import contextlib
import json
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from lpo_agent.errors import (
    BrokenReply,
    BudgetExceeded,
    BudgetTied,
    OutageError,
    ProviderError,
    RateLimited,
    UnreachableError,
)
from lpo_agent.models.base import Call, Completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lpo_agent.core.budget import Ledger, Reservation, Spent
    from lpo_agent.core.retry import Retry
    from lpo_agent.journal import Journal
    from lpo_agent.models.base import Model
    from lpo_agent.models.prices import Prices
    from lpo_agent.models.ratelimit.limiter import Limiter

MOST_FAULTS, MOST_REFUSALS = 6, 50
FIRST_TRIES = 3
STUBBORN = 3
"""Refusals of one call after which it waits longer than the service asks."""
SHORTEST, LONGEST = 0.5, 30.0
TIED = 0.05
"""Seconds between looks at a budget that is promised away."""
PATIENCE = 600.0
"""Seconds that one call may be put off, and that an outage may last."""


class Layer:
    """Something around a model; it goes by the model's name."""

    __slots__ = ()
    inner: Model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    @property
    def identity(self) -> dict[str, object]:
        """The model's identity."""
        return self.inner.identity


@dataclass(frozen=True, slots=True)
class Budgeted(Layer):
    """Reserves before each attempt, settles after it; raises BudgetExceeded instead of calling."""

    inner: Model
    ledger: Ledger
    prices: Prices
    book: Callable[[Spent], None] = lambda _: None

    async def complete(self, call: Call) -> Completion:
        """Answer the call within the budget."""
        promise = await promised(self.ledger, call, self.prices.cost(self.name, call.max_usage))
        unsure = True  # a call that is cut off may have been charged for
        spent: Spent | None = None
        try:
            reply = await self.inner.complete(call)
            used = reply.usage
            usd = self.prices.cost(self.name, used)
            spent = self.ledger.settle(
                promise, input_tokens=used.input_tokens, output_tokens=used.output_tokens, usd=usd
            )
        except ProviderError as exc:
            unsure = exc.unsure
            raise
        finally:
            if spent is None:
                spent = self.ledger.fail(promise, unsure=unsure)
            self.book(spent)
        return reply


async def promised(ledger: Ledger, call: Call, usd: float | None) -> Reservation:
    """Reserve the most that a call may cost, once calls under way leave room; raises BudgetExceeded."""
    most = call.max_usage
    while True:
        with contextlib.suppress(BudgetTied):
            return ledger.reserve(tokens=most.input_tokens + most.output_tokens, usd=usd)
        await anyio.sleep(TIED)


@dataclass(slots=True)
class Paced(Layer):
    """Asks when it is the call's turn, and again where that can help: the one owner of retries.

    Pauses are drawn from all of an interval that doubles (full jitter); the service's own wishes
    come first; no place is held meanwhile. Refusals for the rate are not the call's fault and do
    not count as attempts. A service that never answered is given up after three tries; one that
    did and falls silent is waited for, because that is an outage and not a wrong address.
    """

    inner: Model
    limiter: Limiter
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    rng: random.Random = field(default_factory=random.Random)
    answered: bool = False

    async def complete(self, call: Call) -> Completion:
        """Answer the call; raises the last ProviderError, or OutageError."""
        tries = Tries()
        while True:
            answer = await self.once(call, again=tries.any)
            if isinstance(answer, Completion):
                return answer
            pause = self._pause(answer, tries)
            if pause is None:
                raise answer
            if pause:
                await self.sleep(pause)

    async def once(self, call: Call, *, again: bool = False) -> Completion | ProviderError:
        """Ask once, at the limiter's pace; return the answer, or what went wrong."""
        limiter, expected = self.limiter, (call.input_estimate, float(call.max_tokens))
        permit = await limiter.acquire(*expected, again=again)
        try:
            reply = await self.inner.complete(call)
            limiter.answered(permit, expected, reply.usage)
        except RateLimited as exc:
            after = exc.retry.after if exc.retry else None
            if after is not None and after > PATIENCE:
                return OutageError(f"{exc}; the service asks to wait {after / 60:.0f} minutes, so go on then")
            limiter.refused(permit, after)
            return exc
        except ProviderError as exc:
            if exc.retry is None or isinstance(exc, BrokenReply):
                limiter.responded()
            elif not self._never_there(exc):
                limiter.failed(permit, str(exc))
            return exc
        finally:
            limiter.release(permit)
        self.answered = True
        return reply

    def _never_there(self, exc: ProviderError) -> bool:
        """Tell a wrong address from an outage."""
        return isinstance(exc, UnreachableError) and not self.answered

    def _pause(self, exc: ProviderError, tries: Tries) -> float | None:
        """Return the seconds to wait before asking again, None for not at all; raises OutageError."""
        if exc.retry is None:
            return None
        if self._never_there(exc):
            tries.faults += 1
            return SHORTEST if tries.faults < FIRST_TRIES else None
        if out_for := self.limiter.outage_seconds:
            if out_for > PATIENCE:
                raise OutageError(f"{exc}; it has been so for {out_for / 60:.0f} minutes") from None
            tries.any = True
            return 0.0
        return tries.pause(exc.retry, self.rng)


@dataclass(slots=True)
class Tries:
    """What asking for one reply took so far. ``any``: whether it was asked for before."""

    faults: int = 0
    refusals: int = 0
    waited: float = 0.0
    any: bool = False

    def pause(self, retry: Retry, rng: random.Random) -> float | None:
        """Return the seconds before the next try, None if there shall be none."""
        self.any = True
        if retry.rate_limited:
            self.refusals += 1
            count, most = self.refusals, MOST_REFUSALS
        else:
            self.faults += 1
            count, most = self.faults, MOST_FAULTS
        pause = retry.after
        if pause is None:
            pause = rng.uniform(0, min(LONGEST, SHORTEST * 2.0**count))
        self.waited += pause
        if count >= most or self.waited > PATIENCE:
            return None
        if retry.rate_limited and retry.after is not None:  # the limiter keeps everybody waiting that long
            return 0.0 if count < STUBBORN else rng.uniform(0, min(LONGEST, SHORTEST * 2.0 ** (count - STUBBORN)))
        return pause


@dataclass(frozen=True, slots=True)
class Durable(Layer):
    """Hands an answer out once it is in the journal; its place with the service is held until then.

    So what a killed process has to ask for again is never more than what it was asking for. Calls
    come from :class:`Recorded`, which says where they are filed.
    """

    inner: Model
    journal: Journal
    run_id: str

    async def complete(self, call: Call) -> Completion:
        """Ask, and record the answer; failures are not recorded."""
        reply = await self.inner.complete(call)
        if call.journal_key is not None:
            await self.journal.put(call.journal_key, self.run_id, self.name, reply)
        return reply


@dataclass(slots=True)
class Recorded(Layer):
    """Answers from the journal where it can; identical calls in flight are made once.

    Answers are filed by the call's content and by ``_who``: the model, and the run that uses no
    answers of others (``namespace``).
    """

    inner: Model
    journal: Journal
    ledger: Ledger
    namespace: str = ""
    _who: str = field(init=False)
    _flying: dict[bytes, anyio.Event | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._who = json.dumps([self.namespace, self.name, self.identity], sort_keys=True)

    def key(self, call: Call) -> bytes:
        """Return under what the call's answer is filed."""
        return call.key(self._who)

    async def complete(self, call: Call) -> Completion:
        """Return the recorded answer, or ask."""
        key = self.key(call)
        async with self.alone(key):
            known = self.journal.get(key)
            if known is not None:
                self.ledger.cached()
                return replace(known, cached=True)
            return await self.inner.complete(Call(call.turns, call.max_tokens, call.temperature, call.replicate, key))

    @asynccontextmanager
    async def alone(self, key: bytes) -> AsyncIterator[None]:
        """Wait until nobody asks what is filed under ``key``, and let all others wait meanwhile."""
        while key in self._flying:
            await self._landing(key)
        self._flying[key] = None
        try:
            yield
        finally:
            if (landed := self._flying.pop(key)) is not None:
                landed.set()

    async def _landing(self, key: bytes) -> None:
        """Wait until the identical call in flight has ended."""
        landed = self._flying[key] = self._flying[key] or anyio.Event()
        await landed.wait()


@dataclass(frozen=True, slots=True)
class Metered(Layer):
    """Counts what one of several users of a model asks, paid and cached answers apart."""

    inner: Model
    ledger: Ledger
    prices: Prices

    async def complete(self, call: Call) -> Completion:
        """Ask, and count; raises BudgetExceeded if this user's own budget does not allow it."""
        promise = await promised(self.ledger, call, self.prices.cost(self.name, call.max_usage))
        failed: ProviderError | None = None
        reply: Completion | None = None
        try:
            reply = await self.inner.complete(call)
        except ProviderError as exc:
            failed = exc
            raise
        finally:
            self._book(promise, reply, failed)
        return reply

    def _book(self, promise: Reservation, reply: Completion | None, failed: ProviderError | None) -> None:
        """Book an answer, a failure, or nothing where the call was never made."""
        if failed is not None:
            self.ledger.fail(promise, unsure=failed.unsure)
        elif reply is None or reply.cached:
            self.ledger.release(promise)
            if reply is not None:
                self.ledger.cached()
        else:
            used, usd = reply.usage, self.prices.cost(self.name, reply.usage)
            self.ledger.settle(promise, input_tokens=used.input_tokens, output_tokens=used.output_tokens, usd=usd)


@dataclass(frozen=True, slots=True)
class Capped(Layer):
    """Lets one of several users of a model ask so many times and no more, whether or not a reply is known already.

    So users that share a journal have equal budgets. A call is taken from ``allowance`` before it is made and
    never given back. ``reason`` is what a refusal says.
    """

    inner: Model
    allowance: Ledger
    reason: str

    async def complete(self, call: Call) -> Completion:
        """Ask; raises BudgetExceeded if nothing of the allowance is left that is not put aside."""
        try:
            taken = self.allowance.reserve()
        except BudgetExceeded:
            raise BudgetExceeded(self.reason) from None
        self.allowance.settle(taken, input_tokens=0, output_tokens=0, usd=0.0)
        return await self.inner.complete(call)
