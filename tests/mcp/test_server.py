"""Tests of the server's tools with a real client, in memory, in both versions of the protocol."""

from __future__ import annotations

import itertools
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from lpo_mcp.server import build_server
from lpo_mcp.settings import TOOLS, Settings
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult, PromptReference, ResourceTemplateReference

from lpo_agent.environment import Environment
from lpo_agent.journal import open_journal
from tests.mcp import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.types import CallToolResult

    from tests.models.fake_server import FakeServer

pytestmark = pytest.mark.anyio

MODEL = f"scripted:{Path(__file__).parent / 'models.py'}:answer"
EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
RUN: dict[str, Any] = {
    "prompt": "Say it.",
    "examples": EXAMPLES,
    "metric": "numeric",
    "method": "local-search",
    "steps": 2,
}
SNAPSHOT = Path(__file__).parent / "tools.json"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the SDK's server is written for it


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@asynccontextmanager
async def client(
    home: Path | Environment, era: str = "auto", settings: Settings | None = None, **more: Any
) -> AsyncIterator[Client]:
    env = home if isinstance(home, Environment) else Environment(home)
    server = build_server(settings or Settings(models=(MODEL, held.MODEL), heartbeat=0.05), env=env)
    async with Client(server, mode=era, **more) as found:
        yield found


@pytest.fixture
def holding(tmp_path: Path, provider: FakeServer) -> Environment:
    """An environment in which held.MODEL waits for ``provider.release()``."""
    held.hold(provider)
    return held.environment(tmp_path, provider)


