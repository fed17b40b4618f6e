"""Tests of the server as a process: only JSON-RPC on standard output, clean ends, and access control over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from lpo_mcp.command_line import is_loopback, main, parse_address
from mcp import Client, StdioServerParameters

from lpo_agent.environment import Environment
from lpo_agent.errors import ConfigError
from lpo_agent.journal import open_journal
from tests.mcp import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.fake_server import FakeServer

pytestmark = pytest.mark.anyio

MODELS = Path(__file__).parent / "models.py"
MODEL = f"scripted:{MODELS}:answer"
EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
RUN: dict[str, Any] = {
    "prompt": "Say it.",
    "examples": EXAMPLES,
    "metric": "numeric",
    "method": "local-search",
    "steps": 2,
}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
COMMAND = [sys.executable, "-m", "lpo_mcp", "--model", MODEL]
HELD = ("--model", held.MODEL)
TOKENS = "alice=alice-secret-0123456789,bob=bob-secret-0123456789,eve=eve-secret-0123456789@http://other/mcp"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "LPO_HOME": str(home), **more}


@contextmanager
def stdio(home: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    pipe, env = subprocess.PIPE, environment(home, **more)
    process = subprocess.Popen([*COMMAND, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def send(process: subprocess.Popen[str], number: int, method: str, **params: Any) -> None:
    assert process.stdin is not None
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def started(process: subprocess.Popen[str]) -> str:
    """Start a run, and return its id."""
    send(process, 1, "tools/call", name="optimize_prompt", arguments=held.RUN | {"wait_seconds": 0})
    assert process.stdout is not None
    run_id: str = json.loads(process.stdout.readline())["result"]["structuredContent"]["run_id"]
    return run_id


async def resumed(home: Path, run_id: str, **more: str) -> dict[str, Any]:
    """Return the run's status as it was left, then go on with it in a new server."""
    async with open_journal(Environment(home).journal) as journal:
        assert journal.run(run_id).status == "interrupted"
    parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *HELD], env=environment(home, **more))
    async with Client(parameters) as client:
        result = await client.call_tool("resume_run", {"run_id": run_id, "wait_seconds": 60})
    found: dict[str, Any] | None = result.structured_content
    assert found is not None
    return found


@pytest.mark.parametrize("end", ["eof", "sigterm", "sigint", "kill"])
async def test_runs_can_be_resumed_however_the_server_ended(tmp_path: Path, provider: FakeServer, end: str) -> None:
    held.hold(provider)
    variables = held.variables(provider)
    with stdio(tmp_path, *HELD, **variables) as process:
        run_id = started(process)
        assert process.stdin is not None
        provider.wait_for_calls(1)
        if end == "eof":
            process.stdin.close()
        else:
            process.send_signal({"sigterm": signal.SIGTERM, "sigint": signal.SIGINT, "kill": signal.SIGKILL}[end])
        code = process.wait(60)
        assert code == (-signal.SIGKILL if end == "kill" else 0)
    provider.release()
    run = await resumed(tmp_path, run_id, **variables)
    assert (run["status"], run["verdict"]) == ("completed", "improved")


def test_standard_output_holds_json_and_nothing_else(tmp_path: Path) -> None:
    with stdio(tmp_path) as process:
        send(process, 1, "tools/list")
        send(process, 2, "tools/call", name="optimize_prompt", arguments=RUN | {"wait_seconds": 60})
        send(process, 3, "tools/call", name="no_such_tool", arguments={})
        assert process.stdout is not None
        assert process.stdin is not None
        answers = {json.loads(process.stdout.readline())["id"] for _ in range(3)}
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert answers == {1, 2, 3}
    assert rest == ""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_both_eras_over_stdio(tmp_path: Path, mode: Any) -> None:
    parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(tmp_path))
    async with Client(parameters, mode=mode) as client:
        result = await client.call_tool("optimize_prompt", RUN | {"wait_seconds": 60})
    assert result.structured_content is not None
    assert result.structured_content["verdict"] == "improved"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def wait_for_port(process: subprocess.Popen[Any], port: int) -> None:
    """Return once somebody listens; a process that has ended is an error, one that is slow is waited for."""
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise RuntimeError("the server ended before it listened")


