"""Pays for calls that others make: whatever counts for a run is promised before, and booked after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from lpo_agent.errors import BudgetExceeded, BudgetTied
from lpo_agent.models.middleware import TIED, Budgeted, Layer, Metered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lpo_agent.core.budget import Ledger, Reservation, Spent
    from lpo_agent.models.base import Model, Usage
    from lpo_agent.models.prices import Prices

    Promise = tuple[Reservation, ...]


def layers_of(model: Model) -> Iterator[Model]:
    """Yield a model's layers from outside in, and at last what they stand on."""
    yield model
    while isinstance(model, Layer):
        model = model.inner
        yield model


@dataclass(frozen=True, slots=True)
class Purse:
    """One or several ledgers that a model's calls count for. A promise holds for one call, with all of them."""

    name: str
    ledgers: tuple[Ledger, ...]
    prices: Prices
    book: Callable[[Spent], None]

    @classmethod
    def of(cls, model: Model) -> Purse:
        """Return what pays for the calls of a model under its layers."""
        layers = list(layers_of(model))
        (paid,) = [layer for layer in layers if isinstance(layer, Budgeted)]
        own = [layer.ledger for layer in layers if isinstance(layer, Metered)]
        return cls(model.name, (*own, paid.ledger), paid.prices, paid.book)

    async def promise(self, most: Usage, calls: int) -> list[Promise]:
        """Promise so many calls, once those under way leave room; raises BudgetExceeded, and promises nothing."""
        usd = self.prices.cost(self.name, most)
        tokens = most.input_tokens + most.output_tokens
        while True:
            made: list[list[Reservation]] = []
            try:
                for _ in range(calls):
                    made.append([])
                    for ledger in self.ledgers:
                        made[-1].append(ledger.reserve(tokens=tokens, usd=usd))
            except BudgetExceeded as exc:
                for promise in made:
                    self.unused(tuple(promise))
                if not isinstance(exc, BudgetTied):
                    raise
            else:
                return [tuple(promise) for promise in made]
            await anyio.sleep(TIED)

    def unused(self, promise: Promise) -> None:
        """Take back the promise of a call that was never made."""
        for ledger, part in zip(self.ledgers, promise, strict=False):  # the last one may have been refused half-way
            ledger.release(part)

    def paid(self, promise: Promise, used: Usage) -> None:
        """Book what a call used."""
        usd = self.prices.cost(self.name, used)
        for number, (ledger, part) in enumerate(zip(self.ledgers, promise, strict=True)):
            spent = ledger.settle(part, input_tokens=used.input_tokens, output_tokens=used.output_tokens, usd=usd)
            if number == 0:
                self.book(spent)

    def failed(self, promise: Promise, *, unsure: bool) -> None:
        """Book a call that failed; ``unsure``: it may have been charged for."""
        for number, (ledger, part) in enumerate(zip(self.ledgers, promise, strict=True)):
            spent = ledger.fail(part, unsure=unsure)
            if number == 0:
                self.book(spent)
