"""Test of `kill -9`: the resumed run does not repeat calls that were paid for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CountingServer:
    """Speaks the chat completions protocol; counts what it answered, and says when a number is reached."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.alarm_at = 0
        self.alarm = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, body: dict[str, Any]) -> str:
        text: str = body["messages"][-1]["content"]
        with self.lock:
            self.asked[text] += body["temperature"] == 0  # repeated draws at random are meant to be repeated
            if self.alarm_at and self.asked.total() >= self.alarm_at:
                self.alarm.set()
        number = "".join(c for c in text.rpartition("Note")[2] if c.isdigit())
        return number if "number" in text.casefold() else "What a lovely note!"


@contextmanager
def counting_server() -> Iterator[CountingServer]:
    state = CountingServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one packet a reply

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = state.answer(body)
            usage = {"prompt_tokens": 9, "completion_tokens": 2}
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            reply = json.dumps({"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: a killed client is what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lpo(*words: str) -> list[str]:
    return [sys.executable, "-m", "lpo_agent", *words]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"LPO_HOME": str(home)}


@pytest.mark.parametrize("kill_at", [25, 120, 260])
def test_kill_and_resume_pays_nothing_twice(tmp_path: Path, kill_at: int) -> None:
    data, prompt, home = tmp_path / "data.jsonl", tmp_path / "prompt.txt", tmp_path / "home"
    rows = [{"input": f"Note: {n} pears sold.", "target": str(n)} for n in range(120)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompt.write_text("Say something about this.\n\nNote: {input}", encoding="utf-8")
    words = ["optimize", str(prompt), "--data", str(data), "--method", "local-search", "--metric", "numeric"]
    words += ["--model", "openai:any", "--concurrency", "4", "--branches", "2", "--steps", "2", "--quiet", "--json"]
    with counting_server() as server:
        server.alarm_at = kill_at
        command = lpo(*words, "--base-url", server.url)
        process = subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE)
        assert server.alarm.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        listed = subprocess.run(
            lpo("runs", "--json"), env=environment(home), check=True, capture_output=True, text=True
        )
        (run,) = json.loads(listed.stdout)
        assert run["status"] == "interrupted"
        resumed = subprocess.run(
            lpo("resume", run["run_id"], "--json"),
            env=environment(home),
            check=True,
            capture_output=True,
            text=True,
        )
        result = json.loads(resumed.stdout)
        repeated = sum(count - 1 for count in server.asked.values())
    assert result["status"] == "completed"
    assert result["run_id"] == run["run_id"]
    assert result["verdict"] == "improved"
    assert repeated <= 4  # no more than the calls that were in flight
    assert result["usage"]["calls"] >= kill_at - 4
