"""Test of the start: listing the tools imports no heavy modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import asyncio, pathlib, sys
from mcp import Client
import lpo_agent
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings

async def main():
    env = lpo_agent.Environment(pathlib.Path(sys.argv[1]) / "home")
    async with Client(build_server(Settings(models=("local:x",)), env=env)) as client:
        assert (await client.list_tools()).tools
    assert not env.home.exists()  # no journal was opened either

asyncio.run(main())
print(*sorted(sys.modules))
"""
HEAVY = ("aiohttp", "openai", "anthropic", "sqlite3", "lpo_agent.api", "lpo_agent.journal", "lpo_agent.report")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    command = [sys.executable, "-c", CODE, str(tmp_path_factory.mktemp("start"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return frozenset(done.stdout.split())


@pytest.mark.parametrize("module", HEAVY)
def test_listing_the_tools_imports_nothing_heavy(loaded: frozenset[str], module: str) -> None:
    assert "lpo_mcp.tools" in loaded
    assert module not in loaded
