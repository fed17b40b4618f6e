"""The command `lpo-mcp`: reads the options and serves on stdio or over HTTP.

On stdio, standard output carries JSON-RPC and nothing else. Logs go to standard error, without prompts, rows or keys.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lpo_agent
from lpo_agent.errors import ConfigError, LpoError
from lpo_mcp.settings import TOOLS, Settings, default_models, read_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from mcp.server import MCPServer

    from lpo_mcp.manager import RunManager

BODY: Final = 4_000_000
"""Largest request over HTTP, in bytes."""
SESSIONS: Final = 200
"""Most sessions of the older protocol at the same time."""
IDLE: Final = 1_800
"""Seconds after which such a session ends if its client is silent."""
GRACE: Final = 5
"""Seconds that requests over HTTP have to end when the server stops."""
SECRET: Final = re.compile(r"(sk-|Bearer\s+|key[-_]?)[A-Za-z0-9_\-.]{8,}", re.IGNORECASE)


class Redacted(logging.Formatter):
    """Formats log lines, and removes texts that look like a key or a token."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return SECRET.sub(r"\1[redacted]", super().format(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the client disconnects or a signal comes; return the exit code."""
    try:
        given = build_parser().parse_args(argv)
        settings = settings_of(given)
        _log(verbose=given.verbose)
        if given.http is None:
            _serve_stdio(settings)
        else:
            _serve_http(settings, given.http, given.allow_host, given.allow_origin)
    except LpoError as problem:
        print(f"lpo-mcp: error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def build_parser(prog: str = "lpo mcp") -> argparse.ArgumentParser:
    """Return the parser of the server's options."""
    parser = argparse.ArgumentParser(prog=prog, description="MCP server for Local Prompt Optimization.")
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the server's options to a parser; options that a run has too have the same descriptions."""
    add = parser.add_argument
    add("--http", metavar="HOST:PORT", help="serve streamable HTTP at /mcp (default: stdio)")
    add("--allow-host", metavar="HOST", action="append", default=[], help="Host headers to accept beyond loopback")
    add("--allow-origin", metavar="URL", action="append", default=[], help="Origin headers to accept")
    add(
        "--model",
        metavar="PROVIDER:NAME",
        action="append",
        default=[],
        help="a model that tools may use; may be repeated",
    )
    add("--optimizer-model", metavar="PROVIDER:NAME", help=lpo_agent.option_of("optimizer_model").meaning())
    add("--metric", metavar="NAME=FILE.py:FUNCTION", action="append", default=[], help="offer a metric of your own")
    add("--allow-dir", metavar="DIR", action="append", default=[], help="folder for dataset_path (default: none)")
    add("--max-calls", type=int, metavar="N", help="highest number of calls of one run (default: 20000)")
    add("--max-usd", type=float, metavar="N", help="highest cost of one run in US dollars (default: 20)")
    add("--approve-calls", type=int, metavar="N", help="runs with more calls need the user's approval (default: 5000)")
    add("--server-calls", type=int, metavar="N", help="highest number of calls of all runs together")
    add("--server-usd", type=float, metavar="N", help="highest cost of all runs together in US dollars")
    add("--rpm", type=float, metavar="N", help=lpo_agent.option_of("rpm").meaning())
    add("--tpm", type=float, metavar="N", help=lpo_agent.option_of("tpm").meaning())
    add("--concurrency", type=int, metavar="N", help=lpo_agent.option_of("concurrency").meaning("64"))
    add(
        "--bus", metavar="BUS", help="memory, or nats://HOST:PORT to let workers make the model calls (default: memory)"
    )
    add("--wait-seconds", type=float, metavar="S", help="how long tools wait by default (default: 45)")
    add("--read-only", action="store_true", help="offer no tool that calls models, or starts or stops a run")
    add("--tools", metavar="LIST", help=f"offer these only, of {', '.join(TOOLS)}")
    add("--verbose", action="store_true", help="log to standard error")


def settings_of(given: argparse.Namespace) -> Settings:
    """Return the settings from the options and the environment; raises ConfigError."""
    env = lpo_agent.read_environment()
    picked = tuple(name.strip() for name in given.tools.split(",")) if given.tools else TOOLS
    if unknown := set(picked) - set(TOOLS):
        raise ConfigError(f"--tools: {min(unknown)!r} is none of {', '.join(TOOLS)}")
    options: dict[str, Any] = {
        "max_calls": given.max_calls,
        "max_usd": given.max_usd,
        "approve_calls": given.approve_calls,
        "server_calls": given.server_calls,
        "server_usd": given.server_usd,
        "rpm": given.rpm,
        "tpm": given.tpm,
        "wait": given.wait_seconds,
        "concurrency": given.concurrency,
        "bus": given.bus,
    }
    roots = tuple(Path(name).expanduser() for name in given.allow_dir)
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"--allow-dir {root}: there is no such folder")
    return Settings(
        models=tuple(given.model) or default_models(env),
        optimizer_model=given.optimizer_model,
        metrics=dict(_metric(text) for text in given.metric),
        roots=roots,
        read_only=given.read_only,
        tools=picked,
        tokens=read_tokens(env.mcp_tokens),
        **{name: value for name, value in options.items() if value is not None},
    )


