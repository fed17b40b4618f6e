"""A model on this machine: llama.cpp's own server inside this process, on a loopback port.

It speaks the OpenAI protocol (and Anthropic's), so the same adapter serves it. Requests are
batched continuously; each slot keeps its last prompt, so a shared beginning is read once.
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
CONTEXT: Final = 1024
SILENT: Final = -1
TIMEOUT: Final = 600.0
SPINS: Final = 1000
"""Rounds that a thread of llama.cpp waits for the others before it sleeps. By default it never sleeps, and
another busy process on the machine then slows the model about twentyfold; with this it takes its share."""


@asynccontextmanager
async def open_local(
    path: Path, *, name: str, slots: int = SLOTS, context: int = CONTEXT
) -> AsyncIterator[OpenAIModel]:
    """Serve the GGUF file and yield the model ``local:NAME``.

    ``slots`` requests run side by side, each with ``context`` tokens. Raises ConfigError for a
    missing file, a file that is no GGUF, or a missing ``local`` extra.
    """
    async with llama_server(path, slots=slots, context=context) as url:
        digest = await to_thread.run_sync(weights.identity, path)
        known_as = f"local:{name}"
        async with OpenAIModel(name, base_url=f"{url}/v1", known_as=known_as, weights=digest, timeout=TIMEOUT) as model:
            yield model


@asynccontextmanager
async def llama_server(path: Path, *, slots: int = SLOTS, context: int = CONTEXT) -> AsyncIterator[str]:
    """Run the server and yield its address, without a path; it ends with the block."""
    check_gguf(path)
    servers = [await to_thread.run_sync(_start, path, slots, context)]
    try:
        yield str(servers[0].listening_address)
    finally:
        servers.pop()  # the server has no method to stop; it ends with its last reference


def check_gguf(path: Path) -> None:
    """Raise ConfigError unless the file is a GGUF model."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise ConfigError(f"local:{path}: the model file cannot be read: {exc.strerror}") from None
    if magic != b"GGUF":
        raise ConfigError(f"local:{path}: not a GGUF model file")


def _start(path: Path, slots: int, context: int) -> Any:
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read once, when the library is loaded
    try:
        import xllamacpp  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError('local: models need an extra; install it with: pip install "lpo-agent[local]"') from None
    threads = os.cpu_count() or 1
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = slots, slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.verbosity, params.warmup = SILENT, False
    params.cache_ram_mib = 0  # answers are in the journal; keeping prompts too would only take memory
    try:
        return xllamacpp.Server(params)
    except RuntimeError as exc:
        raise ConfigError(f"local:{path}: llama.cpp cannot load the model: {exc}") from None


@dataclass(frozen=True, slots=True)
class Local:
    """Models on this machine: ``local:smollm2``, or ``local:/path/to/model.gguf``."""

    traits: Traits = Traits(remote=False, free=True, most_at_once=SLOTS)

    @asynccontextmanager
    async def open(self, name: str, connection: Connection) -> AsyncIterator[OpenAIModel]:
        """Fetch the model's file if it must be, and serve it; raises ConfigError."""
        if name == "smollm2":
            pull = partial(weights.pull_smollm2, connection.home, say=connection.say, progress=False)
            path = await to_thread.run_sync(pull)
        else:
            path = Path(os.path.expanduser(name))  # noqa: ASYNC240, PTH111 - touches no disk
        slots = min(SLOTS, connection.concurrency)
        async with open_local(path, name=name, slots=slots) as model:
            yield model


PROVIDER: Final = Local()
