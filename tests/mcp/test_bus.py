"""`lpo mcp --bus`: a worker on the other side of a real NATS server calls the models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lpo_mcp.command_line import build_parser, settings_of
from lpo_mcp.server import build_server
from mcp import Client

from lpo_agent import Environment
from tests.bus.nats_server import shared_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
MODEL = f"scripted:{Path(__file__).parent / 'models.py'}:answer"
EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 130)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the NATS client is written for it


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Path]:
    """Start a worker at the shared server; it counts its calls in the file that is returned."""
    log, home = tmp_path / "log", tmp_path / "worker"
    command = [sys.executable, "-m", "lpo_agent", "worker", "--bus", shared_server().url, "--model", MODEL]
    env = {"LPO_HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": "", "LPO_TEST_LOG": str(log)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("worker: ")
    yield log
    process.terminate()
    process.wait(timeout=20)
    process.stderr.close()


def calls_in(log: Path) -> int:
    return len(log.read_text(encoding="utf-8").split())


async def evaluated(home: Path, *words: str) -> dict[str, Any]:
    settings = settings_of(build_parser().parse_args(["--model", MODEL, *words]))
    async with Client(build_server(settings, env=Environment(home))) as client:
        arguments = {"prompt": "Say the number.", "examples": EXAMPLES, "metric": "numeric", "wait_seconds": 60}
        result = await client.call_tool("evaluate_prompt", arguments)
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


async def test_a_score_over_the_bus_is_the_score_without_it(tmp_path: Path, worker: Path) -> None:
    there = await evaluated(tmp_path / "there", "--bus", shared_server().url)
    assert calls_in(worker) == len(EXAMPLES)
    here = await evaluated(tmp_path / "here")
    assert (there["status"], there["score"]) == ("completed", here["score"])
    assert there["usage"]["calls"] == here["usage"]["calls"] == len(EXAMPLES)
