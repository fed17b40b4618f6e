"""Connects to a NATS server, and keeps shared data there: a key-value store, and the clocks of shared rate limits.

The message stream of requests is in :mod:`lpo_agent.bus.nats`.
"""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import anyio
import nats
import nats.errors
import sniffio
from nats.js import api
from nats.js.errors import (
    APIError,
    BadBucketError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nkeys import NkeysError

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

PREFIX: Final = "lpo"
"""First word of all subjects, and of the names of streams and buckets."""
RETRY_INTERVAL: Final = 0.2
"""Seconds between attempts while the server does not answer."""
MIN_BACKOFF, MAX_BACKOFF = 0.002, 0.25
"""Bounds in seconds of the random pause after another process changed the same key first; the interval doubles."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a single request to the server may take, and that closing the connection may take."""
MAX_ERRORS_KEPT: Final = 9
CONNECT_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """How to reach a NATS server.

    ``url``: "nats://" or "tls://", host and port, with user and password if needed. ``credentials``:
    path of a NATS credentials file. ``ca``: path of the certificate of the server's own CA.
    """

    url: str
    credentials: str | None = None
    ca: str | None = None

    @property
    def redacted_url(self) -> str:
        """The URL without user and password, for messages."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def connect(address: NatsAddress) -> Client:
    """Connect to the server; raises ConfigError if that fails, and on trio.

    If the connection is lost later, the client reconnects by itself, as often as needed.
    """
    if sniffio.current_async_library() != "asyncio":
        raise ConfigError("the bus over NATS needs asyncio; on trio, use the memory bus")
    options: dict[str, Any] = {"user_credentials": address.credentials} if address.credentials else {}
    errors: list[Exception] = []

    async def keep_error(error: Exception) -> None:
        if len(errors) < MAX_ERRORS_KEPT:  # bounded, because the callback stays for the life of the connection
            errors.append(error)

    try:
        if address.ca:
            options["tls"] = ssl.create_default_context(cafile=address.ca)
        with anyio.fail_after(CONNECT_TIMEOUT):  # with a bad certificate, the client itself would retry without end
            client = await nats.connect(
                address.url,
                name="lpo-agent",
                max_reconnect_attempts=1,
                reconnect_time_wait=RETRY_INTERVAL,
                error_cb=keep_error,
                **options,
            )
    except (nats.errors.Error, OSError, TimeoutError, ValueError, NkeysError) as exc:
        from_server = [error for error in errors if type(error) is nats.errors.Error]  # such as a wrong password
        cause = [*from_server, *reversed(errors), exc][0]
        raise ConfigError(
            f"{address.redacted_url}: cannot connect to a NATS server ({type(cause).__name__}: {cause or 'no answer'})"
        ) from None
    client.options["max_reconnect_attempts"] = -1  # no limit, now that the address is known to be right
    return client


def token(name: str) -> str:
    """Return ``name`` as one token of a subject, or as a key; different names give different tokens.

    Characters that a token must not contain are replaced, and a hash of the name is then added.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class KeyValueStore:
    """A bucket of NATS's key-value store, for texts; created when it is first used.

    ``max_age``: seconds after which an entry is deleted, None for never.
    """

    jetstream: JetStreamContext
    bucket: str
    max_age: float | None = None

    async def put(self, name: str, text: str) -> None:
        """Store a text under the name; replaces an earlier one."""
        await (await self.open()).put(token(name), text.encode())

    async def get(self, name: str) -> str | None:
        """Return the text stored under the name, None if there is none."""
        try:
            return ((await (await self.open()).get(token(name))).value or b"").decode()
        except KeyNotFoundError:
            return None

    async def remove(self, name: str) -> None:
        """Delete the text stored under the name; does not raise if there is none or the server does not answer."""
        with suppress(nats.errors.Error, TimeoutError, APIError):
            await (await self.open()).purge(token(name))

    async def open(self) -> KeyValue:
        """Return the bucket, and create it if needed."""
        try:
            return await self.jetstream.key_value(self.bucket)
        except (NotFoundError, BucketNotFoundError):
            with suppress(BadBucketError, APIError):  # another process created it first
                return await self.jetstream.create_key_value(
                    api.KeyValueConfig(bucket=self.bucket, history=1, ttl=self.max_age)
                )
            return await self.jetstream.key_value(self.bucket)


@asynccontextmanager
async def open_clock(
    address: NatsAddress, name: str, *, prefix: str = PREFIX
) -> AsyncIterator[Callable[[str, float], Awaitable[float]]]:
    """Connect and yield the ``lease`` function of :class:`lpo_agent.models.ratelimit.shared.Quota`.

    All processes that use the same ``name`` share the same clocks. The times are wall-clock times of
    the machines, whose clocks must agree to within a fraction of a second (NTP).
    """
    client = await connect(address)
    try:
        store = await KeyValueStore(client.jetstream(timeout=CLOSE_TIMEOUT), f"{prefix}-clocks").open()
        key = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        yield partial(_advance, store, key)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
            await client.close()


async def _advance(store: KeyValue, key: str, part: str, seconds: float) -> float:
    """Move a clock ahead by ``seconds`` and return its earlier time, or the present time if that is later.

    Compare-and-swap: tries again if another process moved the clock in between.
    """
    conflicts = 0
    while True:
        try:
            found, revision = await _read_clock(store, f"{key}.{part}")
            start = max(found, time.time())
            await store.update(f"{key}.{part}", f"{start + seconds:.6f}".encode(), last=revision)
        except KeyWrongLastSequenceError:
            await anyio.sleep(random.uniform(0, min(MAX_BACKOFF, MIN_BACKOFF * 2.0**conflicts)))
            conflicts += 1
        except (nats.errors.Error, TimeoutError, APIError):
            await anyio.sleep(RETRY_INTERVAL)
        else:
            return start


async def _read_clock(store: KeyValue, key: str) -> tuple[float, int]:
    """Return a clock's time and the revision of its entry; both 0 if it was never moved."""
    try:
        entry = await store.get(key)
    except KeyNotFoundError:
        return 0.0, 0
    return float(entry.value or b"0"), entry.revision or 0
