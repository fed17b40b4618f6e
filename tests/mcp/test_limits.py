"""Tests of caps: the operator's caps apply to all model calls, and a run's cap applies after a resume too."""

from __future__ import annotations

import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings
from mcp import Client

from lpo_agent import Environment
from tests.models.fake_server import Asked, FakeServer, Reply, fake_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio

EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
SEARCH: dict[str, Any] = {"examples": EXAMPLES, "metric": "numeric", "method": "local-search"}
TOOLS = ("optimize_prompt", "evaluate_prompt", "mark_prompt")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.reply_with(lambda asked: Reply(asked.text.split()[-2]))
        yield server


@asynccontextmanager
async def client(home: Path, service: FakeServer, **settings: Any) -> AsyncIterator[Client]:
    env = Environment(home, keys={"openai": "k"}, base_urls={"openai": f"{service.url}/v1"})
    async with Client(build_server(Settings(models=("openai:any",), **settings), env=env)) as found:
        yield found


async def call(found: Client, name: str, **arguments: Any) -> CallToolResult:
    return await found.call_tool(name, {"model": "openai:any", "prompt": f"Say it ({name}).", **arguments})


def said(result: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def ask(found: Client, tool: str) -> CallToolResult:
    arguments: dict[str, Any] = {"examples": EXAMPLES[:20], "metric": "numeric"}
    if tool == "optimize_prompt":
        arguments |= {"method": "local-search", "wait_seconds": 60}
    elif tool == "evaluate_prompt":
        arguments |= {"examples": EXAMPLES[:4], "wait_seconds": 60}
    return await call(found, tool, **arguments)


@pytest.mark.parametrize("order", list(itertools.permutations(TOOLS)))
async def test_no_call_is_made_beyond_the_servers_cap(
    tmp_path: Path, service: FakeServer, order: tuple[str, ...]
) -> None:
    async with client(tmp_path, service, server_calls=10) as found:
        for tool in order:
            await ask(found, tool)
        last = await call(found, "mark_prompt", prompt="Say it, please.", examples=EXAMPLES[:20], metric="numeric")
    assert len(service.calls) == 10
    assert last.is_error
    assert "used up" in said(last)


@pytest.mark.parametrize("tool", [*TOOLS, "compare_prompts", "start_guided_run"])
async def test_every_tool_that_asks_a_model_counts_and_stops_at_the_servers_cap(
    tmp_path: Path, service: FakeServer, tool: str
) -> None:
    arguments: dict[str, Any] = {"examples": EXAMPLES[:20], "metric": "numeric"}
    if tool not in {"start_guided_run", "mark_prompt"}:
        arguments["wait_seconds"] = 60
    arguments |= {"compare_prompts": {"other_prompt": "Say it, please."}, "optimize_prompt": SEARCH}.get(tool, {})
    async with client(tmp_path, service, server_calls=4) as found:
        await call(found, tool, **arguments)
        after = await call(found, "mark_prompt", prompt="Say it, please.", examples=EXAMPLES[:20], metric="numeric")
    assert len(service.calls) == 4
    assert "used up" in said(after)


async def test_the_servers_cap_in_dollars_needs_a_price_for_marks_too(tmp_path: Path, service: FakeServer) -> None:
    async with client(tmp_path, service, server_usd=1.0) as found:
        refused = await call(found, "mark_prompt", examples=EXAMPLES[:20], metric="numeric")
    assert "the price of openai:any is not known" in said(refused)
    assert not service.calls


async def test_marks_and_other_runs_stay_under_one_rate_limit_together(tmp_path: Path, service: FakeServer) -> None:
    arrivals: list[float] = []

    def answer(asked: Asked) -> Reply:
        arrivals.append(time.monotonic())
        return Reply("7")

    service.reply_with(answer)
    began = time.monotonic()
    async with client(tmp_path, service, rpm=1_800) as found:
        run = await call(found, "evaluate_prompt", examples=EXAMPLES[:20], metric="numeric", wait_seconds=0)
        assert run.structured_content is not None
        marked = await call(found, "mark_prompt", prompt="Say it, please.", examples=EXAMPLES[:20], metric="numeric")
        ended = await found.call_tool("get_run", {"run_id": run.structured_content["run_id"], "wait_seconds": 60})
    assert not marked.is_error
    assert not ended.is_error
    assert len(arrivals) > 25
    assert arrivals[-1] - began > 0.9 * (len(arrivals) - 1) / 30  # load only makes it later


async def test_a_runs_cap_holds_over_cancel_and_resume(tmp_path: Path, service: FakeServer) -> None:
    """Replies are held from a certain call on, so that the run is in the middle of its calls when it is cancelled."""
    hold = [40]

    def answer(asked: Asked) -> Reply:
        return Reply("7", held=asked.number >= hold[0])

    service.reply_with(answer)
    async with client(tmp_path, service) as found:
        run = await call(found, "optimize_prompt", **SEARCH, budget_calls=150, wait_seconds=0)
        assert run.structured_content is not None
        run_id = run.structured_content["run_id"]
        for _ in range(2):
            await to_thread.run_sync(service.wait_for_calls, hold[0] + 1)
            cancelled = await found.call_tool("cancel_run", {"run_id": run_id})
            assert cancelled.structured_content is not None
            assert cancelled.structured_content["status"] == "interrupted"
            before = len(service.calls)
            hold[0] = before + 5
            await found.call_tool("resume_run", {"run_id": run_id, "wait_seconds": 0})
        hold[0] = 1_000_000
        service.release()
        ended = await found.call_tool("get_run", {"run_id": run_id, "wait_seconds": 60})
    assert before < len(service.calls) <= 150
    assert ended.structured_content is not None
    assert ended.structured_content["status"] in {"completed", "stopped"}


async def test_marks_belong_to_their_owner(
    tmp_path: Path, service: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = ["alice"]
    monkeypatch.setattr("lpo_mcp.tools.owner_of", lambda: asking[0])
    async with client(tmp_path, service) as found:
        await call(found, "mark_prompt", examples=EXAMPLES[:20], metric="numeric")
        listed = []
        for asking[0] in ("alice", "bob"):
            result = (await found.call_tool("list_runs", {})).structured_content
            assert result is not None
            listed.append([line["kind"] for line in result["runs"]])
    assert listed == [["mark"], []]