@contextmanager
def http(home: Path, *words: str, **more: str) -> Iterator[str]:
    port = free_port()
    command = [*COMMAND, "--http", f"127.0.0.1:{port}", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(home, **more)
    )
    try:
        wait_for_port(process, port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An open server on loopback that tests share."""
    with http(tmp_path_factory.mktemp("http")) as found:
        yield found


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_both_eras_over_http(url: str, mode: Any) -> None:
    async with Client(url, mode=mode) as client:
        result = await client.call_tool("optimize_prompt", RUN | {"wait_seconds": 60})
    assert result.structured_content is not None
    assert result.structured_content["verdict"] == "improved"


def ask(url: str, token: str | None = None, name: str = "list_runs", **more: Any) -> httpx2.Response:
    headers = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
        "MCP-Protocol-Version": "2026-07-28",
        **({"Authorization": f"Bearer {token}"} if token else {}),
        **more.pop("headers", {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {"name": name, "arguments": more.pop("arguments", {}), "_meta": META}
    return httpx2.post(url, json=body | {"params": params}, headers=headers, timeout=30)


def answered(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (data,) = re.findall(r"^data: (\{.*\})$", response.text, re.MULTILINE) or [response.text]
    result: dict[str, Any] = json.loads(data)["result"]
    return result


def test_http_needs_a_token_and_shows_only_runs_of_its_owner(tmp_path: Path) -> None:
    with http(tmp_path, LPO_MCP_TOKENS=TOKENS) as url:
        assert ask(url).status_code == 401
        assert ask(url, "wrong-secret-0123456789").status_code == 401
        assert ask(url, "eve-secret-0123456789").status_code == 401  # made for another server
        arguments = RUN | {"wait_seconds": 0}
        run = answered(ask(url, "alice-secret-0123456789", "optimize_prompt", arguments=arguments))["structuredContent"]
        mine = answered(ask(url, "alice-secret-0123456789"))["structuredContent"]
        assert [line["run_id"] for line in mine["runs"]] == [run["run_id"]]
        assert answered(ask(url, "bob-secret-0123456789"))["structuredContent"]["total"] == 0
        for tool in ("get_run", "cancel_run", "resume_run"):
            found = answered(ask(url, "bob-secret-0123456789", tool, arguments={"run_id": run["run_id"]}))
            assert found["isError"]
            assert "unknown run_id" in found["content"][0]["text"]


def test_foreign_hosts_origins_and_large_bodies_are_refused(url: str) -> None:
    assert ask(url, headers={"Host": "evil.example"}).status_code == 421
    assert ask(url, headers={"Origin": "http://evil.example"}).status_code == 403
    large = ask(url, name="optimize_prompt", arguments={"prompt": "x" * 5_000_000, "examples": []})
    assert large.status_code == 413
    assert not answered(ask(url)).get("isError")


@pytest.mark.parametrize(
    ("words", "tokens", "says"),
    [
        (["--http", "0.0.0.0:1"], "", "LPO_MCP_TOKENS"),
        (["--http", "0.0.0.0:1"], TOKENS, "--allow-host"),
        (["--http", "here"], "", "HOST:PORT"),
        (["--allow-dir", "/no/such/folder"], "", "--allow-dir"),
        (["--tools", "rm"], "", "'rm'"),
        (["--metric", "mine"], "", "NAME=FILE.py:FUNCTION"),
        ([], "alice=short", "16 characters"),
    ],
)
def test_public_addresses_without_tokens_and_bad_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], tokens: str, says: str
) -> None:
    monkeypatch.setenv("LPO_MCP_TOKENS", tokens)
    assert main(words) == 2
    ended = capsys.readouterr()
    assert ended.out == ""
    assert says in ended.err
    assert "secret" not in ended.err.lower().replace("owner=secret", "").replace("secrets of", "")


def test_addresses() -> None:
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(ConfigError):
        parse_address("127.0.0.1:99999")


async def test_help_needs_no_sdk() -> None:
    code = "import sys; from lpo_mcp.command_line import build_parser; build_parser(); sys.exit('mcp' in sys.modules)"
    assert (await anyio.run_process([sys.executable, "-c", code], check=False)).returncode == 0
