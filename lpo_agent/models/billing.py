"""Paying for calls: the one place where a call is reserved before it is made and booked when it has ended.

A call may count for several ledgers at once: its run's, and the session's that the run belongs to.
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
    """Book nothing beside the ledgers."""


@dataclass(frozen=True, slots=True)
class Billing:
    """Reserves and books the calls of one run, in all of ``ledgers``.

    ``book`` is told what each attempt cost, once, to keep it beyond this process.
    """

    ledgers: tuple[Ledger, ...]
    prices: Prices
    book: Callable[[Spent], None] = _nowhere

    async def reserve(self, model: str, most: Usage) -> Charge:
        """Reserve the ``most`` that a call to ``model`` can use, and wait while only calls under way stand in the way.

        Raises BudgetExceeded, and reserves nothing, if a cap would be passed whatever these turn out to cost.
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
        """Count an answer that was in the journal already and cost nothing."""
        for ledger in self.ledgers:
            ledger.cached()


@dataclass(slots=True)
class Charge:
    """The reservation of one call. It ends by exactly one of its methods; further ones have no effect."""

    billing: Billing
    model: str
    reservations: tuple[Reservation, ...]
    open: bool = True

    def settle(self, used: Usage) -> None:
        """Book what the call used."""
        if self._close():
            into, out, usd = used.input_tokens, used.output_tokens, self.billing.prices.cost(self.model, used)
            self._booked(
                [
                    ledger.settle(reservation, input_tokens=into, output_tokens=out, usd=usd)
                    for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True)
                ]
            )

    def fail(self, *, unsure: bool) -> None:
        """Book a call that failed; ``unsure``: the service may have charged for it."""
        if self._close():
            self._booked(
                [
                    ledger.fail(reservation, unsure=unsure)
                    for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True)
                ]
            )

    def release(self) -> None:
        """Give the reservation back; the call was not made."""
        if self._close():
            for ledger, reservation in zip(self.billing.ledgers, self.reservations, strict=True):
                ledger.release(reservation)

    def _close(self) -> bool:
        was, self.open = self.open, False
        return was

    def _booked(self, spent: list[Spent]) -> None:
        if spent:
            self.billing.book(spent[0])
