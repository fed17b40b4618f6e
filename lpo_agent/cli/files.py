"""Writes the output files of the command line, completely or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise ConfigError if `--out` cannot be written; called before any model call."""
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a folder; give a file")
    try:
        if _is_regular(path):
            temporary = _temporary(path)
            temporary.touch()
            temporary.unlink()
        else:
            path.open("ab").close()
    except OSError as exc:
        raise ConfigError(f"--out {path}: cannot be written: {exc.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write exactly ``text`` as UTF-8, to a temporary file that then replaces ``path``; raises ConfigError."""
    content = text.encode("utf-8", "surrogatepass")
    try:
        if not _is_regular(path):
            path.write_bytes(content)
            return
        temporary = _temporary(path)
        temporary.write_bytes(content)
        temporary.replace(path.resolve())
    except OSError as exc:
        raise ConfigError(
            f"--out {path}: cannot be written: {exc.strerror}; the result is kept, see `lpo show last`"
        ) from None


def _is_regular(path: Path) -> bool:
    """Return whether this is a regular file, or will be one; devices and pipes cannot be replaced by a file."""
    return path.is_file() or not path.exists()


def _temporary(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")
