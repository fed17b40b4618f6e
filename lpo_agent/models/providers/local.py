"""Models on this machine: runs llama.cpp's HTTP server inside this process, on a port of the loopback interface.

The server speaks the OpenAI protocol, so :class:`OpenAIModel` is its client. It batches concurrent
requests; each of its slots keeps the state of its last prompt, so a prefix that prompts share is
processed once.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from lpo_agent.errors import ConfigError
from lpo_agent.models.providers import weights
from lpo_agent.models.providers.base import Connection, Traits
from lpo_agent.models.providers.openai import OpenAIModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOTS: Final = 16
"""Requests that are processed at a time."""
CONTEXT: Final = 1024
"""Tokens of context for each of this many slots, prompt and answer together; fewer slots share the same memory."""
SILENT: Final = -1
"""The lowest verbosity of llama.cpp."""
TIMEOUT: Final = 600.0
"""Seconds for one request."""
SPIN_COUNT: Final = 1000
"""How often an OpenMP thread of llama.cpp checks for work before it sleeps. By default it never sleeps, and another
busy process on the same cores then makes the model about 20 times slower."""


@asynccontextmanager
async def open_local(
    path: Path, *, name: str, slots: int = SLOTS, context: int = CONTEXT
) -> AsyncIterator[OpenAIModel]:
    """Start a server for the GGUF file ``path`` and yield the model ``local:NAME``.

    It processes ``slots`` requests at a time, each with ``context`` tokens. Raises ConfigError if the
    file is missing or is not a GGUF file, or if the extra ``local`` is not installed.
    """
    async with llama_server(path, slots=slots, context=context) as url:
        digest = await to_thread.run_sync(weights.identity, path)
        known_as = f"local:{name}"
        async with OpenAIModel(name, base_url=f"{url}/v1", known_as=known_as, weights=digest, timeout=TIMEOUT) as model:
            yield model


def room(concurrency: int) -> tuple[int, int]:
    """Return the number of slots and the context of each: with fewer calls at a time, each may be longer."""
    slots = min(SLOTS, concurrency)
    return slots, CONTEXT * SLOTS // slots


@asynccontextmanager
async def llama_server(path: Path, *, slots: int = SLOTS, context: int = CONTEXT) -> AsyncIterator[str]:
    """Start a server and yield its URL without a path; the server stops at the end of the block."""
    check_gguf(path)
    servers = [await to_thread.run_sync(_start, path, slots, context)]
    try:
        yield str(servers[0].listening_address)
    finally:
        servers.pop()  # it has no method to stop; it stops when the last reference is gone


def check_gguf(path: Path) -> None:
    """Raise ConfigError unless the file exists and is a GGUF file, judged by its first four bytes."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise ConfigError(f"local:{path}: the model file cannot be read: {exc.strerror}") from None
    if magic != b"GGUF":
        raise ConfigError(f"local:{path}: not a GGUF model file")


def _start(path: Path, slots: int, context: int) -> Any:
    # Set here and not in environment.py: OpenMP reads it only once, when the import below loads the library.
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
    try:
        import xllamacpp  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError('local: models need an extra; install it with: pip install "lpo-agent[local]"') from None
    threads = os.cpu_count() or 1
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx, params.kv_unified = slots, slots * context, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.verbosity, params.warmup = SILENT, False
    params.cache_ram_mib = 0  # no prompt cache in memory: repeated calls are answered from the journal
    try:
        return xllamacpp.Server(params)
    except RuntimeError as exc:
        raise ConfigError(f"local:{path}: llama.cpp cannot load the model: {exc}") from None


TRAITS: Final = Traits(remote=False, free=True, most_at_once=SLOTS)


@dataclass(frozen=True, slots=True)
class Local:
    """Models on this machine: ``local:smollm2``, or ``local:/path/to/model.gguf``."""

    traits: Traits = TRAITS

    @asynccontextmanager
    async def open(self, name: str, connection: Connection) -> AsyncIterator[OpenAIModel]:
        """Fetch the model's file if it must be, and serve it; raises ConfigError."""
        if name == "smollm2":
            pull = partial(weights.pull_smollm2, connection.home, say=connection.say, progress=False)
            path = await to_thread.run_sync(pull)
        else:
            path = Path(os.path.expanduser(name))  # noqa: ASYNC240, PTH111 - touches no disk
        slots, context = room(connection.concurrency)
        async with open_local(path, name=name, slots=slots, context=context) as model:
            yield model


PROVIDER: Final = Local()
