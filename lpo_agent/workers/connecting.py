"""Connects to a NATS server, for the requests of runs and for rate limits that several processes share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit, urlunsplit

from lpo_agent.errors import ConfigError
from lpo_agent.models.ratelimit.shared import Quota, SharedLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AsyncExitStack

    from lpo_agent.bus.nats import NatsBus
    from lpo_agent.bus.nats_connection import NatsAddress
    from lpo_agent.models.ratelimit.limiter import Limits

MISSING = "the bus over NATS needs the extra: pip install 'lpo-agent[nats]'"


@asynccontextmanager
async def open_network(url: str, *, run: str, most_at_once: int | None = None) -> AsyncIterator[NatsBus]:
    """Connect to the NATS server at ``url``; raises ConfigError without the extra, or a server.

    A request of a worker that is lost fails: it may have made the call, so the run has to pay before it asks again.
    """
    try:
        from lpo_agent.bus.nats import open_nats  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError(MISSING) from None
    async with open_nats(server_of(url), run=run, max_in_flight=most_at_once, max_deliveries=1) as bus:
        yield bus


async def check_address(url: str) -> None:
    """Connect to the NATS server at ``url`` and leave again; raises ConfigError without the extra, or a server."""
    address = server_of(url)
    from lpo_agent.bus.nats_connection import connect  # noqa: PLC0415 - needs the extra

    await (await connect(address)).close()


def server_of(url: str) -> NatsAddress:
    """Parse the address of a server: ``nats://[USER:PASSWORD@]HOST:PORT`` or ``tls://...``, with ?creds= and ?ca=."""
    try:
        from lpo_agent.bus.nats_connection import NatsAddress  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError(MISSING) from None
    parts = urlsplit(url)
    if parts.scheme not in {"nats", "tls"}:
        raise ConfigError(f"--bus: write memory, nats://HOST:PORT or tls://HOST:PORT (got {url!r})")
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := given.keys() - {"creds", "ca"}:
        raise ConfigError(f"--bus: {min(unknown)!r} is not known; creds=FILE and ca=FILE are")
    for name, path in given.items():
        if not Path(path).is_file():
            raise ConfigError(f"--bus: {name}={path}: there is no such file")
    return NatsAddress(urlunsplit(parts._replace(query="")), given.get("creds"), given.get("ca"))


async def shared_limiter(
    stack: AsyncExitStack,
    url: str,
    account: str,
    limits: Limits,
    *,
    concurrency: int,
    slow_start: bool,
    say: Callable[[str], None],
) -> SharedLimiter:
    """Return a limiter whose limits apply to all processes together that use this account and this server."""
    try:
        from lpo_agent.bus.nats_connection import open_clock  # noqa: PLC0415 - needs the extra
    except ImportError:
        raise ConfigError(MISSING) from None
    lease = await stack.enter_async_context(open_clock(server_of(url), account))
    return SharedLimiter(limits, concurrency=concurrency, slow_start=slow_start, say=say, quota=Quota(limits, lease))
