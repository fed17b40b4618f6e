"""Checks what works on this machine: packages, the journal, the engine for local models, and each provider."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError, JournalError
from lpo_agent.journal import open_journal
from lpo_agent.models.providers.base import PROVIDERS, traits_of
from lpo_agent.models.providers.weights import SMOLLM2, sha256, smollm2_path

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent.environment import Environment

PACKAGES: Final = ("lpo-agent", "anyio", "aiohttp", "pydantic", "openai", "anthropic", "xllamacpp", "nats-py")
PORTS: Final = {"http": 80, "https": 443}
CONNECT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``ok`` is None for information, such as a version."""

    name: str
    ok: bool | None
    detail: str


async def diagnose(env: Environment | None = None) -> list[Check]:
    """Return the checks of this machine; the providers come last.

    If the key or base URL of a provider is set, its server is contacted, but no model is called. The result contains
    no key.
    """
    env = env or read_environment()
    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    checks += [_check_package(name) for name in PACKAGES]
    checks.append(await _check_journal(env.journal))
    engine, weights = await _check_engine(), await to_thread.run_sync(_check_weights, env.home)
    checks += [engine, weights, _check_local(engine, weights)]
    for name in PROVIDERS.names():
        if (found := await _check_provider(env, name)) is not None:
            checks.append(found)
    return checks


def _check_package(name: str) -> Check:
    try:
        return Check(name, None, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, None, "not installed")


async def _check_journal(path: Path) -> Check:
    try:
        async with open_journal(path) as journal:
            return Check("journal", ok=True, detail=f"{path}, {journal.count_runs()} runs")
    except JournalError as exc:
        return Check("journal", ok=False, detail=str(exc))


async def _check_engine() -> Check:
    """Load llama.cpp in another process, because it ends the process on a processor that it does not support."""
    try:
        metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return Check("llama.cpp", ok=False, detail='not installed; pip install "lpo-agent[local]"')
    done = await anyio.run_process([sys.executable, "-c", "import xllamacpp"], check=False)
    if done.returncode == 0:
        return Check("llama.cpp", ok=True, detail="xllamacpp loads")
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return Check("llama.cpp", ok=False, detail=f"xllamacpp cannot be loaded: {said[0]}")


def _check_weights(home: Path) -> Check:
    path = smollm2_path(home)
    if not path.is_file():
        detail = "not here yet; local:smollm2 fetches it at first use, or: lpo models pull smollm2"
        return Check("model file", ok=False, detail=detail)
    if sha256(path) != SMOLLM2.model_sha256:
        return Check("model file", ok=False, detail=f"{path} is damaged; lpo models pull smollm2 fetches it again")
    return Check("model file", ok=True, detail=str(path))


def _check_local(engine: Check, weights: Check) -> Check:
    if not engine.ok:
        return Check("models local:...", ok=False, detail="need llama.cpp")
    small = "local:smollm2" if weights.ok else "local:smollm2 (its file is fetched first)"
    return Check("models local:...", ok=True, detail=f"{small} and local:/path/to/model.gguf")


async def _check_provider(env: Environment, provider: str) -> Check | None:
    """Check a provider's key and server; return None for a provider that is not a remote service.

    Without a key and a base URL the server is not contacted.
    """
    name = f"models {provider}:..."
    try:
        traits = traits_of(PROVIDERS.load(provider))
    except ConfigError as exc:
        return Check(name, ok=False, detail=str(exc))
    variable = f"{provider.upper()}_API_KEY"
    key, url = env.keys.get(provider), env.base_urls.get(provider)
    address = url or traits.address
    if not traits.remote or address is None:
        return None
    if not key and not url:
        return Check(name, ok=False, detail=f"neither {variable} nor {provider.upper()}_BASE_URL is set")
    host, problem = await reach(address)
    where = f"{host}: {problem or 'takes connections'}"
    return Check(name, ok=problem is None, detail=f"{variable} is {'set' if key else 'not set'}; {where}")


async def reach(url: str) -> tuple[str, str | None]:
    """Return host and port of ``url``, and why it cannot be reached (None if it accepts connections)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or port is None:
        return "base URL", "not an address like https://HOST/v1"
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            await (await anyio.connect_tcp(host, port)).aclose()
    except TimeoutError:
        return f"{host}:{port}", f"no answer in {CONNECT_SECONDS:g} s"
    except OSError:
        return f"{host}:{port}", "nothing answers"
    return f"{host}:{port}", None
