"""Tests of the rate limiter in virtual time, against simulated services that enforce their limits."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from lpo_agent.models.base import Usage
from lpo_agent.models.providers.base import PROVIDERS, traits_of
from lpo_agent.models.ratelimit.adaptive import BURST_SECONDS, Size, Window
from lpo_agent.models.ratelimit.limiter import Limiter, Limits
from lpo_agent.models.ratelimit.outage import PROBE_INTERVALS, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def in_virtual_time(work: Callable[[], Awaitable[None]]) -> None:
    """Run on a clock that jumps to the next thing to happen."""
    anyio.run(work, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@dataclass
class Service:
    """Enforces requests and tokens a second with a burst; refuses at once, answers after a while."""

    rate: float
    burst: float = 20.0
    tokens: float = math.inf
    latency: float = 0.4
    retry_after: float | None = None
    slow_refusals: bool = False
    answered: list[float] = field(default_factory=list)
    refused: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.level, self.volume, self.last = self.burst, min(self.tokens, 1e18), 0.0

    async def ask(self, tokens: float) -> bool:
        now = trio.current_time()
        self.level = min(self.burst, self.level + (now - self.last) * self.rate)
        self.volume = min(self.tokens, self.volume + (now - self.last) * self.tokens) if self.tokens < 1e18 else 1e18
        self.last = now
        taken = self.level >= 1 and self.volume >= min(tokens, self.tokens)
        if taken:
            self.level -= 1
            self.volume -= tokens
        if taken or self.slow_refusals:
            await trio.sleep(self.latency * self.rng.uniform(0.6, 1.6))
        if not taken:
            self.refused += 1
        else:
            self.answered.append(trio.current_time())
        return taken


async def scoring(
    limiter: Limiter, service: Service, calls: int, size: Callable[[int], float], waits: list[float]
) -> None:
    """Make so many calls, each until it is answered."""

    async def one(number: int) -> None:
        tokens, asked = size(number), trio.current_time()
        again = False
        while True:
            permit = await limiter.acquire(tokens, 0, again=again)
            waits.append(trio.current_time() - asked)
            try:
                if await service.ask(tokens):
                    limiter.answered(permit, (tokens, 0), Usage(int(tokens), 0))
                    return
                limiter.refused(permit, service.retry_after)
            finally:
                limiter.release(permit)
            again = True
            await trio.sleep(limiter_rng.uniform(0, 0.5))

    limiter_rng = random.Random(2)
    async with anyio.create_task_group() as tasks:
        for number in range(calls):
            tasks.start_soon(one, number)


def served(
    limits: Limits, service: Service, calls: int, *, size: Callable[[int], float] = lambda _: 100.0
) -> tuple[float, float]:
    """Return answers a second over the whole time, and refusals for each answer."""
    took = [0.0]

    async def work() -> None:
        limiter = Limiter(limits, clock=trio.current_time)
        began = trio.current_time()
        await scoring(limiter, service, calls, size, [])
        took[0] = trio.current_time() - began
        assert limiter.gate.in_flight == 0

    in_virtual_time(work)
    return len(service.answered) / took[0], service.refused / len(service.answered)


@pytest.mark.parametrize("burst", [1.0, 20.0, 100.0])
def test_a_given_limit_is_used_and_not_exceeded(burst: float) -> None:
    speed, refused = served(Limits(rpm=6000), Service(100.0, burst), 3000)
    assert speed >= 96
    assert refused < 0.01


@pytest.mark.parametrize("slow_refusals", [False, True])
@pytest.mark.parametrize("factor", [1.2, 2.0, 5.0])
def test_a_given_limit_that_is_too_high_is_corrected(factor: float, slow_refusals: bool) -> None:  # noqa: FBT001 - a parameter
    service = Service(100.0, slow_refusals=slow_refusals)
    speed, refused = served(Limits(rpm=6000 * factor), service, 4000)
    assert speed >= (96 if factor <= 2 else 90)
    assert refused < (0.03 if factor <= 2 else 0.1)


def test_an_unknown_limit_is_found() -> None:
    speed, refused = served(Limits(), Service(100.0), 4000)
    assert speed >= 85
    assert refused < 0.05


def test_retry_after_applies_to_all_calls() -> None:
    service = Service(100.0, retry_after=1.0)
    speed, refused = served(Limits(rpm=12_000), service, 4000)
    assert speed >= 85
    assert refused < 0.03


def test_a_token_limit_is_used_by_calls_of_all_sizes() -> None:
    sizes = random.Random(3)
    service = Service(1e9, 1e9, tokens=50_000)
    amounts = [sizes.choice([50, 200, 1000, 8000]) for _ in range(1500)]
    speed, refused = served(Limits(tpm=3_000_000), service, 1500, size=lambda n: float(amounts[n]))
    assert speed * sum(amounts) / len(amounts) >= 0.96 * 50_000
    assert refused < 0.01


def test_a_large_call_is_not_starved_by_small_ones() -> None:
    starts: dict[int, float] = {}

    async def work() -> None:
        limiter = Limiter(Limits(tpm=600_000), clock=trio.current_time)

        async def one(number: int, tokens: float) -> None:
            permit = await limiter.acquire(tokens, 0)
            starts[number] = trio.current_time()
            limiter.release(permit)

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number, 15_000.0 if number == 100 else 100.0)
                await trio.lowlevel.checkpoint()

    in_virtual_time(work)
    assert [number for number, _ in sorted(starts.items(), key=lambda item: (item[1], item[0]))] == list(range(200))
    assert starts[100] - starts[99] == pytest.approx(1.5, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.floats(60, 60_000), st.floats(600, 600_000), st.lists(st.floats(1, 3000), min_size=1, max_size=60))
def test_no_window_holds_more_than_its_share_and_order_is_kept(rpm: float, tpm: float, sizes: list[float]) -> None:
    started: list[tuple[float, int, float]] = []

    async def work() -> None:
        limiter = Limiter(Limits(rpm, tpm), clock=trio.current_time)

        async def one(number: int, size: float) -> None:
            permit = await limiter.acquire(size, 0)
            started.append((trio.current_time(), number, size))
            await trio.sleep(0.1)
            limiter.release(permit)

        async with anyio.create_task_group() as tasks:
            for number, size in enumerate(sizes):
                tasks.start_soon(one, number, size)
                await trio.lowlevel.checkpoint()

    in_virtual_time(work)
    assert [number for _, number, _ in started] == list(range(len(sizes)))
    for i, (begin, _, first) in enumerate(started):
        window = [size for at, _, size in started[i:] if at < begin + 10]
        assert len(window) <= rpm / 60 * 10 + 1 + max(1, BURST_SECONDS * rpm / 60) + 1e-6
        assert sum(window) <= tpm / 60 * 10 + first + max(1, BURST_SECONDS * tpm / 60) + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["answer", "refuse", "fail", "cancel"])), max_size=60))
def test_counts_are_right_after_many_cancellations_and_failures(plan: list[tuple[float, str]]) -> None:
    async def work() -> None:
        limiter = Limiter(Limits(rpm=1200, tpm=60_000), concurrency=3, clock=trio.current_time)

        async def one(pause: float, how: str) -> None:
            with trio.move_on_after(pause if how == "cancel" else math.inf):
                permit = await limiter.acquire(100, 10)
                try:
                    await trio.sleep(pause)
                    if how == "answer":
                        limiter.answered(permit, (100, 10), Usage(90, 1))
                    elif how == "refuse":
                        limiter.refused(permit, pause)
                    elif how == "fail":
                        limiter.failed(permit, "broken")
                finally:
                    limiter.release(permit)
                    limiter.release(permit)  # once too often does no harm

        with trio.fail_after(3600):
            async with anyio.create_task_group() as tasks:
                for pause, how in plan:
                    tasks.start_soon(one, pause, how)
            assert limiter.gate.in_flight == 0
            limiter.release(await limiter.acquire(1, 1))

    in_virtual_time(work)


def test_limits_are_learned_from_headers_unless_they_were_given() -> None:
    limiter = Limiter(Limits(tpm=600))
    openai, anthropic = (traits_of(PROVIDERS.load(name)).limit_headers for name in ("openai", "anthropic"))
    headers = {"x-ratelimit-limit-requests": "120", "x-ratelimit-limit-tokens": "99", "x-ratelimit-reset": "1s"}
    limiter.observe(headers, openai)
    assert [bucket.limit for bucket in limiter.gate.buckets] == [2.0, 10.0, None, None]
    headers = {"anthropic-ratelimit-requests-limit": "240", "anthropic-ratelimit-input-tokens-limit": "60"}
    limiter.observe(headers, anthropic)
    assert [bucket.limit for bucket in limiter.gate.buckets] == [4.0, 10.0, 1.0, None]


def test_input_and_output_tokens_are_counted_apart() -> None:
    times: list[float] = []

    async def work() -> None:
        limiter = Limiter(Limits(input_tpm=60_000, output_tpm=6000), clock=trio.current_time)
        for _ in range(20):
            permit = await limiter.acquire(10, 100)
            times.append(trio.current_time())
            limiter.answered(permit, (10, 100), Usage(10, 100))
            limiter.release(permit)

    in_virtual_time(work)
    assert times[-1] - times[0] == pytest.approx(19, rel=0.05)  # 100 output tokens a second


def test_reservations_approach_the_actual_usage() -> None:
    times: list[float] = []

    async def work() -> None:
        limiter = Limiter(Limits(tpm=60_000), clock=trio.current_time)

        async def one() -> None:
            permit = await limiter.acquire(100, 900)
            times.append(trio.current_time())
            await trio.sleep(0.4)
            limiter.answered(permit, (100, 900), Usage(95, 5))
            limiter.release(permit)

        async with anyio.create_task_group() as tasks:
            for _ in range(400):
                tasks.start_soon(one)

    in_virtual_time(work)
    assert times[-1] - times[200] == pytest.approx(20, rel=0.1)  # 10 calls a second, a tenth of what they might use


@pytest.mark.parametrize(("slots", "most"), [(10, 20), (64, 128), (1000, 256)])
def test_without_a_limit_concurrency_grows_while_throughput_grows(slots: int, most: int) -> None:
    peak = 0

    async def work() -> None:
        nonlocal peak
        limiter, places = Limiter(clock=trio.current_time), trio.CapacityLimiter(slots)

        async def one() -> None:
            nonlocal peak
            permit = await limiter.acquire(1, 1)
            peak = max(peak, limiter.gate.in_flight)
            async with places:
                await trio.sleep(0.5)
            limiter.answered(permit, (1, 1), Usage(1, 1))
            limiter.release(permit)

        async with anyio.create_task_group() as tasks:
            for _ in range(4000):
                tasks.start_soon(one)

    in_virtual_time(work)
    assert slots / 2 <= peak * (256 if slots == 1000 else 1) <= 256 * most
    assert peak <= most


def test_a_window_begins_small() -> None:
    window = Window(8, 256)
    for _ in range(7):
        window.answered(1.0)
    assert window.size == 8


def test_a_refusal_while_idle_does_not_reduce_the_rate() -> None:
    async def work() -> None:
        limiter = Limiter(Limits(rpm=600), clock=trio.current_time)

        async def ask(refusal: float | None = None) -> None:
            permit = await limiter.acquire(1, 1)
            if refusal is None:
                limiter.answered(permit, (1, 1), Usage(1, 1))
            else:
                limiter.refused(permit, refusal)
            limiter.release(permit)

        for _ in range(300):
            await ask()
        for _ in range(15):
            await trio.sleep(2)
            await ask()
        await ask(1.0)
        assert (limiter.gate.buckets[0].rate or 0) >= 4.5

    in_virtual_time(work)


def test_calls_under_way_when_an_outage_begins_are_no_probes() -> None:
    outage = Outage()
    for _ in range(64):
        outage.failed(began=0.0, now=1.0)
    assert outage.down
    assert outage.next_probe == 1.0 + PROBE_INTERVALS[0]
    outage.failed(began=outage.next_probe, now=2.0)
    assert outage.next_probe == 2.0 + PROBE_INTERVALS[1]


def test_a_limit_learned_later_gets_no_credit_for_the_past() -> None:
    limiter = Limiter(Limits(rpm=60_000), clock=lambda: 0.0)
    permit = limiter.gate.take(Size.of(100, 900), 0.0)
    limiter.observe({"x-tokens": "60000"}, {"x-tokens": "tokens"})
    limiter.answered(permit, (100, 900), Usage(100, 10))
    assert limiter.gate.buckets[1].level <= 0


def test_sizes_have_four_dimensions() -> None:
    assert Size.of(3, 4) == (1, 7, 3, 4)
