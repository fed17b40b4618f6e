"""Runs a peer's program in a process of its own, and ends it in time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
from anyio import to_thread
from anyio.streams.text import TextReceiveStream

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from anyio.abc import Process

    from lpo_agent.bench.peers.catalog import Peer

PROGRAMS: Final = Path(__file__).parent / "programs"
PACKAGE: Final = "peer_programs"
MOST_ERROR: Final = 4000
"""Characters of a program's standard error that are kept, from its end."""
LAST_LINE: Final = 300
CHECK_SECONDS: Final = 60


class Ended(NamedTuple):
    """How a program ended: its exit status, None if it was ended from here, and the end of its standard error."""

    status: int | None
    error: str

    @property
    def last_line(self) -> str:
        """The last line of its standard error, which names the exception of a Python program."""
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        return lines[-1][:LAST_LINE] if lines else "it wrote nothing to standard error"


async def check_installed(peers: Iterable[Peer], python: Path | None) -> None:
    """Raise ConfigError if a package of one of the peers is missing in the Python that will run it."""
    wanted = {module: peer.name for peer in peers for module in peer.modules}
    if not wanted:
        return
    code = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    program = str(python or sys.executable)
    try:
        with anyio.fail_after(CHECK_SECONDS):
            done = await anyio.run_process([program, "-c", code, *wanted], check=False, start_new_session=True)
    except (OSError, TimeoutError) as exc:
        raise ConfigError(f"LPO_PEERS_PYTHON: {program} cannot be run: {exc}") from None
    missing = done.stdout.decode(errors="replace").split()
    if done.returncode or missing:
        arms = ", ".join(dict.fromkeys(wanted[name] for name in missing)) or "the other optimizers"
        raise ConfigError(
            f"{arms}: {', '.join(missing) or 'a package'} is not installed; install the packages with: "
            "pip install 'lpo-agent[peers]', or name another Python that has them in LPO_PEERS_PYTHON"
        )


@dataclass(frozen=True, slots=True)
class Program:
    """A peer's program. ``variables``: the environment variables that it may see."""

    name: str
    python: Path | None
    variables: Mapping[str, str]

    async def run(self, job: Mapping[str, Any], *, until: Iterable[anyio.Event], seconds: float) -> Ended:
        """Run the program with a job, until it ends, one of the events is set, or the time is over."""
        with _folder() as place:
            await to_thread.run_sync(_fill, place, job)
            command = [str(self.python or sys.executable), "-m", f"{PACKAGE}.{self.name}", "job.json"]
            env = {**self.variables, "HOME": str(place), "PYTHONUNBUFFERED": "1", "DSPY_CACHEDIR": str(place / "cache")}
            process = await anyio.open_process(
                command, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
            return await _watch(process, until, seconds)


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a new folder, which is removed at the end even if the program still writes to it."""
    with tempfile.TemporaryDirectory(prefix="lpo-peer-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _fill(place: Path, job: Mapping[str, Any]) -> None:
    """Copy the programs to a folder: their Python may be another one, which must not import our packages."""
    shutil.copytree(PROGRAMS, place / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")


async def _watch(process: Process, until: Iterable[anyio.Event], seconds: float) -> Ended:
    """Wait for the end of a process, an event, or the end of the time; the process is dead when this returns."""
    error: list[str] = []
    status: int | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.deadline = anyio.current_time() + seconds

            async def cancel_at(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            for event in until:
                tasks.start_soon(cancel_at, event)
            await _read_error(process, error)  # ends when the process closes it, or dies
            status = await process.wait()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    return Ended(status, "".join(error))


async def _read_error(process: Process, error: list[str]) -> None:
    """Keep the end of a process's standard error as the only item of ``error``."""
    if process.stderr is not None:
        async for text in TextReceiveStream(process.stderr, errors="replace"):
            error[:] = ["".join([*error, text])[-MOST_ERROR:]]


async def _end(process: Process) -> None:
    """Kill the process and its children, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    await process.wait()
    await process.aclose()
