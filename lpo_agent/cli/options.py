"""Merges the options of the command line with those of the config file, and makes the run's spec."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lpo_agent import RunSpec, by_field, load_config, make_spec, options_of
from lpo_agent.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAGS: Final = ("json", "quiet", "verbose", "dry_run")
NOT_OF_RUN: Final = frozenset({"command", "run", "prompt", "other", "text", "config", "out", *FLAGS})
"""The options that the command line itself uses; all others are options of a run."""


@dataclass(frozen=True, slots=True)
class Output:
    """What to print, and where. ``out`` is None without `--out`."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    dry_run: bool = False
    out: Path | None = None


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the command line and of the `--config` file; the command line wins. Raises ConfigError."""
    own = _by_field(given)
    if "config" not in own:
        return own
    path = Path(own["config"])
    file = _read_config(path)
    if "prompt" in own or "text" in own:
        file = {name: value for name, value in file.items() if name not in {"prompt", "text"}}
    tables = {name: value | own.get(name, {}) for name, value in file.items() if isinstance(value, dict)}
    return file | own | tables


def _read_config(path: Path) -> dict[str, Any]:
    content = load_config(path)
    known = (RunSpec.model_fields.keys() | NOT_OF_RUN) - {"command", "run", "other", "config"}
    for name, value in content.items():
        shown = name.replace("_", "-")
        if name not in known:
            raise ConfigError(f"{path}: unknown option {shown!r}")
        if name in FLAGS and not isinstance(value, bool):
            raise ConfigError(f"{path}: {shown} must be true or false")
        if name in {"prompt", "text", "out"} and not isinstance(value, str):
            raise ConfigError(f"{path}: {shown} must be a text")
    return content


def _by_field(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by the names of a spec's fields; pairs on the command line become tables."""
    tables = {found.name: found.flag for found in options_of(RunSpec) if found.is_table}
    pairs_read = {name: _pairs(tables[name], value) if name in tables else value for name, value in given.items()}
    return by_field(RunSpec, pairs_read)


def _pairs(flag: str, given: Any) -> Any:
    return dict(_pair(flag, text) for text in given) if isinstance(given, list) else given


def _pair(flag: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise ConfigError(f"{flag} {text}: write NAME=VALUE")
    return name.strip(), value.strip()


def split_list(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def output(options: Mapping[str, Any]) -> Output:
    """Return the options about output."""
    out = options.get("out")
    return Output(**{name: options.get(name, False) for name in FLAGS}, out=Path(out) if out is not None else None)


def spec(options: Mapping[str, Any]) -> RunSpec:
    """Read the prompt and return the checked spec; raises InputError."""
    of_run = {name: value for name, value in options.items() if name not in NOT_OF_RUN}
    return make_spec(of_run | {"prompt": prompt(options)})


def prompt(options: Mapping[str, Any]) -> str:
    """Return the prompt of PROMPT or `--text`, unchanged; raises ConfigError or DataError."""
    if "text" in options and "prompt" in options:
        raise ConfigError("give a prompt's file or --text, not both")
    if "text" in options:
        return _checked(options["text"])
    if "prompt" not in options:
        raise ConfigError("no prompt; give a file, - for standard input, or --text TEXT")
    return read_prompt(options["prompt"])


def _checked(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError("--text: not UTF-8 text") from None
    return text


def read_prompt(name: str) -> str:
    """Return the text of a file, or of standard input for "-"; raises DataError.

    The text is not changed, except that a byte-order mark is left out.
    """
    shown = "standard input" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{shown}: there is no such prompt file; use --text to give the prompt itself") from None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise DataError(f"{shown}, line {line}: not UTF-8 text; save the prompt as UTF-8") from None
    except OSError as exc:
        raise DataError(f"{shown}: cannot be read: {exc.strerror}") from None
