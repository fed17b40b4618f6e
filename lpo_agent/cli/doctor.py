"""`lpo doctor`: shows what works on this machine and what does not."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import diagnose
from lpo_agent.cli import options, show
from lpo_agent.cli.printing import print_json
from lpo_agent.results import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNS: Final = {True: "ok", False: "no", None: ""}


def doctor(given: Mapping[str, Any]) -> None:
    """Print the checks, without keys."""
    checks = anyio.run(diagnose)
    if options.output(given).json:
        print_json({"schema": SCHEMA, "checks": [asdict(check) for check in checks]})
        return
    rows = [(SIGNS[check.ok], check.name, check.detail) for check in checks]
    show.console(sys.stdout).print(show.rows_table(("", "what", "found"), rows))
