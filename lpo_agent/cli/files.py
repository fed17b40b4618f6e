"""Files that the command line writes: whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise ConfigError if `--out` could not be written, before anything is spent."""
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a folder; give a file")
    try:
        if _replaceable(path):
            draft = _draft(path)
            draft.touch()
            draft.unlink()
        else:
            path.open("ab").close()
    except OSError as exc:
        raise ConfigError(f"--out {path}: cannot be written: {exc.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write exactly ``text`` as UTF-8, in one stroke; raises ConfigError."""
    content = text.encode("utf-8", "surrogatepass")
    try:
        if not _replaceable(path):
            path.write_bytes(content)
            return
        draft = _draft(path)
        draft.write_bytes(content)
        draft.replace(path.resolve())
    except OSError as exc:
        raise ConfigError(
            f"--out {path}: cannot be written: {exc.strerror}; the result is kept, see `lpo show last`"
        ) from None


def _replaceable(path: Path) -> bool:
    """Tell a plain file, there or to be made, from a device or a pipe, which must be written in place."""
    return path.is_file() or not path.exists()


def _draft(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.{os.getpid()}.draft")
