"""What processes share at a NATS server beside the stream: a way to reach it, a noticeboard, a clock."""

from __future__ import annotations

import hashlib
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import nats
import nats.errors
from nats.js import api
from nats.js.errors import (
    APIError,
    BadBucketError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

PREFIX: Final = "lpo"
PAUSE: Final = 0.2
"""Seconds until something is tried again with a server that does not answer."""
PARTING: Final = 5.0
"""Seconds that are taken at most to say goodbye."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How to reach the server. ``credentials``: a NATS credentials file; ``ca``: a file with the CA of its TLS."""

    url: str
    credentials: str | None = None
    ca: str | None = None


async def connect(wire: Wire) -> Client:
    """Connect; the client reconnects by itself. Raises ConfigError where the server cannot be reached."""
    options: dict[str, Any] = {"user_credentials": wire.credentials} if wire.credentials else {}
    if wire.ca:
        import ssl  # noqa: PLC0415 - for TLS with a CA of one's own only

        options["tls"] = ssl.create_default_context(cafile=wire.ca)
    try:
        client = await nats.connect(
            wire.url,
            name="lpo-agent",
            connect_timeout=5,
            max_reconnect_attempts=1,
            reconnect_time_wait=PAUSE,
            error_cb=_ignore,
            **options,
        )
    except (nats.errors.Error, OSError, TimeoutError) as exc:
        raise ConfigError(f"{wire.url}: no NATS server can be reached there ({type(exc).__name__})") from None
    client.options["max_reconnect_attempts"] = -1  # a server that was there once is waited for
    return client


async def _ignore(_: Exception) -> None:
    """Take note of nothing: the client reconnects by itself, and requests are sent again."""


@dataclass(frozen=True, slots=True)
class Store:
    """Texts under names, at the server; made when it is first used. ``kept``: seconds, None for ever."""

    stream: JetStreamContext
    bucket: str
    kept: float | None = None

    async def put(self, name: str, text: str) -> None:
        """Write a text, whatever was there."""
        await (await self.open()).put(name, text.encode())

    async def get(self, name: str) -> str | None:
        """Return a text, None if there is none."""
        try:
            return ((await (await self.open()).get(name)).value or b"").decode()
        except KeyNotFoundError:
            return None

    async def remove(self, name: str) -> None:
        """Forget a text; one that is not there, or a server that does not answer, is no error."""
        with suppress(nats.errors.Error, TimeoutError, APIError):
            await (await self.open()).purge(name)

    async def open(self) -> KeyValue:
        """Return the bucket."""
        try:
            return await self.stream.key_value(self.bucket)
        except (NotFoundError, BucketNotFoundError):
            with suppress(BadBucketError, APIError):  # another process made it meanwhile
                return await self.stream.create_key_value(
                    api.KeyValueConfig(bucket=self.bucket, history=1, ttl=self.kept)
                )
            return await self.stream.key_value(self.bucket)


@asynccontextmanager
async def open_clock(
    wire: Wire, name: str, *, prefix: str = PREFIX
) -> AsyncIterator[Callable[[float], Awaitable[float]]]:
    """Open a clock that all processes with this ``name`` share, as :class:`lpo_agent.models.quota.Quota` wants it.

    Times are those of the machines, which must agree to within a fraction of a second (NTP).
    """
    client = await connect(wire)
    try:
        store = await Store(client.jetstream(timeout=PARTING), f"{prefix}-clocks").open()
        key = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        yield partial(_advance, store, key)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(PARTING):
            await client.close()


async def _advance(store: KeyValue, key: str, seconds: float) -> float:
    """Move the clock ahead, against all who do the same; return where it stood, or now."""
    while True:
        try:
            found, revision = await _read_clock(store, key)
            start = max(found, time.time())
            await store.update(key, f"{start + seconds:.6f}".encode(), last=revision)
        except KeyWrongLastSequenceError:
            continue
        except (nats.errors.Error, TimeoutError, APIError):
            await anyio.sleep(PAUSE)
            continue
        return start


async def _read_clock(store: KeyValue, key: str) -> tuple[float, int]:
    try:
        entry = await store.get(key)
    except KeyNotFoundError:
        return 0.0, 0
    return float(entry.value or b"0"), entry.revision or 0