async def call(found: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result: CallToolResult = await found.call_tool(name, arguments)
    assert not result.is_error, text(result)
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    assert len(json.dumps(content)) < 8_000
    return content


async def refused(found: Client, name: str, **arguments: Any) -> str:
    result = await found.call_tool(name, arguments)
    assert result.is_error
    return text(result)


def text(result: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def test_optimize_prompt_gives_the_result_of_the_command_line(tmp_path: Path, era: str) -> None:
    async with client(tmp_path / "a", era) as found:
        run = await call(found, "optimize_prompt", **RUN, model=MODEL, wait_seconds=60)
    assert (run["status"], run["verdict"]) == ("completed", "improved")
    data, prompt, out = (tmp_path / name for name in ("d.jsonl", "p.txt", "o.json"))
    data.write_text("\n".join(json.dumps(example) for example in EXAMPLES), encoding="utf-8")
    prompt.write_text("Say it.", encoding="utf-8")
    words = ["optimize", str(prompt), "--data", str(data), "--metric", "numeric", "--method", "local-search"]
    words += ["--steps", "2", "--model", MODEL, "--budget-calls", "2000", "--out", str(out), "--quiet"]
    ended = await anyio.run_process([sys.executable, "-m", "lpo_agent", *words], env={"LPO_HOME": str(tmp_path / "b")})
    assert ended.returncode == 0
    expected = json.loads(out.read_text(encoding="utf-8"))
    assert run["best"]["prompt"] == expected["best"]["prompt"]
    assert {key: run[key] for key in ("verdict", "test_delta", "method")} == {
        key: expected[key] for key in ("verdict", "test_delta", "method")
    }
    assert (run["seed"]["test"], run["best"]["dev"]) == (expected["seed"]["test"], expected["best"]["dev"])


async def test_a_call_returns_in_time_and_the_run_continues(
    holding: Environment, provider: FakeServer, era: str
) -> None:
    async with client(holding, era) as found:
        run = await call(found, "optimize_prompt", **held.RUN, wait_seconds=0.1)
        assert (run["status"], run["verdict"]) == ("running", None)
        assert run["run_id"] in run["next"]
        provider.release()
        ended = await call(found, "get_run", run_id=run["run_id"], wait_seconds=60)
        assert (ended["status"], ended["verdict"]) == ("completed", "improved")
        listed = await call(found, "list_runs")
        assert [line["run_id"] for line in listed["runs"]] == [run["run_id"]]


async def test_progress_always_grows(holding: Environment, provider: FakeServer, era: str) -> None:
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        if len(seen) == 3:
            provider.release()

    async with client(holding, era) as found:
        await found.call_tool("optimize_prompt", held.RUN | {"wait_seconds": 60}, progress_callback=note)
    assert len(seen) >= 3
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


async def test_a_cancelled_run_can_be_resumed(holding: Environment, provider: FakeServer, era: str) -> None:
    async with client(holding, era) as found:
        run = await call(found, "optimize_prompt", **held.RUN, wait_seconds=0.1)
        stopped = await call(found, "cancel_run", run_id=run["run_id"])
        assert stopped["status"] == "interrupted"
        assert "resume_run" in stopped["next"]
        provider.release()
        again = await call(found, "resume_run", run_id=run["run_id"], wait_seconds=60)
        assert (again["run_id"], again["status"], again["verdict"]) == (run["run_id"], "completed", "improved")
        assert "nothing to resume" in await refused(found, "resume_run", run_id=run["run_id"])


async def test_the_run_of_a_client_that_disconnects_continues(holding: Environment, provider: FakeServer) -> None:
    async with client(holding) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.call_tool, "optimize_prompt", held.RUN | {"wait_seconds": 60})
            await anyio.to_thread.run_sync(provider.wait_for_calls, 1)
            tasks.cancel_scope.cancel()
        listed = await call(found, "list_runs")
        (line,) = listed["runs"]
        assert line["status"] == "running"
        provider.release()
        ended = await call(found, "get_run", run_id=line["run_id"], wait_seconds=60)
        assert ended["status"] == "completed"


async def test_a_run_interrupted_by_the_servers_end_can_be_resumed_by_the_next_server(
    holding: Environment, provider: FakeServer
) -> None:
    async with client(holding) as found:
        run = await call(found, "optimize_prompt", **held.RUN, wait_seconds=0.1)
    async with open_journal(holding.journal) as journal:
        assert journal.run(run["run_id"]).status == "interrupted"
    provider.release()
    async with client(holding) as found:
        seen = await call(found, "get_run", run_id=run["run_id"])
        assert seen["status"] == "interrupted"
        again = await call(found, "resume_run", run_id=run["run_id"], wait_seconds=60)
        assert again["verdict"] == "improved"


async def test_fifty_runs_share_one_budget(tmp_path: Path) -> None:
    settings = Settings(models=(MODEL,), server_calls=1_000)
    async with client(tmp_path, settings=settings) as found:
        ids = []
        for seed in range(50):
            run = await call(found, "optimize_prompt", **(RUN | {"prompt": f"Say it, {seed}."}), wait_seconds=0)
            ids.append(run["run_id"])
        ended = [await call(found, "get_run", run_id=run_id, wait_seconds=60) for run_id in ids]
    assert {run["status"] for run in ended} <= {"completed", "stopped"}
    assert all(run["usage"] or "used up" in run["error"] for run in ended)
    assert sum(run["usage"]["calls"] for run in ended if run["usage"]) <= 1_000
    assert any(run["status"] == "stopped" for run in ended)


async def test_no_more_runs_than_the_operator_allows(holding: Environment) -> None:
    async with client(holding, settings=Settings(models=(held.MODEL,), max_runs=1)) as found:
        await call(found, "optimize_prompt", **held.RUN, wait_seconds=0)
        assert "the server's cap" in await refused(found, "optimize_prompt", **held.RUN, wait_seconds=0)


async def test_evaluating_and_comparing(tmp_path: Path, era: str) -> None:
    async with client(tmp_path, era) as found:
        common = {"examples": EXAMPLES[:20], "metric": "numeric", "wait_seconds": 60}
        scored = await call(found, "evaluate_prompt", prompt="Say it.", **common)
        assert scored["score"]["mean"] == 0.0
        compared = await call(found, "compare_prompts", prompt="Say it.", other_prompt="Say the number.", **common)
        assert compared["delta"]["mean"] == 1.0
        assert compared["b"]["n"] == 20
        marked = await call(found, "mark_prompt", prompt="Say it, please.", examples=EXAMPLES[:20], metric="numeric")
        assert "<edit>" in marked["marked"]


async def test_an_estimate_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPO_TEST_LOG", str(tmp_path / "log"))
    async with client(tmp_path) as found:
        estimate = await call(found, "estimate_cost", prompt="Say it.", examples=EXAMPLES, budget_calls=9_000)
    assert 0 < estimate["calls_low"] < estimate["calls_high"]
    assert "9,000 model calls" in estimate["needs_approval"]
    assert not (tmp_path / "log").exists()


async def test_the_user_must_approve_large_spending_if_the_client_can_ask(tmp_path: Path, era: str) -> None:
    asked: list[str] = []
    answers = [True, False]

    async def decide(_context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": answers[len(asked) - 1]})

    arguments = RUN | {"budget_calls": 6_000, "wait_seconds": 60}
    async with client(tmp_path, era, elicitation_callback=decide) as found:
        run = await call(found, "optimize_prompt", **arguments)
        assert run["status"] == "completed"
        assert "approved_calls=6000" in await refused(found, "optimize_prompt", **arguments)
    assert asked == ["This run may cost up to 6,000 model calls. Continue?"] * 2


async def test_approved_calls_is_needed_if_the_client_cannot_ask(tmp_path: Path, era: str) -> None:
    arguments = RUN | {"budget_calls": 6_000, "wait_seconds": 60}
    async with client(tmp_path, era) as found:
        assert "approved_calls=6000" in await refused(found, "optimize_prompt", **arguments)
        assert (await call(found, "optimize_prompt", **arguments, approved_calls=6_000))["status"] == "completed"
        assert "at most 20,000" in await refused(found, "optimize_prompt", **RUN, budget_calls=20_001)


async def test_every_tool_has_all_annotations_and_described_arguments(tmp_path: Path) -> None:
    async with client(tmp_path) as found:
        tools = (await found.list_tools()).tools
    assert [tool.name for tool in tools] == list(TOOLS)
    for tool in tools:
        assert tool.annotations is not None
        hints = tool.annotations.model_dump()
        assert {"read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint"} <= {
            name for name, value in hints.items() if value is not None
        }
        assert tool.title
        assert 40 < len(tool.description or "") < 2_000
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), f"{tool.name}.{name}"


async def test_the_tools_are_those_of_the_snapshot(tmp_path: Path) -> None:
    async with client(tmp_path) as found:
        tools = [tool.model_dump(mode="json", exclude_none=True) for tool in (await found.list_tools()).tools]
    now = json.dumps(tools, indent=1, sort_keys=True) + "\n"
    if os.environ.get("LPO_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(now, encoding="utf-8")
    assert SNAPSHOT.read_text(encoding="utf-8") == now, "run it with LPO_UPDATE_SNAPSHOTS=1 if this is meant"


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        (Settings(models=(MODEL,), read_only=True), {"get_run", "list_runs", "estimate_cost"}),
        (Settings(models=(MODEL,), tools=("get_run", "mark_prompt")), {"get_run", "mark_prompt"}),
    ],
)
async def test_the_operator_chooses_the_tools(tmp_path: Path, settings: Settings, offered: set[str]) -> None:
    async with client(tmp_path, settings=settings) as found:
        assert {tool.name for tool in (await found.list_tools()).tools} == offered
        result = await found.call_tool("optimize_prompt", RUN)
        assert result.is_error


