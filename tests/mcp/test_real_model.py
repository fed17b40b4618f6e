"""Test of the server with the embedded model: a client gets the same result as the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from lpo_agent.data import read_examples
from lpo_agent.models.providers.weights import smollm2_path
from tests.mcp.test_transports import http

EXAMPLE = Path(__file__).parents[2] / "lpo_agent" / "examples" / "orders"
SAME = ("--concurrency", "1")  # how a model's server batches requests may change its answers
METRIC = "exact"  # wants short answers, so that the model writes nine tokens for each and not sixty
OPTIONS: dict[str, Any] = {"method": "local-search", "metric": METRIC, "steps": 1, "proposals": 1, "budget_calls": 16}

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(600)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def homes(tmp_path: Path, weights: Path) -> list[Path]:
    found = [tmp_path / name for name in ("cli", "stdio", "http")]
    for home in found:
        place = smollm2_path(home)
        place.parent.mkdir(parents=True)
        place.symlink_to(weights)
    return found


async def optimized(client: Client, arguments: dict[str, Any]) -> dict[str, Any]:
    """Start a run and wait for its end, however long a busy machine takes."""
    found: dict[str, Any] | None
    found = (await client.call_tool("optimize_prompt", arguments)).structured_content
    while found is not None and found["status"] == "running":
        found = (await client.call_tool("get_run", {"run_id": found["run_id"], "wait_seconds": 50})).structured_content
    assert found is not None
    return found


async def test_a_real_client_gets_what_the_command_line_gets(homes: list[Path], tmp_path: Path) -> None:
    rows = read_examples(EXAMPLE / "messages.jsonl")[:12]
    examples = [{"input": str(row.input), "target": row.target} for row in rows]
    prompt = (EXAMPLE / "prompt.txt").read_text(encoding="utf-8")
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(json.dumps(example) for example in examples), encoding="utf-8")
    words = ["optimize", str(EXAMPLE / "prompt.txt"), "--data", str(data), "--model", "local:smollm2", "--json"]
    words += [
        "--method",
        "local-search",
        "--metric",
        METRIC,
        "--steps",
        "1",
        "--proposals",
        "1",
        "--budget-calls",
        "16",
        *SAME,
    ]
    command = [sys.executable, "-m", "lpo_agent", *words]
    environment = {**os.environ, "LPO_HOME": str(homes[0])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: ASYNC221
    expected = json.loads(done.stdout)
    arguments = OPTIONS | {"prompt": prompt, "examples": examples, "model": "local:smollm2", "wait_seconds": 50}
    stdio = StdioServerParameters(
        command=sys.executable, args=["-m", "lpo_mcp", *SAME], env={**os.environ, "LPO_HOME": str(homes[1])}
    )
    async with Client(stdio) as client:
        first = await optimized(client, arguments)
    with http(homes[2], "--model", "local:smollm2", *SAME) as url:
        async with Client(url, mode="legacy") as client:
            second = await optimized(client, arguments)
    for found in (first, second):
        assert found["best"]["prompt"] == expected["best"]["prompt"]
        assert found["best"]["dev"] == expected["best"]["dev"]
        assert [found[name] for name in ("verdict", "test_delta")] == [expected[n] for n in ("verdict", "test_delta")]
        assert found["usage"]["calls"] == expected["usage"]["calls"]
