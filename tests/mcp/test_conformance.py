"""The official conformance suite, against the product's server and against one with the suite's fixtures.

It needs Node 22 and the npm registry; where those are out of reach, the tests are skipped and say so.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mcp.test_transports import wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
HERE = Path(__file__).parent
BASELINE = HERE / "conformance-baseline.yml"
pytestmark = [pytest.mark.timeout(600), pytest.mark.conformance]


@cache
def why_not() -> str | None:
    """Return why the suite cannot be run here, None if it can."""
    if shutil.which("npx") is None or shutil.which("npm") is None:
        return "npx is not installed"
    try:
        found = subprocess.run(["npm", "view", SUITE, "version"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "the npm registry does not answer"
    return None if found.returncode == 0 and found.stdout.strip() else "the npm registry does not have the suite"


def suite(*words: str) -> str:
    """Run the suite, and return what it printed."""
    if reason := why_not():
        pytest.skip(reason)
    command = ["npx", "-y", "-p", "node@22", "-p", SUITE, "conformance", "server", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return f"{done.stdout}{done.stderr}\nexit code {done.returncode}"


@contextmanager
def served(home: Path, *command: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in command]
    environment = {**os.environ, "LPO_HOME": str(home)}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        wait_for_port(process, port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(60)


REVISIONS = [pytest.param("2025-11-25", marks=pytest.mark.slow), "2026-07-28"]


@pytest.mark.parametrize("version", REVISIONS)
def test_the_products_server_fails_only_what_needs_the_suites_fixtures(tmp_path: Path, version: str) -> None:
    with served(tmp_path, sys.executable, "-m", "lpo_mcp", "--http", "127.0.0.1:PORT", "--model", "local:x") as url:
        printed = suite("--url", url, "--spec-version", version)
    failed = set(re.findall(r"^✗ ([a-z0-9-]+):", printed, re.MULTILINE))
    passed = set(re.findall(r"^✓ ([a-z0-9-]+):", printed, re.MULTILINE))
    expected = set(re.findall(r"^  - ([a-z0-9-]+)$", BASELINE.read_text(encoding="utf-8"), re.MULTILINE))
    assert passed >= {"tools-list", "dns-rebinding-protection", "completion-complete"}, printed[-2_000:]
    assert failed <= expected, sorted(failed - expected)
    assert not passed & expected, f"the baseline is stale: {sorted(passed & expected)}"


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the product's server with the suite's fixtures; it names its own port."""
    environment = {**os.environ, "LPO_HOME": str(tmp_path_factory.mktemp("home"))}
    command = [sys.executable, str(HERE / "conformance_server.py")]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=pipe, stderr=nowhere, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_with_the_suites_fixtures_every_scored_scenario_passes(fixtures: str, revision: str) -> None:
    printed = suite("--url", fixtures, "--requirements", revision)
    assert printed.endswith("exit code 0"), printed[-3_000:]
    tasks = re.findall(r"^([✓✗]) (tasks-[a-z-]+): (\d+) passed, (\d+) failed", printed, re.MULTILINE)
    assert all(mark == "✓" and failed == "0" for mark, _, _, failed in tasks), tasks
    if revision == "2026-07-28":
        assert sum(int(passed) for _, _, passed, _ in tasks) > 40
