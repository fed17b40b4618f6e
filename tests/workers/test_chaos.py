"""Test with workers that are killed and started at random, and a NATS server that is killed once."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.bus.nats_server import Server, find_server
from tests.models.fake_server import Asked, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.models.fake_server import FakeServer

ITEMS, PLACES, WORKERS, DEATHS = 1000, 16, 4, 8
LATENCY = 0.2
"""Seconds that an answer takes, so that a worker that dies has requests in flight."""
ROOT = __file__.rpartition("/tests/")[0]


def last_word(asked: Asked) -> Reply:
    return Reply(asked.text.split()[-1], delay=LATENCY)


@pytest.fixture
def server() -> Iterator[Server]:
    find_server()
    own = Server()
    own.start()
    yield own
    own.end()


def start(home: Path, *words: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"LPO_HOME": str(home), "OPENAI_API_KEY": "x"}
    command = [sys.executable, "-m", "lpo_agent", *words]
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_worker(home: Path, server: Server, provider: FakeServer) -> subprocess.Popen[bytes]:
    model = ("--model", "openai:fake", "--base-url", f"{provider.url}/v1")
    return start(home, "worker", "--bus", server.url, *model, "--concurrency", str(PLACES))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_item_is_scored_once_although_workers_and_server_are_killed(
    tmp_path: Path, server: Server, provider: FakeServer
) -> None:
    """Deaths come as the run gets on, not by the clock: after each tenth of the answers that it needs."""
    provider.reply_with(last_word)
    data = tmp_path / "items.jsonl"
    rows = [{"input": f"say word{n}", "target": f"word{n}"} for n in range(ITEMS)]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    rng, kills = random.Random(1), 0
    workers = [start_worker(tmp_path / f"w{n}", server, provider) for n in range(WORKERS)]
    model = ("--model", "openai:fake", "--base-url", f"{provider.url}/v1", "--bus", server.url)
    words = ("evaluate", "--text", "Repeat: {input}", "--data", str(data), "--metric", "exact", *model, "--quiet")
    run = start(tmp_path / "run", *words)
    try:
        for turn in range(DEATHS):
            provider.wait_for_calls((turn + 1) * ITEMS // 10)
            if turn == DEATHS // 2:
                server.kill()
                server.start()
                continue
            number = rng.randrange(WORKERS)
            workers[number].kill()
            workers[number].wait()
            kills += 1
            workers[number] = start_worker(tmp_path / f"w{number}", server, provider)
        assert run.wait() == 0
    finally:
        for process in [run, *workers]:
            process.kill()
            process.wait()
    with closing(sqlite3.connect(tmp_path / "run" / "journal.sqlite3")) as journal:
        result = json.loads(journal.execute("SELECT result FROM runs").fetchone()[0])
        assert journal.execute("SELECT COUNT(*), COUNT(DISTINCT item) FROM outcomes").fetchone() == (ITEMS, ITEMS)
    assert (result["score"]["n"], result["score"]["unscored"], result["score"]["mean"]) == (ITEMS, 0, 1.0)
    asked = len(provider.calls)
    in_flight = PLACES * (kills + WORKERS)  # of the workers killed, and of all when the server died
    assert ITEMS <= asked <= ITEMS + in_flight
    booked, unknown = result["usage"]["calls"], PLACES * WORKERS  # calls that the server forgot when it died
    assert asked - unknown <= booked <= ITEMS + in_flight
