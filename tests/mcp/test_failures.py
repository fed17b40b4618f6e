"""Tests of failures: a run that fails or cannot be read does not affect other runs."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings
from mcp import Client

from lpo_agent import Environment
from lpo_agent.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

MODELS = f"scripted:{Path(__file__).parent / 'models.py'}"
BROKEN, SLOW = f"{MODELS}:broken", f"{MODELS}:slow"
EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 160)]
RUN: dict[str, Any] = {"examples": EXAMPLES, "metric": "numeric", "method": "local-search", "steps": 1}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def client(home: Path) -> AsyncIterator[Client]:
    async with Client(build_server(Settings(models=(SLOW, BROKEN)), env=Environment(home))) as found:
        yield found


async def call(found: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await found.call_tool(name, arguments)
    assert not result.is_error, result
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


async def refused(found: Client, name: str, **arguments: Any) -> str:
    result = await found.call_tool(name, arguments)
    assert result.is_error
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def test_a_bug_in_one_run_ends_that_run_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with client(tmp_path) as found:
        good = await call(found, "optimize_prompt", prompt="Say it.", model=SLOW, **RUN, wait_seconds=0)
        with caplog.at_level(logging.ERROR, logger="lpo_mcp"):
            bad = await call(found, "optimize_prompt", prompt="Say it.", model=BROKEN, **RUN, wait_seconds=60)
            marked = await refused(found, "mark_prompt", prompt="Say it.", model=BROKEN, examples=EXAMPLES)
        ended = await call(found, "get_run", run_id=good["run_id"], wait_seconds=60)
        again = await call(found, "optimize_prompt", prompt="Say it now.", model=SLOW, **RUN, wait_seconds=60)
    assert (bad["status"], bad["error"]) == ("interrupted", "internal error; the server's log has the details")
    assert "internal error" in marked
    assert (ended["verdict"], again["verdict"]) == ("improved", "improved")
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith(f"run {bad['run_id']} ") and "KeyError" in line for line in lines)
    assert all("pears" not in line for line in lines)  # no row's text in a log


async def test_the_message_of_an_error_of_the_package_is_shown(tmp_path: Path) -> None:
    async with client(tmp_path) as found:
        run = await call(found, "evaluate_prompt", prompt="Say it.", examples=EXAMPLES, budget_calls=1, wait_seconds=60)
        assert run["usage"]["calls"] == 1
        run = await call(found, "resume_run", run_id=run["run_id"], wait_seconds=60)
        assert "used up" in str(run)


@pytest.mark.parametrize("spec", ["[]", "null", '{"kind": 1}', '{"spec": {"unheard": true}, "kind": "optimize"}'])
@pytest.mark.parametrize("kind", ["optimize", "guided", "mark"])
async def test_runs_of_other_versions_are_listed_beside_those_of_this_one(tmp_path: Path, kind: str, spec: str) -> None:
    async with open_journal(Environment(tmp_path).journal) as journal:
        await journal.create_run("20200101-000000-aaaa", kind, spec)
        await journal.finish_run("20200101-000000-aaaa", "completed", json.dumps({"schema": 99}), 1.0)
        await journal.create_run("20200101-000000-bbbb", kind, spec)
        await journal.finish_run("20200101-000000-bbbb", "interrupted", None, 1.0)
    async with client(tmp_path) as found:
        mine = await call(found, "evaluate_prompt", prompt="Say it.", examples=EXAMPLES[:8], wait_seconds=60)
        listed = await call(found, "list_runs")
        assert [line["run_id"] for line in listed["runs"]] == [
            mine["run_id"],
            "20200101-000000-bbbb",
            "20200101-000000-aaaa",
        ]
        assert "another version" in await refused(found, "get_run", run_id="20200101-000000-aaaa")
        seen = await call(found, "get_run", run_id="20200101-000000-bbbb")
        assert seen["kind"] == kind
        resumed = await refused(found, "resume_run", run_id="20200101-000000-bbbb")
        assert "another version" in resumed or "not resumed by itself" in resumed
