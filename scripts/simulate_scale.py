#!/usr/bin/env python3
"""Simulates searches with many workers: is the rate limit used and shared fairly, and what does losing workers cost?

This is a discrete-event simulation of `lpo worker` and the bus over NATS. A coordinator is the process of a search; it
keeps a number of requests in the queue. Workers take requests in order, reserve ("lease") several time slots at once
under the shared limit, call a service, and reply. The requests of a worker that fails go to other workers after some
time. The times of the network, of a lease and of a coordinator's own work were measured on one machine (see the
options).

    python scripts/simulate_scale.py [--workers 1000] [--places 16] [--quota 10000] [--seconds 40]
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.models.ratelimit.shared import MAX_LEASE, clock_count

if TYPE_CHECKING:
    from collections.abc import Callable

ACK_WAIT: Final = 6.0
"""Seconds until a lost worker's requests go to others, as in lpo_agent.bus.nats."""
CAUTION: Final = 0.995
SHORTEST, LONGEST = 0.002, 0.25
"""Bounds of the pause after a lease that another worker was faster to get, as in lpo_agent.bus.nats_connection."""


@dataclass
class Plan:
    """The parameters of a simulation; times in seconds.

    ``op``: the server's work for one read or write of the shared clock; ``each``: a coordinator's own work for a
    request. Both are done one after another.
    """

    workers: int = 1000
    places: int = 16
    quota: float = 10_000.0
    seconds: float = 60.0
    coordinators: int = 8
    window: int = 4096
    latency: float = 1.0
    wire: float = 0.001
    op: float = 0.00005
    each: float = 0.00045
    lost: float = 0.0
    lost_at: float = 30.0
    seed: int = 0


@dataclass
class Worker:
    """A worker: free places, requests that wait for a time slot, the last clock value, and whether it is alive."""

    free: int
    waiting: deque[int] = field(default_factory=deque)
    leasing: bool = False
    stood: float = 0.0
    seen: dict[int, float] = field(default_factory=dict)
    alive: bool = True
    held: set[int] = field(default_factory=set)


class World:
    """The simulation. ``done``: times of answers; ``shares``: answers by coordinator; ``again``: repeated requests."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng, self.now = plan, random.Random(plan.seed), 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.queue: deque[int] = deque()
        self.owner: dict[int, int] = {}
        self.workers = [Worker(plan.places) for _ in range(plan.workers)]
        self.idle: deque[int] = deque(range(plan.workers))
        self.parts = clock_count(plan.quota)
        self.clocks, self.revisions, self.store_free = [0.0] * self.parts, [0] * self.parts, 0.0
        self.writes = self.conflicts = 0
        self.busy = [0.0] * plan.coordinators
        self.spent = [0.0] * plan.coordinators
        self.done: list[float] = []
        self.started: list[float] = []
        self.shares: Counter[int] = Counter()
        self.again = 0
        self.settled: set[int] = set()

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Schedule an action in this many seconds."""
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, action))

    def run(self) -> None:
        """Run the simulation to its end."""
        plan = self.plan
        for coordinator in range(plan.coordinators):
            for _ in range(plan.window):
                self.publish(coordinator)
        if plan.lost:
            self.at(plan.lost_at, self.lose)
        while self.events and self.events[0][0] <= plan.seconds:
            self.now, _, action = heapq.heappop(self.events)
            action()

    def publish(self, coordinator: int) -> None:
        """Let a coordinator put its next request into the queue, after its own work for the request."""
        start = max(self.now, self.busy[coordinator])
        self.busy[coordinator] = start + self.plan.each
        self.spent[coordinator] += self.plan.each
        request = len(self.owner)
        self.owner[request] = coordinator

        def arrive() -> None:
            self.queue.append(request)
            self.hand_out()

        self.at(start + self.plan.each + self.plan.wire - self.now, arrive)

    def hand_out(self) -> None:
        """Give requests to free places, worker by worker."""
        while self.queue and self.idle:
            number = self.idle.popleft()
            worker = self.workers[number]
            if not worker.alive or not worker.free:
                continue
            request = self.queue.popleft()
            worker.free -= 1
            worker.held.add(request)
            worker.waiting.append(request)
            if worker.free:
                self.idle.append(number)
            self.lease(number)

    def lease(self, number: int) -> None:
        """Let a worker lease time slots for its waiting requests; one lease at a time, and not too early."""
        worker = self.workers[number]
        if worker.leasing or not worker.waiting:
            return
        worker.leasing = True
        pause = max(0.0, min(MAX_LEASE, (worker.stood - self.now) / 2))
        self.at(pause, lambda: self.lease_lot(number))

    def lease_lot(self, number: int) -> None:
        """Lease time slots for the waiting requests, up to the largest size of a lease."""
        worker, turn = self.workers[number], self.parts / (CAUTION * self.plan.quota)
        lot = [worker.waiting.popleft() for _ in range(min(len(worker.waiting), max(1, int(MAX_LEASE / turn))))]

        def leased(start: float) -> None:
            worker.leasing, worker.stood = False, start
            worker.seen[part] = start + len(lot) * turn
            for place, request in enumerate(lot):
                self.at(max(0.0, start + place * turn - self.now), partial(self.ask, number, request))
            self.lease(number)

        part = min(range(self.parts), key=lambda part: (worker.seen.get(part, 0.0), self.rng.random()))
        self.advance(part, len(lot) * turn, leased)

    def advance(self, part: int, seconds: float, done: Callable[[float], None], tries: int = 0) -> None:
        """Move a shared clock ahead: read it and write it; if another worker wrote in between, try again."""

        def write(revision: int) -> None:
            if revision != self.revisions[part]:
                self.conflicts += 1
                pause = self.rng.uniform(0, min(LONGEST, SHORTEST * 2**tries))
                self.at(self.plan.wire + pause, lambda: self.advance(part, seconds, done, tries + 1))
                return
            self.revisions[part] += 1
            self.writes += 1
            start = max(self.clocks[part], self.now)
            self.clocks[part] = start + seconds
            self.at(self.plan.wire, lambda: done(start))

        def read() -> None:
            revision = self.revisions[part]
            self.at(2 * self.plan.wire, lambda: self.store(lambda: write(revision)))

        self.at(self.plan.wire, lambda: self.store(read))

    def store(self, action: Callable[[], None]) -> None:
        """Queue an operation of the server's key-value store, which does one at a time."""
        self.store_free = max(self.now, self.store_free) + self.plan.op
        self.at(self.store_free - self.now, action)

    def ask(self, number: int, request: int) -> None:
        """Send a request to the service; the answer comes later, if the worker is still alive."""
        if not self.workers[number].alive:
            return
        self.started.append(self.now)
        self.at(self.plan.latency * self.rng.lognormvariate(-0.125, 0.5), lambda: self.answer(number, request))

    def answer(self, number: int, request: int) -> None:
        """Reply, free the place, and let the coordinator continue."""
        worker = self.workers[number]
        if not worker.alive:
            return
        worker.held.discard(request)
        worker.free += 1
        self.idle.append(number)
        if request not in self.settled:
            self.settled.add(request)
            self.done.append(self.now)
            self.shares[self.owner[request]] += 1
            self.publish(self.owner[request])
        self.hand_out()

    def lose(self) -> None:
        """Kill some workers; after some time the server gives their requests to others."""
        victims = self.rng.sample(range(len(self.workers)), int(self.plan.lost * len(self.workers)))
        for number in victims:
            worker = self.workers[number]
            worker.alive = False
            held = sorted(worker.held)
            self.again += len(held)
            self.at(ACK_WAIT, partial(self.give_again, held))

    def give_again(self, requests: list[int]) -> None:
        """Put the requests of a lost worker at the front of the queue."""
        self.queue.extendleft(reversed(requests))
        self.hand_out()


