"""Reads environment variables. No other module reads them, so a test or a caller can pass an Environment instead."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Mapping


KEY: Final = "_API_KEY"
BASE_URL: Final = "_BASE_URL"
HARMLESS: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "TZ")


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings from environment variables.

    ``home``: the folder for state (LPO_HOME). ``keys`` and ``base_urls``: by provider, from the
    variables that the SDKs use too: those of ``acme`` are ACME_API_KEY and ACME_BASE_URL. Unset ones are missing.
    ``bench_data``: the folder with benchmark data (LPO_BENCH_DATA), None if not set. ``peers_python``: the Python that
    runs other optimizers in benchmarks (LPO_PEERS_PYTHON), None for this one. ``harmless``: the variables that a
    process of somebody else's code may see: no keys, no addresses of services. ``mcp_models`` and ``mcp_tokens``:
    what the MCP server allows, as text (LPO_MCP_MODELS, LPO_MCP_TOKENS), empty if not set.
    """

    home: Path
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    bench_data: Path | None = None
    peers_python: Path | None = None
    harmless: Mapping[str, str] = field(default_factory=dict, repr=False)
    mcp_models: str = ""
    mcp_tokens: str = field(default="", repr=False)

    @property
    def journal(self) -> Path:
        """The path of the journal."""
        return self.home / "journal.sqlite3"


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the settings in ``variables``, by default the environment variables of this process."""
    source = os.environ if variables is None else variables
    home = source.get("LPO_HOME") or platformdirs.user_state_dir("lpo-agent", appauthor=False)
    return Environment(
        home=Path(home).expanduser(),
        keys=_by_provider(source, KEY),
        base_urls=_by_provider(source, BASE_URL),
        bench_data=Path(source["LPO_BENCH_DATA"]).expanduser() if source.get("LPO_BENCH_DATA") else None,
        peers_python=Path(source["LPO_PEERS_PYTHON"]).expanduser() if source.get("LPO_PEERS_PYTHON") else None,
        harmless={name: source[name] for name in HARMLESS if name in source},
        mcp_models=source.get("LPO_MCP_MODELS", ""),
        mcp_tokens=source.get("LPO_MCP_TOKENS", ""),
    )


def _by_provider(source: Mapping[str, str], ending: str) -> dict[str, str]:
    """Return the values of the variables with this ending, by provider: the part before it, in lower case."""
    return {
        name.removesuffix(ending).lower(): value for name, value in source.items() if name.endswith(ending) and value
    }
