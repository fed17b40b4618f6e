"""Measures the speed and the reliability of the engine, in one run, against a test server on this machine.

    .venv/bin/python scripts/bench_engine.py             all of it (about 15 minutes), a table
    .venv/bin/python scripts/bench_engine.py --only faults --only kills
    .venv/bin/python scripts/bench_engine.py --short     a minute; counts only, no times

The server is another process that uses real HTTP (scripts/fake_provider.py). If a measurement misses its bound, the
exit code is 1; with --short only counts have bounds. GEPA and DSPy are measured too if they are installed:
pip install "lpo-agent[peers]".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_loops import PROMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; ``low`` and ``high`` bound it where they are given."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the bounds hold."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


@dataclass(frozen=True, slots=True)
class Provider:
    """A running server."""

    url: str

    def stats(self, query: str = "") -> dict[str, Any]:
        """Return the server's statistics."""
        with urllib.request.urlopen(f"{self.url}/stats?{query}", timeout=30) as answer:  # noqa: S310 - our own address
            content: dict[str, Any] = json.load(answer)
        return content


@contextmanager
def provider(*options: object) -> Iterator[Provider]:
    """Run a server until the block ends."""
    words = [sys.executable, str(HERE / "fake_provider.py"), *map(str, options)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Provider(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


class Lab:
    """A folder for one measurement: data, journal, and `lpo` run on them."""

    def __init__(self, folder: Path, server: Provider, items: int, sizes: Callable[[int], int] = lambda _: 20) -> None:
        self.folder, self.server, self.items = folder, server, items
        rows = ({"input": f"{'lorem ipsum ' * sizes(n)}q{n}", "target": f"q{n}"} for n in range(items))
        self.data = folder / "data.jsonl"
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def lpo(self, *words: object) -> subprocess.Popen[str]:
        """Start `lpo` with JSON output."""
        command = [sys.executable, "-m", "lpo_agent", *map(str, words), "--json", "--quiet"]
        env = os.environ | {"LPO_HOME": str(self.folder / "home")}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def evaluate(self, *options: object) -> subprocess.Popen[str]:
        """Start an evaluation of all items."""
        given = ["--data", self.data, "--model", "openai:fake", "--base-url", f"{self.server.url}/v1"]
        given += ["--metric", "exact", "--max-tokens", 16, "--budget-calls", 20 * self.items + 1000]
        return self.lpo("evaluate", "--text", PROMPT, *given, *options)

    def result(self, process: subprocess.Popen[str], limit: float = 1200) -> dict[str, Any]:
        """Wait for a result."""
        out, err = process.communicate(timeout=limit)
        if process.returncode:
            raise SystemExit(f"lpo ended with {process.returncode}: {err}")
        content: dict[str, Any] = json.loads(out)
        return content

    def check(self, result: dict[str, Any], name: str) -> Row:
        """Return the number of items that are neither scored nor listed as unscored, which must be 0."""
        listed = result["score"]["n"] + len(result["unscored"])
        return Row(f"{name}: items unaccounted for", abs(self.items - listed), high=0)


@contextmanager
def lab(server: Provider, items: int, sizes: Callable[[int], int] = lambda _: 20) -> Iterator[Lab]:
    """Create a lab for the block."""
    with tempfile.TemporaryDirectory() as folder:
        yield Lab(Path(folder), server, items, sizes)


# what is measured


def throughput(scale: float, *, timed: bool) -> Iterator[Row]:
    """Compare `lpo evaluate`, with all features on, to a plain loop over the SDK's fast path."""
    calls = int(12_000 * scale)
    for latency in (0.0, 0.05):
        for width in (32, 256):
            with provider("--latency", latency) as server:
                ours, bare = [], []
                for _ in range(3 if timed else 1):
                    bare.append(child("bare", server.url, calls, width))
                    with lab(server, calls) as place:
                        unlimited = ["--rpm", 1e9, "--tpm", 1e12]
                        result = place.result(place.evaluate("--concurrency", width, *unlimited))
                        ours.append(result["calls_per_s"])
                        yield place.check(result, f"throughput {latency * 1000:.0f} ms, {width} at a time")
            ratio = statistics.median(ours) / statistics.median(bare)
            note = f"{statistics.median(ours):.0f} calls/s against {statistics.median(bare):.0f}"
            name = f"throughput, {latency * 1000:.0f} ms, {width} at a time: share of the bare SDK"
            yield Row(name, ratio, low=0.80 if timed else None, note=note)
            if (latency, width) == (0.0, 32) and timed:
                yield from _peers(statistics.median(ours))


def _peers(ours: float) -> Iterator[Row]:
    for peer, low in (("gather", None), ("gepa", 5.0), ("dspy", 5.0), ("dspy without its cache", None)):
        if peer != "gather" and importlib.util.find_spec(peer.split()[0]) is None:
            print(f"{peer} is not installed: not measured", file=sys.stderr)
            continue
        with provider() as server:
            speed = child(peer, server.url, 1000, 32)
        yield Row(f"throughput, 0 ms, 32 at a time: times {peer}", ours / speed, low=low, note=f"{speed:.0f} calls/s")


def limits(scale: float, *, timed: bool) -> Iterator[Row]:
    """Measure the used share of a limit of 100 requests/s that is given, in headers, given too high, or unknown."""
    calls = int(3000 * scale)
    ways: dict[str, tuple[tuple[str, ...], tuple[str | int, ...], float | None]]
    ways = {"given": ((), ("--rpm", 6000), 0.01), "in headers": (("--headers",), (), 0.01)}
    ways |= {"given, twice too high": ((), ("--rpm", 12_000), 0.03), "not known": ((), (), None)}
    ways |= {"given, no burst allowed": (("--window",), ("--rpm", 6000), 0.01)}
    for name, (server_options, options, refused) in ways.items():
        shape = ("--latency", 0.4, "--shape", "lognormal", "--rps", 100)
        with provider(*shape, *server_options) as server, lab(server, calls) as place:
            result = place.result(place.evaluate(*options))
            yield place.check(result, f"limit {name}")
            stats = server.stats()
        yield from _of_limit(f"limit {name}", stats, 100.0, stats["seen"]["answered"], refused, timed=timed)


def _of_limit(
    name: str, stats: dict[str, Any], limit: float, amount: float, refused: float | None, *, timed: bool
) -> Iterator[Row]:
    seen, span = stats["seen"], stats["last"] - stats["first"]
    yield Row(f"{name}: share of it used", amount / span / limit, low=0.96 if timed and refused else None)
    share = seen.get("429", 0) / seen["answered"]
    yield Row(f"{name}: refused for each answer", share, high=refused if timed else None)


def tokens(scale: float, *, timed: bool) -> Iterator[Row]:
    """Use a limit of tokens with calls of very different sizes, and measure the longest wait."""
    calls, rng = int(1500 * scale), random.Random(5)
    sizes = [rng.choice((5, 20, 80, 600)) for _ in range(calls)]
    limit = 3_000_000.0
    with provider("--latency", 0.4, "--tpm", limit) as server, lab(server, calls, lambda n: sizes[n]) as place:
        result = place.result(place.evaluate("--tpm", limit))
        yield place.check(result, "token limit")
        stats = server.stats("full")
    yield from _of_limit("token limit", stats, limit / 60, stats["tokens"], 0.01, timed=timed)
    due, worst = 0.0, 0.0
    for number, size in enumerate(sizes):
        waited = stats["arrived"][f"q{number}"] - stats["first"]
        worst = max(worst, waited / due) if due > 1 else worst
        due += (12 * size + 70) / 4 / (limit / 60)
    yield Row("token limit: longest wait, in fair shares", worst, high=3.0 if timed else None)


def tail(scale: float, *, timed: bool) -> Iterator[Row]:
    """Run eight branches in which one call in 100 takes 20 times as long, and compare with the critical path."""
    steps = max(2, int(12 * scale))
    with provider("--latency", 0.1, "--shape", "heavy") as server:
        took, critical, barriers = child("branches", server.url, steps, 8, raw=True)
    yield Row("heavy tail, 8 branches: time over the critical path", took / critical, high=1.15 if timed else None)
    yield Row("heavy tail, 8 branches: the same with barriers (simulated)", barriers / critical)


def flat(scale: float, *, timed: bool) -> Iterator[Row]:
    """Make runs of 1,000 and of 100,000 calls; stop the long run near its end and resume it."""
    long, short = int(100_000 * scale), int(1000 * scale)
    with provider() as server:
        with lab(server, short) as place:
            per_short = 1 / place.result(place.evaluate("--concurrency", 32, "--rpm", 1e9))["calls_per_s"]
        with lab(server, long) as place:
            server.stats("reset")
            process = place.evaluate("--concurrency", 32, "--rpm", 1e9)
            _wait_for(server, server.stats()["seen"].get("requests", 0) + long - 200)
            stats = server.stats()
            per_long = (time.time() - stats["first"]) / (long - 200)
            peak = _peak_memory(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
            server.stats("reset")
            began = time.time()
            result = place.result(place.lpo("resume", "last"))
            first = server.stats()["first"] - began
            yield place.check(result, f"{long:,} calls")
    yield Row(f"cost of a call: {long:,} over {short:,} calls", per_long / per_short, high=1.1 if timed else None)
    yield Row(f"peak memory at {long:,} calls, MB", peak, high=300)
    yield Row(f"resume after {long:,} calls: seconds to the first new one", first, high=2.0 if timed else None)


def faults(scale: float, *, timed: bool) -> Iterator[Row]:  # noqa: ARG001 - counts only
    """Let one call in five fail in various ways, and cancel at random moments."""
    calls = int(2000 * scale)
    storm = ("--latency", 0.02, "--shape", "lognormal", "--faults", 0.2)
    with provider(*storm) as server, lab(server, calls) as place:
        result = place.result(place.evaluate("--timeout", 2, "--concurrency", 64))
        seen = server.stats()["seen"]
    yield place.check(result, "faults")
    note = ", ".join(f"{key} {count}" for key, count in sorted(seen.items()) if key.startswith("fault"))
    yield Row("faults: items not scored", len(result["unscored"]), note=note)
    yield Row("faults: calls made but not booked", seen["requests"] - result["usage"]["calls"], high=0)
    with provider(*storm) as server, lab(server, calls) as place:
        budget = calls // 2
        result = place.result(place.evaluate("--timeout", 2, "--concurrency", 64, "--budget-calls", budget))
        yield Row("faults: calls over the budget", max(0, server.stats()["seen"]["requests"] - budget), high=0)
    with provider(*storm) as server, lab(server, calls) as place:
        rng = random.Random(1)
        process = place.evaluate("--timeout", 2, "--concurrency", 64)
        for _ in range(max(2, int(6 * scale))):
            time.sleep(rng.uniform(0.8, 2.0))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            if process.returncode == 0:
                break
            process = place.lpo("resume", "last")
        result = place.result(process) if process.returncode is None else result
        yield place.check(result, "faults and cancellations")


def kills(scale: float, *, timed: bool) -> Iterator[Row]:  # noqa: ARG001 - counts only
    """Kill an evaluation at random moments, and count the repeated calls."""
    times, rng, items = max(3, int(20 * scale)), random.Random(7), max(400, int(2000 * scale))
    with provider("--latency", 0.2, "--shape", "lognormal") as server, lab(server, items) as place:
        process, flying = place.evaluate("--concurrency", 32), 0
        for _ in range(times):
            _wait_for(server, server.stats()["seen"].get("requests", 0) + rng.randrange(10, 120))
            flying += server.stats()["in_flight"]
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = place.lpo("resume", "last")
        result = place.result(process)
        stats = server.stats()
    yield place.check(result, f"{times} kills")
    extra = stats["seen"]["requests"] - items
    note = f"{flying} by the server's count just before each kill"
    yield Row(f"{times} kills: calls asked for again", extra, high=32 * times, note=note)


def _wait_for(server: Provider, requests: int) -> None:
    while server.stats()["seen"].get("requests", 0) < requests:
        time.sleep(0.01)


def _peak_memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def child(kind: str, url: str, calls: int, width: int, *, raw: bool = False) -> Any:
    """Run a loop in a new process; return its calls per second, or the text that it printed."""
    words = [sys.executable, str(HERE / "bench_loops.py"), kind, url, str(calls), str(width)]
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"DSPY_CACHEDIR": folder}
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=env)
    printed = json.loads(done.stdout.splitlines()[-1])
    return printed if raw else float(printed)


PARTS = {
    "throughput": throughput,
    "limits": limits,
    "tokens": tokens,
    "tail": tail,
    "flat": flat,
    "faults": faults,
    "kills": kills,
}


def main() -> int:
    """Measure, print a table, write JSON; return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="measure this part (may be repeated)")
    parser.add_argument("--short", action="store_true", help="small, with bounds for counts only")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the measurements as JSON")
    told = parser.parse_args()
    rows: list[Row] = []
    for name in told.only or PARTS:
        for row in PARTS[name](0.05 if told.short else 1.0, timed=not told.short):
            rows.append(row)
            print(shown(row), flush=True)
    if told.out:
        told.out.write_text(json.dumps([asdict(row) | {"met": row.met} for row in rows], indent=2) + "\n")
    missed = [row.name for row in rows if not row.met]
    print(f"{len(rows)} measured, {len(missed)} missed" + "".join(f"\n  {name}" for name in missed))
    return 1 if missed else 0


def shown(row: Row) -> str:
    """Return one line of the table."""
    bounds = [f">= {row.low:g}" if row.low is not None else "", f"<= {row.high:g}" if row.high is not None else ""]
    bound = " ".join(filter(None, bounds))
    mark = "" if not bound else "ok" if row.met else "MISSED"
    return f"{row.name:<66} {row.value:>9.3f}  {bound:<9} {mark:<6} {row.note}"


if __name__ == "__main__":
    sys.exit(main())