async def test_resources_prompts_and_completion(tmp_path: Path, era: str) -> None:
    async with client(tmp_path, era) as found:
        run = await call(found, "optimize_prompt", **RUN, wait_seconds=60)
        base = f"lpo://runs/{run['run_id']}"
        whole = json.loads((await found.read_resource(base)).contents[0].text)  # type: ignore[union-attr]
        assert whole["best"]["prompt"] == run["best"]["prompt"]
        report = (await found.read_resource(f"{base}/report")).contents[0].text  # type: ignore[union-attr]
        assert "Verdict: improved" in report
        prompt = (await found.read_resource(f"{base}/prompt")).contents[0].text  # type: ignore[union-attr]
        assert prompt == run["best"]["prompt"]
        prompts = {each.name for each in (await found.list_prompts()).prompts}
        assert prompts == {"optimize_this_prompt", "explain_run"}
        shown = await found.get_prompt("optimize_this_prompt", {"prompt": "Be nice."})
        assert "Be nice." in shown.messages[0].content.text  # type: ignore[union-attr]


async def test_results_stay_small_whatever_the_prompt(tmp_path: Path) -> None:
    prompt = "Say it. " + "Be careful with words. " * 250
    async with client(tmp_path) as found:
        run = await call(found, "optimize_prompt", **(RUN | {"prompt": prompt}), wait_seconds=60)
        assert run["best"]["truncated"]
        whole = (await found.read_resource(f"lpo://runs/{run['run_id']}/prompt")).contents[0].text  # type: ignore[union-attr]
    assert whole.startswith(run["best"]["prompt"])
    assert len(whole) > 5_000


