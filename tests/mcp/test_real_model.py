"""The embedded model behind the server: a real client gets what the command line gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from mcp import Client, StdioServerParameters

from lpo_agent.data import read_examples
from lpo_agent.models.providers.weights import smollm2_path
from tests.mcp.test_transports import http

EXAMPLE = Path(__file__).parents[2] / "lpo_agent" / "examples" / "orders"
HOME = Path(os.environ.get("LPO_HOME") or platformdirs.user_state_dir("lpo-agent", appauthor=False))
SAME = ("--concurrency", "1")  # how a model's server batches requests may change its answers
OPTIONS: dict[str, Any] = {"method": "local-search", "steps": 1, "proposals": 1, "budget_calls": 16}

pytestmark = [pytest.mark.anyio, pytest.mark.local_model]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def homes(tmp_path: Path) -> list[Path]:
    pytest.importorskip("xllamacpp", reason="the local extra is not installed")
    path = smollm2_path(HOME)
    if not path.is_file():
        pytest.skip(f"no model file at {path}; `lpo models pull smollm2` fetches it")
    found = [tmp_path / name for name in ("cli", "stdio", "http")]
    for home in found:
        place = smollm2_path(home)
        place.parent.mkdir(parents=True)
        place.symlink_to(path)
    return found


async def test_a_real_client_gets_what_the_command_line_gets(homes: list[Path], tmp_path: Path) -> None:
    rows = read_examples(EXAMPLE / "messages.jsonl")[:12]
    examples = [{"input": str(row.input), "target": row.target} for row in rows]
    prompt = (EXAMPLE / "prompt.txt").read_text(encoding="utf-8")
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(json.dumps(example) for example in examples), encoding="utf-8")
    words = ["optimize", str(EXAMPLE / "prompt.txt"), "--data", str(data), "--model", "local:smollm2", "--json"]
    words += ["--method", "local-search", "--steps", "1", "--proposals", "1", "--budget-calls", "16", *SAME]
    command = [sys.executable, "-m", "lpo_agent", *words]
    environment = {**os.environ, "LPO_HOME": str(homes[0])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=100)  # noqa: ASYNC221
    expected = json.loads(done.stdout)
    arguments = OPTIONS | {"prompt": prompt, "examples": examples, "model": "local:smollm2", "wait_seconds": 100}
    stdio = StdioServerParameters(
        command=sys.executable, args=["-m", "lpo_mcp", *SAME], env={**os.environ, "LPO_HOME": str(homes[1])}
    )
    async with Client(stdio) as client:
        first = (await client.call_tool("optimize_prompt", arguments)).structured_content
    with http(homes[2], "--model", "local:smollm2", *SAME) as url:
        async with Client(url, mode="legacy") as client:
            second = (await client.call_tool("optimize_prompt", arguments)).structured_content
    for found in (first, second):
        assert found is not None
        assert found["best"]["prompt"] == expected["best"]["prompt"]
        assert found["best"]["dev"] == expected["best"]["dev"]
        assert [found[name] for name in ("verdict", "test_delta")] == [expected[n] for n in ("verdict", "test_delta")]
        assert found["usage"]["calls"] == expected["usage"]["calls"]
