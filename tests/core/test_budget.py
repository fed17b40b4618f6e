"""Tests of budgets: no cap is exceeded, whatever is spent concurrently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.budget import Budget, Ledger, Reservation, Totals
from lpo_agent.errors import BudgetExceeded

STEPS = st.lists(st.tuples(st.sampled_from(["reserve", "settle", "fail", "release"]), st.integers(1, 60)), max_size=80)


@given(st.integers(1, 20), st.integers(1, 400), STEPS)
def test_no_order_of_events_exceeds_a_cap(calls: int, tokens: int, steps: list[tuple[str, int]]) -> None:
    ledger = Ledger(Budget(calls=calls, tokens=tokens, usd=1.0))
    held: list[Reservation] = []
    for step, amount in steps:
        if step == "reserve":
            try:
                held.append(ledger.reserve(tokens=amount, usd=amount / 100))
            except BudgetExceeded:
                continue
        elif held:
            promise = held.pop(amount % len(held))
            if step == "settle":
                used = amount % (promise.tokens + 1)
                ledger.settle(promise, input_tokens=used, output_tokens=0, usd=promise.usd / 2)
            elif step == "fail":
                ledger.fail(promise)
            else:
                ledger.release(promise)
        totals = ledger.totals
        assert totals.calls + len(held) <= calls
        assert totals.input_tokens + totals.output_tokens + sum(p.tokens for p in held) <= tokens
        assert (totals.usd or 0.0) + sum(p.usd for p in held) <= 1.0 + 1e-9


def test_spending_of_earlier_sessions_counts() -> None:
    ledger = Ledger(Budget(calls=10), already=Totals(calls=9))
    ledger.settle(ledger.reserve(), input_tokens=1, output_tokens=1, usd=None)
    with pytest.raises(BudgetExceeded, match="10 calls is used up"):
        ledger.reserve()
    assert ledger.totals.usd is None


def test_time_is_a_budget_too() -> None:
    now = [100.0]
    ledger = Ledger(Budget(seconds=60), already=Totals(seconds=50), clock=lambda: now[0])
    ledger.release(ledger.reserve())
    now[0] += 10
    with pytest.raises(BudgetExceeded, match="60 seconds"):
        ledger.reserve()


def test_a_cap_in_dollars_needs_a_price() -> None:
    with pytest.raises(BudgetExceeded, match="--prices"):
        Ledger(Budget(usd=1)).reserve(usd=None)


def test_a_refusal_tells_what_was_spent_and_what_is_kept_for_later() -> None:
    ledger = Ledger(Budget(calls=150))
    ledger.reserve(calls=60, aside=True)
    for _ in range(90):
        ledger.settle(ledger.reserve(), input_tokens=1, output_tokens=1, usd=0.0)
    says = r"^the budget of 150 calls is used up \(90 spent, 60 kept for the final test\)$"
    with pytest.raises(BudgetExceeded, match=says):
        ledger.reserve()
