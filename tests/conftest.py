"""Fixtures for all tests, and the distribution of tests among the workers of pytest-xdist."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from lpo_agent.models.providers.weights import smollm2_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.fake_server import FakeServer

STATE = Path(os.environ.get("LPO_HOME") or platformdirs.user_state_dir("lpo-agent", appauthor=False))

TOGETHER = {
    "local_model": "the embedded model takes every core, so only one test at a time uses it",
    "conformance": "the suite's tests share one server",
}
"""Tests with one of these markers all run in one worker, one after another."""

LONG_FIRST = ("tests/runs", "tests/mcp", "tests/bench", "tests/bus")
"""Folders that begin early, so that no worker is left with a long test at the end."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="session")
def weights() -> Path:
    """The embedded model's file; tests that ask for it are skipped where it is not there.

    The library itself is not loaded here: that is for the package, which first tells OpenMP not to wait in a
    busy loop. Loaded earlier, it would slow down twentyfold beside another busy process.
    """
    if find_spec("xllamacpp") is None:
        pytest.skip("the local extra is not installed")
    path = smollm2_path(STATE)
    if not path.is_file():
        pytest.skip(f"no model file at {path}; `lpo models pull smollm2` fetches it")
    return path


@pytest.fixture(scope="session")
def _provider() -> Iterator[FakeServer]:
    from tests.models.fake_server import fake_server  # noqa: PLC0415 - most workers need none

    with fake_server() as server:
        yield server


@pytest.fixture
def provider(_provider: FakeServer) -> Iterator[FakeServer]:
    """A fake provider that all tests of a worker share: nothing is counted, held or scripted when a test begins."""
    _provider.reset()
    yield _provider
    _provider.release()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that must not run side by side into one group, and long tests first."""
    for item in items:
        for marker in TOGETHER:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.xdist_group(marker))
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_FIRST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if config.option.markexpr == "not slow":
        terminalreporter.write_line("left out: tests marked slow; run all with .ci/run, or these with -m slow")
