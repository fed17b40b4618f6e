"""Tests of connecting to a NATS server with TLS, its own CA and a password, and of shared clocks."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent.bus import nats_connection as connection
from lpo_agent.bus.nats import open_nats
from lpo_agent.bus.nats_connection import NatsAddress, open_clock
from lpo_agent.errors import ConfigError
from tests.bus.nats_server import Server, shared_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """Run a server with TLS, one user and a password; its CA is ca.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1", encoding="utf-8")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca",
        "req -newkey rsa:2048 -nodes -keyout own.key -out own.csr -subj /CN=nats",
        "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 2 -extfile names",
    ):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    conf = tmp_path / "conf"
    conf.write_text(
        f'tls: {{cert_file: "{tmp_path}/own.pem", key_file: "{tmp_path}/own.key"}}\n'
        "authorization: {user: ann, password: secret-word}\n",
        encoding="utf-8",
    )
    server = Server(extra=("-c", str(conf)))
    server.start()
    yield server
    server.end()


async def test_connecting_needs_the_password_and_the_ca(
    guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 2.0)
    place, ca = f"127.0.0.1:{guarded.port}", str(tmp_path / "ca.pem")
    async with open_nats(NatsAddress(f"tls://ann:secret-word@{place}", ca=ca), run="r") as bus:
        await bus.run_settings.put("a", "b")
        assert await bus.run_settings.get("a") == "b"
    wrong = {
        "Authorization": NatsAddress(f"tls://ann:secret-wrong@{place}", ca=ca),
        "CERTIFICATE_VERIFY_FAILED": NatsAddress(f"tls://ann:secret-word@{place}"),
        "no certificate": NatsAddress(f"tls://ann:secret-word@{place}", ca=str(tmp_path / "conf")),
    }
    for reason, way in wrong.items():
        with anyio.fail_after(60), pytest.raises(ConfigError, match=reason) as refused:
            async with open_nats(way, run="r"):
                pass
        assert str(refused.value).startswith(f"tls://{place}: cannot connect to a NATS server")
        assert "secret" not in str(refused.value)


async def test_processes_that_move_a_clock_concurrently_get_different_times() -> None:
    times: list[float] = []

    async def move() -> None:
        async with open_clock(NatsAddress(shared_server().url), "account") as lease:
            times.extend([await lease("0-of-1", 0.5) for _ in range(10)])

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(move)
    times.sort()
    assert [round(later - earlier, 3) for earlier, later in pairwise(times)] == [0.5] * 39
