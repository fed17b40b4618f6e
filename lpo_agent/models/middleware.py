"""The layers between a run and a model: call allowance, record, retry, rate limit and budget.

A call passes these layers from top to bottom:

1. the allowance of calls, if the run has one;
2. the journal: a known answer costs nothing, and identical calls in progress are made once;
3. retries, each of which is paid for and waits for the rate limiter;
4. the adapter of the provider; its answer is written to the journal before it is used.

:func:`compose` builds the layers for a run and a model.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from lpo_agent.errors import (
    BrokenReply,
    BudgetExceeded,
    OutageError,
    ProviderError,
    RateLimited,
    UnreachableError,
)
from lpo_agent.in_flight import InFlight
from lpo_agent.models.base import Call, Completion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lpo_agent.core.budget import Ledger
    from lpo_agent.failure import Retry
    from lpo_agent.journal import Journal
    from lpo_agent.models.billing import Billing, Charge
    from lpo_agent.models.ratelimit.limiter import Limiter

MOST_FAULTS: Final = 6
MOST_REFUSALS: Final = 50
FIRST_TRIES: Final = 3
STUBBORN: Final = 3
"""After this many refusals a call waits longer than the service asks."""
SHORTEST, LONGEST = 0.5, 30.0
PATIENCE: Final = 600.0
"""The longest time in seconds that one call may be delayed, and that an outage may last."""


class Adapter(Protocol):
    """A model of a provider: it has a name, and an identity that differs from that of other models."""

    @property
    def name(self) -> str:
        """``PROVIDER:NAME``."""
        ...

    @property
    def identity(self) -> Mapping[str, object] | None:
        """What the answers depend on: service, address, weights. None if other runs must not reuse the answers."""
        ...

    async def complete(self, call: Call) -> Completion:
        """Answer the call, once; raises ProviderError."""
        ...


@dataclass(slots=True)
class SharedModel:
    """An open model, which all runs of a session share, with its rate limiter."""

    adapter: Adapter
    limiter: Limiter
    in_flight: InFlight = field(default_factory=InFlight)
    answered: bool = False
    """Whether the service has answered before; if so, a missing answer means an outage, not a wrong address."""


@dataclass(slots=True)
class RunModel:
    """A model for one run, with all layers. :mod:`lpo_agent.workers` uses its parts, because workers make the calls.

    ``answered``: the calls that it has answered here, from the journal or anew.
    """

    record: Record
    billing: Billing
    allowance: Allowance | None = None
    answered: int = 0

    @property
    def name(self) -> str:
        """The model's name."""
        return self.record.name

    async def complete(self, call: Call) -> Completion:
        """Answer the call; raises ProviderError and BudgetExceeded."""
        if self.allowance is not None:
            self.allowance.take()
        reply = await self.record.complete(call)
        self.answered += 1
        return reply


def compose(
    shared: SharedModel, journal: Journal, billing: Billing, *, run_id: str, cache: bool, allowance: Allowance | None
) -> RunModel:
    """Return ``shared`` with the layers for one run; without ``cache``, answers of other runs are not used."""
    adapter = shared.adapter
    namespace = (
        "" if cache and adapter.identity is not None else run_id.partition(".")[0]
    )  # of a benchmark's cells: its

    async def deliver(key: bytes, reply: Completion) -> None:
        await journal.put(key, run_id, adapter.name, reply)

    paced = Paced(adapter, shared, billing, deliver)
    return RunModel(Record(paced, journal, billing, shared.in_flight, adapter, namespace), billing, allowance)


@dataclass(slots=True)
class Allowance:
    """Limits the number of calls of a run; calls whose answers are in the journal count too.

    So runs that share a journal have equal numbers of calls. ``reason``: the message of a refusal.
    """

    ledger: Ledger
    reason: str

    def take(self) -> None:
        """Count one call; raises BudgetExceeded if none is left, except for calls that are reserved for later."""
        try:
            taken = self.ledger.reserve()
        except BudgetExceeded:
            raise BudgetExceeded(self.reason) from None
        self.ledger.settle(taken, input_tokens=0, output_tokens=0, usd=0.0)