async def test_run_ids_methods_and_models_are_completed(tmp_path: Path, era: str) -> None:
    async with client(tmp_path, era) as found:
        run = await call(found, "optimize_prompt", **RUN, wait_seconds=60)
        explain = PromptReference(type="ref/prompt", name="explain_run")
        ids = await found.complete(explain, {"name": "run_id", "value": run["run_id"][:4]})
        assert ids.completion.values == [run["run_id"]]
        resource = ResourceTemplateReference(type="ref/resource", uri="lpo://runs/{run_id}")
        assert (await found.complete(resource, {"name": "run_id", "value": "x"})).completion.values == []
        methods = await found.complete(explain, {"name": "method", "value": "a"})
        assert methods.completion.values == ["auto", "ape", "apo"]
        models = await found.complete(explain, {"name": "model", "value": ""})
        assert models.completion.values == [MODEL, held.MODEL]


@pytest.mark.filterwarnings("ignore:resources/:DeprecationWarning", "ignore:resources/")
async def test_subscribers_are_notified_in_the_older_protocol(holding: Environment, provider: FakeServer) -> None:
    told: list[str] = []
    heard = anyio.Event()

    async def note(message: Any) -> None:
        if (method := getattr(message, "method", "")) == "notifications/resources/updated":
            told.append(f"{method} {message.params.uri}")
            heard.set()

    async with client(holding, "legacy", message_handler=note) as found:
        run = await call(found, "optimize_prompt", **held.RUN, wait_seconds=0)
        uri = f"lpo://runs/{run['run_id']}/report"
        await found.subscribe_resource(uri)
        provider.release()
        await call(found, "get_run", run_id=run["run_id"], wait_seconds=60)
        with anyio.fail_after(60):
            await heard.wait()
        with pytest.raises(MCPError, match="no such run"):
            await found.subscribe_resource("lpo://runs/other/report")
    assert told == [f"notifications/resources/updated {uri}"]


async def test_subscribers_are_notified_in_the_newer_protocol(holding: Environment, provider: FakeServer) -> None:
    async with client(holding, "auto") as found:
        run = await call(found, "optimize_prompt", **held.RUN, wait_seconds=0)
        uri = f"lpo://runs/{run['run_id']}"
        async with found.listen(resource_subscriptions=[uri]) as news:
            provider.release()
            await call(found, "get_run", run_id=run["run_id"], wait_seconds=60)
            with anyio.fail_after(60):
                first = await anext(aiter(news))
        assert uri in repr(first)


async def test_runs_of_one_server_stay_under_one_limit(holding: Environment, provider: FakeServer) -> None:
    """Each run alone would have eight calls under way; all ten together have no more."""
    settings = Settings(models=(held.MODEL,), concurrency=8)
    async with client(holding, settings=settings) as found:
        ids = []
        for number in range(10):
            common = {"examples": EXAMPLES[:20], "metric": "numeric", "wait_seconds": 0}
            ids.append((await call(found, "evaluate_prompt", prompt=f"Say it, {number}.", **common))["run_id"])
        await anyio.to_thread.run_sync(provider.wait_for_calls, 8)
        provider.release()
        ended = [await call(found, "get_run", run_id=run_id, wait_seconds=60) for run_id in ids]
    assert {run["status"] for run in ended} == {"completed"}
    assert (len(provider.calls), provider.peak) == (200, 8)


async def test_runs_of_one_server_share_one_rate(holding: Environment, provider: FakeServer) -> None:
    """At one call a minute, ten runs make one call, and not one each."""
    provider.release()
    async with client(holding, settings=Settings(models=(held.MODEL,), rpm=1)) as found:
        common = {"examples": EXAMPLES[:2], "metric": "numeric", "wait_seconds": 0}
        ids = [
            (await call(found, "evaluate_prompt", prompt=f"Say it, {number}.", **common))["run_id"]
            for number in range(10)
        ]
        await anyio.to_thread.run_sync(provider.wait_for_calls, 1)
        seen = [await call(found, "get_run", run_id=run_id, wait_seconds=0.05) for run_id in ids]
    assert {run["status"] for run in seen} == {"running"}
    assert len(provider.calls) == 1
