"""What processes share at a NATS server beside the stream: a way to reach it, a noticeboard, a clock."""

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
PAUSE: Final = 0.2
"""Seconds until something is tried again with a server that does not answer."""
SHORTEST, LONGEST = 0.002, 0.25
"""Bounds of the pause after another process was faster, in seconds; drawn from an interval that doubles."""
PARTING: Final = 5.0
"""Seconds that are taken at most to say goodbye."""
NOTED: Final = 9
ENTRY: Final = 10.0
"""Seconds that are taken at most to get in."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How to reach the server. ``credentials``: a NATS credentials file; ``ca``: a file with the CA of its TLS."""

    url: str
    credentials: str | None = None
    ca: str | None = None

    @property
    def shown(self) -> str:
        """The address without a user or a password."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


async def connect(wire: Wire) -> Client:
    """Connect; the client reconnects by itself. Raises ConfigError where the server cannot be reached."""
    options: dict[str, Any] = {"user_credentials": wire.credentials} if wire.credentials else {}
    problems: list[Exception] = []

    async def note(problem: Exception) -> None:
        if len(problems) < NOTED:  # later ones only say that the server is away; the client reconnects by itself
            problems.append(problem)

    try:
        if wire.ca:
            options["tls"] = ssl.create_default_context(cafile=wire.ca)
        with anyio.fail_after(ENTRY):  # the client itself tries a bad certificate for ever
            client = await nats.connect(
                wire.url,
                name="lpo-agent",
                max_reconnect_attempts=1,
                reconnect_time_wait=PAUSE,
                error_cb=note,
                **options,
            )
    except (nats.errors.Error, OSError, TimeoutError, ValueError, NkeysError) as exc:
        said = [problem for problem in problems if type(problem) is nats.errors.Error]  # by the server itself
        why = [*said, *reversed(problems), exc][0]
        raise ConfigError(
            f"{wire.shown}: no NATS server lets us in there ({type(why).__name__}: {why or 'no answer'})"
        ) from None
    client.options["max_reconnect_attempts"] = -1  # a server that was there once is waited for
    return client


def token(name: str) -> str:
    """Return ``name`` as one word of a subject, or a key: two names never give the same one."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Store:
    """Texts under names, at the server; made when it is first used. ``kept``: seconds, None for ever."""

    stream: JetStreamContext
    bucket: str
    kept: float | None = None

    async def put(self, name: str, text: str) -> None:
        """Write a text, whatever was there."""
        await (await self.open()).put(token(name), text.encode())

    async def get(self, name: str) -> str | None:
        """Return a text, None if there is none."""
        try:
            return ((await (await self.open()).get(token(name))).value or b"").decode()
        except KeyNotFoundError:
            return None

    async def remove(self, name: str) -> None:
        """Forget a text; one that is not there, or a server that does not answer, is no error."""
        with suppress(nats.errors.Error, TimeoutError, APIError):
            await (await self.open()).purge(token(name))

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
) -> AsyncIterator[Callable[[str, float], Awaitable[float]]]:
    """Open the clocks that all processes with this ``name`` share.

    They serve :class:`lpo_agent.models.ratelimit.shared.Quota`.

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


async def _advance(store: KeyValue, key: str, part: str, seconds: float) -> float:
    """Move a clock ahead, against all who do the same; return where it stood, or now."""
    late = 0
    while True:
        try:
            found, revision = await _read_clock(store, f"{key}.{part}")
            start = max(found, time.time())
            await store.update(f"{key}.{part}", f"{start + seconds:.6f}".encode(), last=revision)
        except KeyWrongLastSequenceError:
            await anyio.sleep(random.uniform(0, min(LONGEST, SHORTEST * 2.0**late)))
            late += 1
        except (nats.errors.Error, TimeoutError, APIError):
            await anyio.sleep(PAUSE)
        else:
            return start


async def _read_clock(store: KeyValue, key: str) -> tuple[float, int]:
    try:
        entry = await store.get(key)
    except KeyNotFoundError:
        return 0.0, 0
    return float(entry.value or b"0"), entry.revision or 0
