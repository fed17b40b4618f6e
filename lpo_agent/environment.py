"""The one place where the environment is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Environment:
    """What the machine tells: the state folder, and keys and addresses in the SDKs' own variables.

    ``bench_data``: the folder with benchmark data, if there is one.
    """

    home: Path
    keys: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    base_urls: Mapping[str, str | None] = field(default_factory=dict)
    bench_data: Path | None = None

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.home / "journal.sqlite3"


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the environment (default: this process's), once."""
    source = os.environ if variables is None else variables
    home = source.get("LPO_HOME") or platformdirs.user_state_dir("lpo-agent", appauthor=False)
    return Environment(
        home=Path(home).expanduser(),
        keys={name: source.get(f"{name.upper()}_API_KEY") or None for name in ("openai", "anthropic")},
        base_urls={name: source.get(f"{name.upper()}_BASE_URL") or None for name in ("openai", "anthropic")},
        bench_data=Path(source["LPO_BENCH_DATA"]).expanduser() if source.get("LPO_BENCH_DATA") else None,
    )
