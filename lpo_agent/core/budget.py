"""The budget of a run: what was spent, what is reserved for calls under way, and caps that cannot be passed.

Every call reserves the most that it can cost before it is made, and settles with what it really cost. So
no number of concurrent callers can pass a cap.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from lpo_agent.core.fields import OptionModel, option
from lpo_agent.errors import BudgetExceeded, BudgetTied

if TYPE_CHECKING:
    from collections.abc import Callable


SLACK: Final = 1e-9
"""Sums of dollars are rounded."""


class Budget(OptionModel):
    """Caps of a run; None is no cap. They cover task, optimizer and judge calls alike.

    Raises ConfigError for a cap that cannot be one.
    """

    prefix: ClassVar[str] = "budget"

    usd: float | None = option(
        None, "highest cost of the run, if prices are known", metavar="N", unit="US dollars", unset="no cap", gt=0
    )
    calls: int | None = option(
        None, "highest number of model calls, including failed ones", metavar="N", unset="no cap", gt=0
    )
    tokens: int | None = option(None, "highest number of tokens, input and output", metavar="N", unset="no cap", gt=0)
    seconds: float | None = option(None, "longest time", metavar="N", unit="seconds", unset="no cap", gt=0)

    @property
    def caps_calls(self) -> bool:
        """Whether there is a cap that a call can use up."""
        return not self.usd is self.calls is self.tokens is None


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
    aside: bool = False


@dataclass(slots=True)
class _Sum:
    """What open promises add up to."""

    promises: int = 0
    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def add(self, promised: Reservation, sign: int) -> None:
        self.promises += sign
        self.calls += sign * promised.calls
        self.tokens += sign * promised.tokens
        self.usd = self.usd + sign * promised.usd if self.promises else 0.0  # no rounding is left behind


class Ledger:
    """What one run has spent and reserved, and its caps.

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
        self._held, self._aside = _Sum(), _Sum()
        self._waiting: list[Callable[[], None]] = []

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

    def reserve(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None, aside: bool = False) -> Reservation:
        """Reserve at most this much spending.

        ``usd`` None means: not known. ``aside``: kept for later, not for a call under way. Raises as
        :meth:`check` does, and then reserves nothing.
        """
        self.check(calls=calls, tokens=tokens, usd=usd)
        reservation = Reservation(calls, tokens, usd or 0.0, aside)
        self._hold(reservation, 1)
        return reservation

    def check(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None) -> None:
        """Raise BudgetExceeded if this much more would pass a cap, whatever the calls under way turn out to cost.

        So it does where there is a cap in dollars and the price is not known. Raises BudgetTied if the cap
        would be passed only if the calls under way cost as much as they may.
        """
        budget, kept, held = self.budget, self._aside, self._held
        if usd is None and budget.usd is not None:
            raise BudgetExceeded("there is a cap in US dollars, but the price of a model is not known; see --prices")
        if budget.calls is not None:
            _check("calls", budget.calls, self._calls, calls, held=held.calls, aside=kept.calls)
        if budget.tokens is not None:
            spent = self._input + self._output + self._unsure_tokens
            _check("tokens", budget.tokens, spent, tokens, held=held.tokens, aside=kept.tokens)
        if budget.usd is not None:
            spent_usd = (self._usd or 0.0) + self._unsure_usd
            _check("US dollars", budget.usd, spent_usd, usd or 0.0, held=held.usd, aside=kept.usd)
        self.check_time()

    def check_time(self) -> None:
        """Raise BudgetExceeded if the cap on seconds is reached."""
        cap = self.budget.seconds
        if cap is not None and (spent := self.seconds()) >= cap:
            raise BudgetExceeded(f"the budget of {cap:g} seconds is used up ({spent:.3g} s spent)")

    def when_freed(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` once, when the next reservation is settled or given back."""
        self._waiting.append(tell)

    def _hold(self, promised: Reservation, sign: int) -> None:
        (self._aside if promised.aside else self._held).add(promised, sign)
        if sign < 0 and self._waiting:
            waiting, self._waiting = self._waiting, []
            for tell in waiting:
                tell()

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


def _check(unit: str, cap: float, spent: float, wanted: float, *, held: float, aside: float) -> None:
    """Raise unless ``wanted`` more fits under the cap, beside what is held for calls and kept aside for later."""
    least = spent + wanted + aside
    if least + held <= cap + SLACK:
        return
    if least > cap + SLACK:
        kept = f", {aside:g} kept for the final test" if aside else ""
        raise BudgetExceeded(f"the budget of {cap:g} {unit} is used up ({spent:g} spent{kept})")
    raise BudgetTied(f"the budget of {cap:g} {unit} is reserved for calls under way")
