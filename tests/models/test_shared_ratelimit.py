"""Tests of a rate limit that several processes share by a common clock, in virtual time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lpo_agent.models.ratelimit.adaptive import Size
from lpo_agent.models.ratelimit.limiter import Limits
from lpo_agent.models.ratelimit.shared import MAX_DELAY, Quota, SharedLimiter, clock_count
from tests.models.test_ratelimit import in_virtual_time

ONE = Size.of(1, 1)


@dataclass
class SharedClock:
    """The number that all processes move ahead; the way to it takes a while, and may fail."""

    slowest: float = 0.01
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    stands_at: dict[str, float] = field(default_factory=dict)
    leases: int = 0
    failures: int = 0

    async def lease(self, part: str, seconds: float) -> float:
        await trio.sleep(self.rng.uniform(0, self.slowest))
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.leases += 1
        start = max(self.stands_at.get(part, 0.0), trio.current_time())
        self.stands_at[part] = start + seconds
        await trio.sleep(self.rng.uniform(0, self.slowest))
        return start


def quota(limits: Limits, clock: SharedClock) -> Quota:
    return Quota(limits, clock.lease, clock=trio.current_time, sleep=trio.sleep)


def most_in(times: list[float], width: float) -> int:
    times = sorted(times)
    return max(sum(start <= time < start + width for time in times) for start in times)


@settings(max_examples=12, deadline=None)
@given(processes=st.integers(1, 6), rpm=st.sampled_from([600, 6000, 24_000]), slow=st.sampled_from([0.001, 0.02, 0.3]))
def test_all_processes_together_use_the_limit_and_never_pass_it(processes: int, rpm: int, slow: float) -> None:
    times: list[float] = []
    calls = rpm // 60 * 4

    async def work() -> None:
        clock = SharedClock(slow)
        quotas = [quota(Limits(rpm=rpm), clock) for _ in range(processes)]

        async def call(number: int) -> None:
            await quotas[number % processes].wait_for_slot(ONE)
            times.append(trio.current_time())

        async with anyio.create_task_group() as tasks:
            for number in range(calls):
                tasks.start_soon(call, number)

    in_virtual_time(work)
    assert len(times) == calls
    assert most_in(times, 2.0) <= 1.05 * rpm / 30 + 1
    if slow < 0.1:
        assert calls / (max(times) - min(times)) >= (0.95 if rpm < 10_000 else 0.9) * rpm / 60


def test_a_large_limit_is_shared_by_several_clocks() -> None:
    assert [clock_count(rps) for rps in (0.1, 100, 149, 150, 600, 10_000)] == [1, 1, 1, 2, 8, 128]

    async def work() -> None:
        clock = SharedClock()
        shared = quota(Limits(tpm=60_000_000), clock)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(shared.wait_for_slot, Size.of(500, 500))
        assert clock.stands_at.keys() <= {f"{part}-of-8" for part in range(8)}

    in_virtual_time(work)


def test_calls_take_as_much_of_a_limit_as_they_are_large() -> None:
    async def work() -> None:
        shared = quota(Limits(tpm=60_000), SharedClock(0.0))
        began = trio.current_time()
        for _ in range(5):
            await shared.wait_for_slot(Size.of(900, 100))
        assert trio.current_time() - began == pytest.approx(4.0, rel=0.02)

    in_virtual_time(work)


def test_a_failed_lease_does_not_block_other_calls() -> None:
    done: list[int] = []

    async def work() -> None:
        clock = SharedClock(failures=1)
        shared = quota(Limits(rpm=600), clock)

        async def call(number: int) -> None:
            try:
                await shared.wait_for_slot(ONE)
            except ConnectionError:
                return
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(call, number)

    in_virtual_time(work)
    assert len(done) == 4


def test_turns_leased_by_a_cancelled_call_go_to_others() -> None:
    done: list[int] = []

    async def work() -> None:
        clock = SharedClock(1.0)
        shared, leaving = quota(Limits(rpm=600), clock), anyio.CancelScope()

        async def call(number: int) -> None:
            await shared.wait_for_slot(ONE)
            done.append(number)

        async def give_up() -> None:
            with leaving:
                await call(0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            await trio.testing.wait_all_tasks_blocked()
            tasks.start_soon(call, 1)
            tasks.start_soon(call, 2)
            await trio.testing.wait_all_tasks_blocked()
            leaving.cancel()
        assert clock.stands_at["0-of-1"] - trio.current_time() < 0.2  # two turns of 0.1 s, none for who left

    in_virtual_time(work)
    assert sorted(done) == [1, 2]


def test_a_missed_turn_expires() -> None:
    async def work() -> None:
        clock, naps = SharedClock(0.0), iter([5 * MAX_DELAY])

        async def sleep(seconds: float) -> None:
            await trio.sleep(seconds + next(naps, 0.0))

        shared = Quota(Limits(rpm=600), clock.lease, clock=trio.current_time, sleep=sleep)
        await shared.wait_for_slot(ONE)
        await shared.wait_for_slot(ONE)  # a process that was busy: it wakes too late
        assert clock.leases == 3

    in_virtual_time(work)


def test_without_limits_nothing_is_leased_and_the_stricter_of_several_counts() -> None:
    async def work() -> None:
        clock = SharedClock()
        shared = quota(Limits(), clock)
        await shared.wait_for_slot(ONE)
        assert clock.leases == 0
        shared.restrict(Limits(rpm=600, tpm=1000))
        shared.restrict(Limits(rpm=900, output_tpm=50))
        assert shared.limits == Limits(rpm=600, tpm=1000, output_tpm=50)

    in_virtual_time(work)


def test_limits_that_a_service_tells_are_shared_too() -> None:
    async def work() -> None:
        limiter = SharedLimiter(clock=trio.current_time, quota=quota(Limits(), SharedClock()))
        limiter.observe({"x-requests": "600"}, {"x-requests": "requests"})
        assert limiter.quota.limits == Limits(rpm=600)
        times = []
        for _ in range(20):
            limiter.release(await limiter.acquire(1, 1))
            times.append(trio.current_time())
        assert times[-1] - times[0] == pytest.approx(1.9, rel=0.1)

    in_virtual_time(work)
