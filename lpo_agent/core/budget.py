"""The budget of a run: its spending, the reservations of calls in progress, and caps that cannot be exceeded.

Every call reserves its highest possible cost before it is made, and is settled with its actual cost after it. So any
number of concurrent callers cannot exceed a cap.
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
    """The caps of a run; None means no cap. They apply to all calls: of the task model, the optimizer model and judges.

    Raises ConfigError for an invalid cap.
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
        """Whether there is a cap on calls, tokens or cost."""
        return not self.usd is self.calls is self.tokens is None


@dataclass(frozen=True, slots=True)
class Totals:
    """The spending of a run. ``usd`` is None if the price of a call is not known.

    ``unsure_tokens`` and ``unsure_usd``: the highest cost of failed calls that may have been charged. They count for
    the caps, and are not part of the other numbers.
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
    """The cost of one attempt. ``usd`` is None if the price is not known."""

    failed: bool
    input_tokens: int
    output_tokens: int
    usd: float | None
    unsure_tokens: int = 0
    unsure_usd: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A reserved amount that is not settled yet."""

    calls: int
    tokens: int
    usd: float
    aside: bool = False


@dataclass(slots=True)
class _Sum:
    """The sum of the open reservations."""

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
    """The caps of a run, its spending, and its reservations.

    ``already``: the spending of earlier sessions of the same run. ``clock`` counts seconds.
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
        """The spending so far, including earlier sessions."""
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
        """Return the run's time so far, including earlier sessions."""
        return self._before.seconds + self._clock() - self._began

    def reserve(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None, aside: bool = False) -> Reservation:
        """Reserve this amount.

        ``usd`` is None if the price is not known. ``aside``: the amount is for a later phase, not for a call in
        progress. Raises the same errors as :meth:`check`, and then reserves nothing.
        """
        self.check(calls=calls, tokens=tokens, usd=usd)
        reservation = Reservation(calls, tokens, usd or 0.0, aside)
        self._hold(reservation, 1)
        return reservation

    def check(self, *, calls: int = 1, tokens: int = 0, usd: float | None = None) -> None:
        """Raise BudgetExceeded if this amount would exceed a cap, whatever the calls in progress cost in the end.

        Also raises it if there is a cap in dollars but the price is not known. Raises BudgetTied if the cap would be
        exceeded only if the calls in progress cost as much as they have reserved.
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
        """Call ``tell`` once, when the next reservation is settled or released."""
        self._waiting.append(tell)

    def _hold(self, promised: Reservation, sign: int) -> None:
        (self._aside if promised.aside else self._held).add(promised, sign)
        if sign < 0 and self._waiting:
            waiting, self._waiting = self._waiting, []
            for tell in waiting:
                tell()

    def settle(self, reservation: Reservation, *, input_tokens: int, output_tokens: int, usd: float | None) -> Spent:
        """Replace the reservation of a call with its actual cost."""
        self._hold(reservation, -1)
        self._calls += reservation.calls
        self._input += input_tokens
        self._output += output_tokens
        self._usd = None if self._usd is None or usd is None else self._usd + usd
        return Spent(failed=False, input_tokens=input_tokens, output_tokens=output_tokens, usd=usd)

    def fail(self, reservation: Reservation, *, unsure: bool = False) -> Spent:
        """Record a failed call. If it may have been charged (``unsure``), its reservation stays."""
        self._hold(reservation, -1)
        self._calls += reservation.calls
        self._failed += 1
        tokens, usd = (reservation.tokens, reservation.usd) if unsure else (0, 0.0)
        self._unsure_tokens += tokens
        self._unsure_usd += usd
        return Spent(failed=True, input_tokens=0, output_tokens=0, usd=0.0, unsure_tokens=tokens, unsure_usd=usd)

    def release(self, reservation: Reservation) -> None:
        """Release a reservation without any cost."""
        self._hold(reservation, -1)

    def cached(self) -> None:
        """Count an answer from the journal, which costs nothing."""
        self._cached += 1


def _check(unit: str, cap: float, spent: float, wanted: float, *, held: float, aside: float) -> None:
    """Raise unless ``wanted`` fits under the cap in addition to the spending and the reservations."""
    least = spent + wanted + aside
    if least + held <= cap + SLACK:
        return
    if least > cap + SLACK:
        kept = f", {aside:g} kept for the final test" if aside else ""
        raise BudgetExceeded(f"the budget of {cap:g} {unit} is used up ({spent:g} spent{kept})")
    raise BudgetTied(f"the budget of {cap:g} {unit} is reserved for calls in progress")
