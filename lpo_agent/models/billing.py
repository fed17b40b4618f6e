"""Counts the cost of calls: reserves the highest cost before a call, and records the actual cost after it.

A call counts for several ledgers at once: that of its run, and that of the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from lpo_agent.errors import BudgetTied

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.core.budget import Ledger, Reservation, Spent
    from lpo_agent.models.base import Usage
    from lpo_agent.models.prices import Prices


def _nowhere(_: Spent) -> None:
    """Record nothing outside of the ledgers."""


@dataclass(frozen=True, slots=True)
class Billing:
    """Reserves and records the cost of the calls of one run, in all of ``ledgers``.

    ``book`` is called once with the cost of each attempt, to store it in the journal.
    """

    ledgers: tuple[Ledger, ...]
    prices: Prices
    book: Callable[[Spent], None] = _nowhere

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

    def _close(self) -> bool:
        was, self.open = self.open, False
        return was

    def _booked(self, spent: list[Spent]) -> None:
        if spent:
            self.billing.book(spent[0])
