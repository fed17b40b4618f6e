"""Compares the time until `lpo-mcp` has answered `tools/list` with the time of importing the MCP SDK's server alone.

Prints the medians of seven starts of each, in seconds, and their ratio. Run it on a machine without other work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

STARTS = 7
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def import_seconds() -> float:
    """Return the time of a process that only imports the SDK's server."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import mcp.server"], check=True)
    return time.perf_counter() - began


def answer_seconds() -> float:
    """Return the time from the start of the server to its answer."""
    pipe, command = subprocess.PIPE, [sys.executable, "-m", "lpo_mcp", "--model", "local:x"]
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        environment = {**os.environ, "LPO_HOME": home}
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(REQUEST) + "\n")
        process.stdin.flush()
        tools = json.loads(process.stdout.readline())["result"]["tools"]
        seconds = time.perf_counter() - began
        process.communicate(timeout=20)
    assert tools
    return seconds


if __name__ == "__main__":
    pairs = [(import_seconds(), answer_seconds()) for _ in range(STARTS)]
    alone, answer = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"import mcp.server: {alone:.3f} s; lpo-mcp answers tools/list: {answer:.3f} s; {answer / alone:.2f} times")
