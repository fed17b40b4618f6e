"""Prints a result on standard output, and writes it to the file of `--out`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lpo_agent.cli import files, show
from lpo_agent.results import RunResult

if TYPE_CHECKING:
    from lpo_agent.cli.options import Output
    from lpo_agent.results import Result


def print_result(output: Output, result: Result) -> None:
    """Print a result as JSON or as text."""
    if output.json:
        print_json(result_json(result))
    else:
        show.show_result(show.console(sys.stdout), result)


def write_result(output: Output, result: Result) -> None:
    """Write `--out`: the best prompt, or JSON if the file's name ends in .json or the result has no prompt."""
    if output.out is None:
        return
    if isinstance(result, RunResult) and output.out.suffix.lower() != ".json":
        files.write_text(output.out, result.best.prompt)
    else:
        files.write_text(output.out, json.dumps(result_json(result), indent=2) + "\n")


def result_json(result: Result) -> dict[str, Any]:
    """Return the result as the JSON object that `--json` prints."""
    found: dict[str, Any] = result.model_dump(mode="json", by_alias=True)
    return found


def print_json(value: object) -> None:
    """Print one JSON value; ASCII only, so that no terminal's encoding matters."""
    print(json.dumps(value))