def rate(times: list[float], start: float, end: float) -> float:
    """Return the number of events per second between two times."""
    return sum(start <= t < end for t in times) / (end - start)


def worst_window(times: list[float], width: float = 2.0) -> float:
    """Return the highest number of events per second in any window of this width."""
    most, first = 0, 0
    ordered = sorted(times)
    for last, time in enumerate(ordered):
        while ordered[first] < time - width:
            first += 1
        most = max(most, last - first + 1)
    return most / width


def show(name: str, plan: Plan) -> None:
    """Simulate a plan and print one line."""
    world = World(plan)
    world.run()
    start, end = 10.0, plan.seconds
    used = rate(world.started, start, end) / plan.quota
    shares = [world.shares[number] for number in range(plan.coordinators)]
    fair = sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares)) if any(shares) else math.nan
    late = [max(0.0, busy - plan.seconds) for busy in world.busy]  # work that waits beyond the end
    busiest = max(spent - after for spent, after in zip(world.spent, late, strict=True)) / plan.seconds
    peak = worst_window(world.started) / plan.quota
    leases = f"{world.writes / end:,.0f} ({world.conflicts / end:,.0f})"
    again = f"{world.again:,}, {recovery(world):.1f} s" if plan.lost else "-"
    print(f"| {name} | {used:.3f} | {peak:.3f} | {fair:.4f} | {leases} | {busiest:.0%} | {again} |", flush=True)


def recovery(world: World) -> float:
    """Return the seconds after the loss until the answers per second are 0.97 of the final rate again."""
    plan = world.plan
    steady = rate(world.done, plan.seconds - 5, plan.seconds)
    moment = plan.lost_at
    while moment < plan.seconds - 1 and rate(world.done, moment, moment + 1) < 0.97 * steady:
        moment += 0.1
    return moment - plan.lost_at


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--quota", type=float, default=10_000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args()
    common = {"workers": given.workers, "places": given.places, "quota": given.quota, "seconds": given.seconds}
    print(f"{given.workers:,} workers of {given.places} places, {given.quota:,.0f} requests/s of quota\n")
    heads = (
        "limit used",
        "highest 2 s",
        "fairness (Jain)",
        "leases/s (too late)",
        "busiest coordinator",
        "requests made twice, recovery time",
    )
    print(f"| case | {' | '.join(heads)} |\n|{' --- |' * 7}")
    show("8 coordinators", Plan(**common))
    show("the same, a tenth of the workers fail half-way", Plan(**common, lost=0.1, lost_at=given.seconds / 2))
    show("answers take 1.5 s, a tenth fail", Plan(**common, latency=1.5, lost=0.1, lost_at=given.seconds / 2))
    for count in (1, 2, 4, 5, 16):
        show(f"{count} coordinator{'s' * (count > 1)}", Plan(**common, coordinators=count, window=32_768 // count))


if __name__ == "__main__":
    main()
