"""`lpo doctor`: what works on this machine and what does not."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from lpo_agent.cli import options, show
from lpo_agent.cli.commands import print_json
from lpo_agent.core.result import SCHEMA
from lpo_agent.environment import read_environment
from lpo_agent.errors import JournalError
from lpo_agent.journal import open_journal
from lpo_agent.models.providers.weights import SMOLLM2, sha256, smollm2_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lpo_agent.environment import Environment

PACKAGES: Final = ("lpo-agent", "anyio", "aiohttp", "pydantic", "openai", "anthropic", "xllamacpp", "nats-py")
SERVICES: Final = {"openai": "https://api.openai.com", "anthropic": "https://api.anthropic.com"}
PORTS: Final = {"http": 80, "https": 443}
PATIENCE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``ok`` is None where it is only told, not judged."""

    name: str
    ok: bool | None
    detail: str


def doctor(given: Mapping[str, Any]) -> None:
    """Look at everything that runs depend on, and say what was found; no key is ever shown."""
    checks = anyio.run(examine, read_environment())
    if options.output(given).json:
        print_json({"schema": SCHEMA, "checks": [asdict(check) for check in checks]})
        return
    signs = {True: "ok", False: "no", None: ""}
    rows = [(signs[check.ok], check.name, check.detail) for check in checks]
    show.console(sys.stdout).print(show.rows_table(("", "what", "found"), rows))


async def examine(env: Environment, services: Mapping[str, str] = SERVICES) -> list[Check]:
    """Return the checks, with the state of each kind of model last.

    ``services`` are the addresses where a provider answers if no base URL is set.
    """
    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    checks += [_package(name) for name in PACKAGES]
    checks.append(await _journal(env.journal))
    engine, weights = await _engine(), await to_thread.run_sync(_weights, env.home)
    checks += [engine, weights, _local(engine, weights)]
    for provider, address in services.items():
        checks.append(await _provider(env, provider, address))
    return checks


def _package(name: str) -> Check:
    try:
        return Check(name, None, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, None, "not installed")


async def _journal(path: Path) -> Check:
    try:
        async with open_journal(path) as journal:
            return Check("journal", ok=True, detail=f"{path}, {journal.count_runs()} runs")
    except JournalError as exc:
        return Check("journal", ok=False, detail=str(exc))


async def _engine() -> Check:
    """Load llama.cpp in a process of its own, since on the wrong processor it dies with its process."""
    try:
        metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return Check("llama.cpp", ok=False, detail='not installed; pip install "lpo-agent[local]"')
    done = await anyio.run_process([sys.executable, "-c", "import xllamacpp"], check=False)
    if done.returncode == 0:
        return Check("llama.cpp", ok=True, detail="xllamacpp loads")
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return Check("llama.cpp", ok=False, detail=f"xllamacpp cannot be loaded: {said[0]}")


def _weights(home: Path) -> Check:
    path = smollm2_path(home)
    if not path.is_file():
        detail = "not here yet; local:smollm2 fetches it at first use, or: lpo models pull smollm2"
        return Check("model file", ok=False, detail=detail)
    if sha256(path) != SMOLLM2.model_sha256:
        return Check("model file", ok=False, detail=f"{path} is damaged; lpo models pull smollm2 fetches it again")
    return Check("model file", ok=True, detail=str(path))


def _local(engine: Check, weights: Check) -> Check:
    if not engine.ok:
        return Check("models local:...", ok=False, detail="need llama.cpp")
    small = "local:smollm2" if weights.ok else "local:smollm2 (its file is fetched first)"
    return Check("models local:...", ok=True, detail=f"{small} and local:/path/to/model.gguf")


async def _provider(env: Environment, provider: str, address: str) -> Check:
    """Look for a key and a server; a provider with neither key nor base URL is not called."""
    variable, name = f"{provider.upper()}_API_KEY", f"models {provider}:..."
    key, url = env.keys.get(provider), env.base_urls.get(provider)
    if not key and not url:
        return Check(name, ok=False, detail=f"neither {variable} nor {provider.upper()}_BASE_URL is set")
    host, problem = await reach(url or address)
    where = f"{host}: {problem or 'takes connections'}"
    return Check(name, ok=problem is None, detail=f"{variable} is {'set' if key else 'not set'}; {where}")


async def reach(url: str) -> tuple[str, str | None]:
    """Return host and port of ``url``, and why nothing can be sent there (None if it takes connections)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        host = port = None
    if not host or port is None:
        return "base URL", "not an address like https://HOST/v1"
    try:
        with anyio.fail_after(PATIENCE):
            await (await anyio.connect_tcp(host, port)).aclose()
    except TimeoutError:
        return f"{host}:{port}", f"no answer in {PATIENCE:g} s"
    except OSError:
        return f"{host}:{port}", "nothing answers"
    return f"{host}:{port}", None
