"""One purse for a run: what was spent, what is promised, and caps that cannot be passed.

Every call reserves its highest cost before it is made and settles with what it really cost, so no
number of concurrent callers can overshoot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent.errors import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable


class Budget(BaseModel):
    """Caps of a run, each None (no cap) or greater than 0: US dollars, calls, tokens, seconds.

    They cover task, optimizer and judge calls alike. Failed calls count as calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: float | None = Field(default=None, gt=0)
    calls: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run has spent. ``usd`` is None once a call was made whose price is not known."""

    calls: int = 0
    cached_calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A promise of spending that is not settled yet."""

    calls: int
    tokens: int
    usd: float


@dataclass(slots=True)
class Ledger:
    """The books of one run.

    ``already`` is what earlier sessions of the same run spent. ``clock`` counts seconds.
    """

    budget: Budget = field(default_factory=Budget)
    already: Totals = field(default_factory=Totals)
    clock: Callable[[], float] = time.monotonic
    totals: Totals = field(init=False)
    _open: set[Reservation] = field(init=False, default_factory=set)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self.totals, self._began = self.already, self.clock()

    def seconds(self) -> float:
        """Return the run's time so far, earlier sessions included."""
        return self.already.seconds + self.clock() - self._began

    def reserve(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None) -> Reservation:
        """Promise to spend at most this much.

        ``usd`` None means: not known. Raises BudgetExceeded, and promises nothing, if a cap would
        be passed, or if there is a cap in dollars and the price is not known.
        """
        if usd is None and self.budget.usd is not None:
            raise BudgetExceeded("there is a cap in US dollars, but the price of a model is not known; see --prices")
        promised = Reservation(calls, tokens, usd or 0.0)
        spent = self.totals
        self._check("calls", self.budget.calls, spent.calls, sum(r.calls for r in self._open) + calls)
        self._check(
            "tokens",
            self.budget.tokens,
            spent.input_tokens + spent.output_tokens,
            sum(r.tokens for r in self._open) + tokens,
        )
        self._check("usd", self.budget.usd, spent.usd or 0.0, sum(r.usd for r in self._open) + promised.usd)
        self._check("seconds", self.budget.seconds, self.seconds(), 0)
        self._open.add(promised)
        return promised

    def _check(self, name: str, cap: float | None, spent: float, wanted: float) -> None:
        if cap is None:
            return
        over = spent >= cap if name == "seconds" else spent + wanted > cap + 1e-12
        if over:
            raise BudgetExceeded(f"the budget of {cap:g} {name} is used up ({spent:g} spent)")

    def settle(self, reservation: Reservation, *, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        """Book what a call really cost, in place of its promise."""
        self.release(reservation)
        spent = self.totals
        self.totals = replace(
            spent,
            calls=spent.calls + reservation.calls,
            input_tokens=spent.input_tokens + input_tokens,
            output_tokens=spent.output_tokens + output_tokens,
            usd=None if spent.usd is None or usd is None else spent.usd + usd,
        )

    def fail(self, reservation: Reservation) -> None:
        """Book a call that failed: it counts as a call, and no tokens were reported for it."""
        self.release(reservation)
        spent = self.totals
        self.totals = replace(spent, calls=spent.calls + reservation.calls, failed_calls=spent.failed_calls + 1)

    def release(self, reservation: Reservation) -> None:
        """Take back a promise; nothing was spent on it."""
        self._open.discard(reservation)

    def cached(self) -> None:
        """Book an answer that was in the journal already and cost nothing."""
        self.totals = replace(self.totals, cached_calls=self.totals.cached_calls + 1)