def _metric(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or not name.isidentifier() or ":" not in place:
        raise ConfigError(f"--metric {text}: write NAME=FILE.py:FUNCTION")
    return name, place


def _log(*, verbose: bool) -> None:
    """Send redacted logs to standard error, before the SDK sets up its own logging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True)


def _serve_stdio(settings: Settings) -> None:
    from lpo_mcp.server import build_server  # noqa: PLC0415 - the SDK is slow to import, and `--help` needs none

    server = build_server(settings)
    with_signals(server)
    server.run("stdio")


def with_signals(server: MCPServer[RunManager]) -> None:
    """End the server's lifespan on SIGTERM and SIGINT, so that its runs are recorded as interrupted.

    On stdio a thread of the SDK blocks on standard input, so the process is then ended by force.
    """
    lowlevel = server._lowlevel_server  # noqa: SLF001 - the SDK offers no other way to wrap a lifespan
    inner = lowlevel.lifespan

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        import anyio  # noqa: PLC0415 - see _serve_stdio

        async def watch(scope: anyio.CancelScope) -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    break
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            ended = False
            with anyio.CancelScope() as scope:
                tasks.start_soon(watch, scope)
                async with inner(app) as state:
                    yield state
                ended = True
            tasks.cancel_scope.cancel()
            if not ended:
                sys.stdout.flush()
                os._exit(0)

    lowlevel.lifespan = lifespan


def _serve_http(settings: Settings, address: str, hosts: Sequence[str], origins: Sequence[str]) -> None:
    """Serve over HTTP; raises ConfigError for an address beyond this machine without tokens and allowed hosts."""
    host, port = parse_address(address)
    if not is_loopback(host) and not (settings.tokens and hosts):
        raise ConfigError(
            f"--http {address}: beyond this machine it needs LPO_MCP_TOKENS (OWNER=SECRET) and --allow-host HOST"
        )
    import uvicorn  # noqa: PLC0415 - see _serve_stdio
    from mcp.server.transport_security import TransportSecuritySettings  # noqa: PLC0415

    from lpo_mcp.server import build_server  # noqa: PLC0415

    names = [*hosts] if hosts else [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[*origins, *(f"http://{name}" for name in names)],
    )
    url = f"http://{hosts[0] if hosts else f'{host}:{port}'}/mcp"
    app = build_server(settings, url=url).streamable_http_app(
        max_request_body_size=BODY,
        session_idle_timeout=IDLE,
        max_sessions=SESSIONS,
        transport_security=security,
        host=host,
    )
    config = uvicorn.Config(app, host=host, port=port, log_config=None, timeout_graceful_shutdown=GRACE)
    uvicorn.Server(config).run()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"--http {address}: write HOST:PORT, such as 127.0.0.1:8765")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
