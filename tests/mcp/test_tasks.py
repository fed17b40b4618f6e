"""Tests of the Tasks extension, with raw JSON lines over standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest
from lpo_mcp.tasks import IDENTIFIER, Job, Tasks
from mcp.shared.exceptions import MCPError

from tests.mcp import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.fake_server import FakeServer

MODEL = f"scripted:{Path(__file__).parent / 'models.py'}:answer"
EXAMPLES: list[dict[str, str]] = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
RUN: dict[str, Any] = {"prompt": "Say it.", "examples": EXAMPLES, "metric": "numeric", "method": "local-search"}
VERSION = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
DECLARED: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {IDENTIFIER: {}}}}
SILENT: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {}}


class Raw:
    """A client that writes and reads JSON lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.number = process, 0

    def ask(self, method: str, meta: dict[str, Any] = DECLARED, **params: Any) -> dict[str, Any]:
        self.number += 1
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        body = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": {**params, "_meta": VERSION | meta}}
        self.process.stdin.write(json.dumps(body) + "\n")
        self.process.stdin.flush()
        while (answer := json.loads(self.process.stdout.readline())).get("id") != self.number:
            pass
        found: dict[str, Any] = answer.get("result") or answer["error"]
        return found

    def optimize(self, meta: dict[str, Any] = DECLARED, **more: Any) -> dict[str, Any]:
        return self.ask("tools/call", meta, name="optimize_prompt", arguments=RUN | {"wait_seconds": 60} | more)

    def settled(self, task_id: str) -> dict[str, Any]:
        """Return the task once it has ended; between looks, the server waits for its only run to end."""
        while (task := self.ask("tasks/get", taskId=task_id))["status"] in {"working", "input_required"}:
            for run in self.runs():
                arguments = {"run_id": run["run_id"], "wait_seconds": 0.2}
                self.ask("tools/call", SILENT, name="get_run", arguments=arguments)
        return task

    def runs(self) -> list[dict[str, Any]]:
        """Return the server's runs; a task is there a moment before its run."""
        found: list[dict[str, Any]] = self.ask("tools/call", SILENT, name="list_runs", arguments={})[
            "structuredContent"
        ]["runs"]
        return found

    def running(self) -> bool:
        """Wait until the server's only run is running; return False if it is not after a minute."""
        until = time.monotonic() + 60
        while [run["status"] for run in self.runs()] != ["running"]:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


@contextmanager
def holding(home: Path, provider: FakeServer) -> Iterator[Raw]:
    """Run a server whose model waits for ``provider.release()``."""
    held.hold(provider)
    with server(home, held.MODEL, **held.variables(provider)) as raw:
        yield raw


@contextmanager
def server(home: Path, model: str = MODEL, **more: str) -> Iterator[Raw]:
    command = [sys.executable, "-m", "lpo_mcp", "--model", model, "--approve-calls", "3000"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "LPO_HOME": str(home), **more}
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        yield Raw(process)
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_long_call_becomes_a_task_that_ends_with_the_tools_result(tmp_path: Path, provider: FakeServer) -> None:
    with holding(tmp_path, provider) as raw:
        task = raw.optimize(**held.RUN)
        assert (task["resultType"], task["status"]) == ("task", "working")
        assert task["taskId"].startswith("task_")
        provider.release()
        ended = raw.settled(task["taskId"])
        assert ended["status"] == "completed"
        content = ended["result"]["structuredContent"]
        assert (content["status"], content["verdict"]) == ("completed", "improved")
        again = raw.ask("tools/call", SILENT, name="get_run", arguments={"run_id": content["run_id"]})
        assert again["structuredContent"] == content  # both doors lead to the same run


def test_without_the_extension_the_call_is_answered_normally(tmp_path: Path) -> None:
    with server(tmp_path) as raw:
        assert raw.optimize(SILENT)["structuredContent"]["verdict"] == "improved"
        assert raw.ask("tasks/get", SILENT, taskId="task_x")["code"] == -32021


def test_a_quick_call_is_no_task(tmp_path: Path) -> None:
    with server(tmp_path) as raw:
        listed = raw.ask("tools/call", name="list_runs", arguments={})
        assert listed["structuredContent"] == {"runs": [], "total": 0}
        refused = raw.optimize(model="openai:x")
        assert refused["isError"]


def test_the_run_of_a_cancelled_task_continues(tmp_path: Path, provider: FakeServer) -> None:
    with holding(tmp_path, provider) as raw:
        task = raw.optimize(**held.RUN)
        assert raw.running()
        assert raw.ask("tasks/cancel", taskId=task["taskId"])["resultType"] == "complete"
        assert raw.settled(task["taskId"])["status"] == "cancelled"
        assert raw.running()


def test_unknown_tasks_are_not_found(tmp_path: Path) -> None:
    with server(tmp_path) as raw:
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            assert raw.ask(method, taskId="task_guess")["code"] == -32602


class Context:
    """What the extension needs of a request's context."""

    request = None

    class session:  # noqa: N801 - named as in the SDK
        class client_capabilities:  # noqa: N801
            extensions: ClassVar[dict[str, Any]] = {IDENTIFIER: {}}


@pytest.mark.anyio
async def test_tasks_belong_to_their_owner_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpo_mcp.tasks.require_client_extension", lambda *_: None)
    now, owner = [0.0], ["alice"]
    tasks = Tasks({}, owner=lambda: owner[0], spawn=lambda _: None, ttl=10, most=2, clock=lambda: now[0])
    context: Any = Context()

    def known(task_id: str) -> bool:
        from lpo_mcp.tasks import TaskParams  # noqa: PLC0415 - beside its only use

        try:
            tasks._found(context, TaskParams(task_id=task_id))
        except MCPError:
            return False
        return True

    for number in range(3):
        tasks._keep(Job(f"t{number}", "alice", ended=float(number)))
    tasks._keep(Job("live", "bob"))
    assert [known(f"t{number}") for number in range(3)] == [False, True, True]  # the oldest made room
    assert not known("live")
    owner[0] = "bob"
    assert known("live")
    assert not known("t2")
    owner[0], now[0] = "alice", 11.5
    assert [known("t1"), known("t2")] == [False, True]
    await anyio.lowlevel.checkpoint()
