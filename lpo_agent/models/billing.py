"""Counts the cost of calls: reserves the highest cost before a call, and records the actual cost after it.

A call counts for several ledgers at once: that of its run, and that of the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from lpo_agent.core.budget import Spent
from lpo_agent.errors import BudgetTied

if TYPE_CHECKING:
    from lpo_agent.core.budget import Ledger, Reservation
    from lpo_agent.models.base import Usage
    from lpo_agent.models.prices import Prices


class CostStore(Protocol):
    """Keeps what attempts cost beyond this process."""

    async def announce(self, most: Spent) -> int:
        """Record the most that an attempt may cost before it is made, and return the attempt's number."""
        ...

    def book(self, spent: Spent, number: int | None) -> None:
        """Record what an attempt cost, in place of what was announced for this number."""
        ...

    def withdraw(self, number: int) -> None:
        """Record that an announced attempt was not made."""
        ...


@dataclass(frozen=True, slots=True)
class Billing:
    """Reserves and records the cost of the calls of one run, in all of ``ledgers``.

    ``costs`` stores what each attempt cost. Where there is a cap, it also stores, before an attempt, the most that the
    attempt may cost, so that the cap holds even for a run that is resumed after its process was killed.
    """

    ledgers: tuple[Ledger, ...]
    prices: Prices
    costs: CostStore | None = None

    async def reserve(self, model: str, most: Usage) -> Charge:
        """Reserve the ``most`` that a call to ``model`` can use; wait if calls in progress may still leave enough.

        Raises BudgetExceeded, and reserves nothing, if a cap would be exceeded whatever the calls in progress cost.
        """
        tokens, usd = most.input_tokens + most.output_tokens, self.prices.cost(model, most)
        while True:
            try:
                return Charge(self, model, self._reserved(tokens, usd))
            except BudgetTied:
                freed = anyio.Event()
                for ledger in self.ledgers:
                    ledger.when_freed(freed.set)
                await freed.wait()

    def _reserved(self, tokens: int, usd: float | None) -> tuple[Reservation, ...]:
        for ledger in self.ledgers[1:]:
            ledger.check(tokens=tokens, usd=usd)
        return tuple(ledger.reserve(tokens=tokens, usd=usd) for ledger in self.ledgers)

    def check_time(self) -> None:
        """Raise BudgetExceeded if a cap on seconds is reached."""
        for ledger in self.ledgers:
            ledger.check_time()

    async def announce(self, reservations: tuple[Reservation, ...]) -> int | None:
        """Record the highest cost of a call before it is made; return its number, None if no cap needs this."""
        if self.costs is None or not any(ledger.budget.caps_calls for ledger in self.ledgers):
            return None
        most = reservations[0]
        return await self.costs.announce(Spent(True, 0, 0, 0.0, most.tokens, most.usd))

    def cached(self) -> None:
        """Count an answer from the journal, which costs nothing."""
        for ledger in self.ledgers:
            ledger.cached()


@dataclass(slots=True)
class Charge:
    """The reservation of one call. The first call of one of its methods ends it; later ones have no effect."""

    billing: Billing
    model: str
    reservations: tuple[Reservation, ...]
    open: bool = True
    number: int | None = None

    async def announce(self) -> None:
        """Record the call right before it is made, so that it counts even if the process dies during the call.

        A cancellation waits until that is done: without its number, the call would be recorded a second time.
        """
        with anyio.CancelScope(shield=True):
            self.number = await self.billing.announce(self.reservations)

    def settle(self, used: Usage) -> None:
        """Record what the call used."""
        if self._close():
            into, out, usd = used.input_tokens, used.output_tokens, self.billing.prices.cost(self.model, used)
            self._booked(
                [
                    ledger.settle(reservation, input_tokens=into, output_tokens=out, usd=usd)
                    for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True)
                ]
            )

    def fail(self, *, unsure: bool) -> None:
        """Record a failed call; ``unsure``: the service may have charged for it."""
        if self._close():
            self._booked(
                [
                    ledger.fail(reservation, unsure=unsure)
                    for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True)
                ]
            )

    def release(self) -> None:
        """Release the reservation, because the call was not made."""
        if self._close():
            for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True):
                ledger.release(reservation)
            if self.number is not None and self.billing.costs is not None:
                self.billing.costs.withdraw(self.number)

    def _close(self) -> bool:
        was, self.open = self.open, False
        return was

    def _booked(self, spent: list[Spent]) -> None:
        if spent and self.billing.costs is not None:
            self.billing.costs.book(spent[0], self.number)
