"""`lpo report`: the result of a run as an HTML page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import report_page
from lpo_agent.cli import files, options

if TYPE_CHECKING:
    from collections.abc import Mapping


def report(given: Mapping[str, Any]) -> None:
    """Write a run's page to `--out`, by default to a file named after the run; `-` is standard output."""
    output = options.output(given)
    if output.out is not None and not _is_stdout(output.out):
        files.check_writable(output.out)
    run_id, page = anyio.run(report_page, given["run"])
    target = output.out or Path(f"report-{run_id}.html")
    if _is_stdout(target):
        sys.stdout.write(page)
        return
    files.write_text(target, page)
    if not output.quiet:
        print(target)


def _is_stdout(path: Path) -> bool:
    return str(path) == "-"