@dataclass(slots=True)
class Record:
    """Answers from the journal if possible; identical calls in progress are made once.

    The key of an answer is made of the content of the call, the model, and ``namespace``, which is set for a run that
    does not share answers with other runs.
    """

    inner: Paced
    journal: Journal
    billing: Billing
    in_flight: InFlight
    adapter: Adapter
    namespace: str = ""
    _who: str = field(init=False)

    def __post_init__(self) -> None:
        identity = dict(self.adapter.identity or {})
        self._who = json.dumps([self.namespace, self.name, identity], sort_keys=True)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.adapter.name

    def key(self, call: Call) -> bytes:
        """Return the key of the call's answer in the journal."""
        return call.key(self._who)

    async def complete(self, call: Call) -> Completion:
        """Return the recorded answer, or call the model."""
        key = self.key(call)
        async with self.in_flight.exclusive(key):
            known = self.journal.get(key)
            if known is not None:
                self.billing.cached()
                return replace(known, cached=True)
            return await self.inner.complete(call, key)


@dataclass(slots=True)
class Paced:
    """Makes calls within the rate limit and retries them; no other layer retries.

    Pauses are random, from 0 to a bound that doubles (full jitter), unless the service asks for a longer one; a call
    that waits occupies no slot of the limiter. Refusals because of the rate do not count as attempts. A service that
    has never answered is tried three times; one that has answered before is waited for. An answer is passed to
    ``deliver`` while the call still occupies its slot, so a process that is killed loses at most the answers of the
    calls in progress.
    """

    adapter: Adapter
    shared: SharedModel
    billing: Billing
    deliver: Callable[[bytes, Completion], Awaitable[None]] | None = None
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    rng: random.Random = field(default_factory=random.Random)

    async def complete(self, call: Call, key: bytes | None = None) -> Completion:
        """Answer the call; raises the last ProviderError, OutageError, or BudgetExceeded."""
        tries = Tries()
        while True:
            answer = await self.once(call, key, again=tries.any)
            if isinstance(answer, Completion):
                return answer
            pause = self._pause(answer, tries)
            if pause is None:
                raise answer
            if pause:
                await self.sleep(pause)

    async def once(self, call: Call, key: bytes | None = None, *, again: bool = False) -> Completion | ProviderError:
        """Make the call once; return the answer or the error. Raises BudgetExceeded without a call."""
        charge = await self.billing.reserve(self.adapter.name, call.max_usage)
        limiter, expected = self.shared.limiter, (call.input_estimate, float(call.max_tokens))
        try:
            permit = await limiter.acquire(*expected, again=again)
        except BaseException:
            charge.release()
            raise
        try:
            reply = await self._attempt(call, charge)
            limiter.answered(permit, expected, reply.usage)
            if key is not None and self.deliver is not None:
                await self.deliver(key, reply)
        except RateLimited as exc:
            after = exc.retry.after if exc.retry else None
            if after is not None and after > PATIENCE:
                return OutageError(f"{exc}; the service asks to wait {after / 60:.0f} minutes; resume the run then")
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
        self.shared.answered = True
        return reply

    async def _attempt(self, call: Call, charge: Charge) -> Completion:
        """Make the call and record its cost; a call that is cancelled may have been charged."""
        try:
            self.billing.check_time()
        except BudgetExceeded:
            charge.release()
            raise
        try:
            await charge.announce()
            reply = await self.adapter.complete(call)
            charge.settle(reply.usage)
        except ProviderError as exc:
            charge.fail(unsure=exc.unsure)
            raise
        finally:
            charge.fail(unsure=True)
        return reply

    def _never_there(self, exc: ProviderError) -> bool:
        """Return whether the error means a wrong address, not an outage."""
        return isinstance(exc, UnreachableError) and not self.shared.answered

    def _pause(self, exc: ProviderError, tries: Tries) -> float | None:
        """Return the seconds until the next try, None if the call is not retried; raises OutageError."""
        if exc.retry is None:
            return None
        if self._never_there(exc):
            tries.faults += 1
            return SHORTEST if tries.faults < FIRST_TRIES else None
        if out_for := self.shared.limiter.outage_seconds:
            if out_for > PATIENCE:
                raise OutageError(f"{exc}; it has been so for {out_for / 60:.0f} minutes") from None
            tries.any = True
            return 0.0
        return tries.pause(exc.retry, self.rng)


@dataclass(slots=True)
class Tries:
    """Counts the tries of one call. ``any``: whether there was a try before."""

    faults: int = 0
    refusals: int = 0
    waited: float = 0.0
    any: bool = False

    def pause(self, retry: Retry, rng: random.Random) -> float | None:
        """Return the seconds until the next try, None if the call is not retried."""
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
        if retry.rate_limited and retry.after is not None:  # the limiter makes all calls wait that long
            return 0.0 if count < STUBBORN else rng.uniform(0, min(LONGEST, SHORTEST * 2.0 ** (count - STUBBORN)))
        return pause
