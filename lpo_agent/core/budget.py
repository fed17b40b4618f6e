"""One purse for a run: what was spent, what is promised, and caps that cannot be passed.

Every call reserves its highest cost before it is made and settles with what it really cost, so no
number of concurrent callers can overshoot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
    """What a run has spent. ``usd`` is None once a call was made whose price is not known.

    ``unsure_tokens`` and ``unsure_usd`` are the most that broken calls may have cost: the caps
    count them, the other numbers do not.
    """

    calls: int = 0
    cached_calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0
    unsure_tokens: int = 0
    unsure_usd: float = 0.0


class Spent(NamedTuple):
    """What one attempt cost. ``usd`` is None where the price is not known."""

    failed: bool
    input_tokens: int
    output_tokens: int
    usd: float | None
    unsure_tokens: int = 0
    unsure_usd: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A promise of spending that is not settled yet."""

    calls: int
    tokens: int
    usd: float


class Ledger:
    """The books of one run.

    ``already`` is what earlier sessions of the same run spent. ``clock`` counts seconds.
    """

    def __init__(
        self, budget: Budget | None = None, already: Totals | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget, self._before, self._clock = budget or Budget(), already or Totals(), clock
        self._began = clock()
        self._calls, self._failed, self._cached = self._before.calls, self._before.failed_calls, 0
        self._input, self._output, self._usd = self._before.input_tokens, self._before.output_tokens, self._before.usd
        self._unsure_tokens, self._unsure_usd = self._before.unsure_tokens, self._before.unsure_usd
        self._open, self._held_calls, self._held_tokens, self._held_usd = 0, 0, 0, 0.0

    @property
    def totals(self) -> Totals:
        """What was spent so far, earlier sessions included."""
        return Totals(
            calls=self._calls,
            cached_calls=self._before.cached_calls + self._cached,
            failed_calls=self._failed,
            input_tokens=self._input,
            output_tokens=self._output,
            usd=self._usd,
            seconds=self.seconds(),
            unsure_tokens=self._unsure_tokens,
            unsure_usd=self._unsure_usd,
        )

    def seconds(self) -> float:
        """Return the run's time so far, earlier sessions included."""
        return self._before.seconds + self._clock() - self._began

    def reserve(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None) -> Reservation:
        """Promise to spend at most this much.

        ``usd`` None means: not known. Raises BudgetExceeded, and promises nothing, if a cap would
        be passed, or if there is a cap in dollars and the price is not known.
        """
        budget, unsure = self.budget, self._unsure_tokens
        if usd is None and budget.usd is not None:
            raise BudgetExceeded("there is a cap in US dollars, but the price of a model is not known; see --prices")
        promised = Reservation(calls, tokens, usd or 0.0)
        _check("calls", budget.calls, self._calls, self._held_calls + calls)
        _check("tokens", budget.tokens, self._input + self._output + unsure, self._held_tokens + tokens)
        _check("usd", budget.usd, (self._usd or 0.0) + self._unsure_usd, self._held_usd + promised.usd)
        if budget.seconds is not None:
            _check("seconds", budget.seconds, self.seconds(), 0)
        self._hold(promised, 1)
        return promised

    def _hold(self, promised: Reservation, sign: int) -> None:
        self._open += sign
        self._held_calls += sign * promised.calls
        self._held_tokens += sign * promised.tokens
        self._held_usd = self._held_usd + sign * promised.usd if self._open else 0.0  # no rounding is left behind

    def settle(self, reservation: Reservation, *, input_tokens: int, output_tokens: int, usd: float | None) -> Spent:
        """Book what a call really cost in place of what was promised for it."""
        self._hold(reservation, -1)
        self._calls += reservation.calls
        self._input += input_tokens
        self._output += output_tokens
        self._usd = None if self._usd is None or usd is None else self._usd + usd
        return Spent(failed=False, input_tokens=input_tokens, output_tokens=output_tokens, usd=usd)

    def fail(self, reservation: Reservation, *, unsure: bool = False) -> Spent:
        """Book a call that failed. If it may have been charged for (``unsure``), its promise is never taken back."""
        self._hold(reservation, -1)
        self._calls += reservation.calls
        self._failed += 1
        tokens, usd = (reservation.tokens, reservation.usd) if unsure else (0, 0.0)
        self._unsure_tokens += tokens
        self._unsure_usd += usd
        return Spent(failed=True, input_tokens=0, output_tokens=0, usd=0.0, unsure_tokens=tokens, unsure_usd=usd)

    def release(self, reservation: Reservation) -> None:
        """Take back a promise; nothing was spent on it."""
        self._hold(reservation, -1)

    def cached(self) -> None:
        """Book an answer that was in the journal already and cost nothing."""
        self._cached += 1


def _check(name: str, cap: float | None, spent: float, wanted: float) -> None:
    if cap is None:
        return
    over = spent >= cap if name == "seconds" else spent + wanted > cap + 1e-9
    if over:
        raise BudgetExceeded(f"the budget of {cap:g} {name} is used up ({spent:g} spent)")
