"""The command `lpo`: runs one command and returns its exit code.

Exit codes: 0 done, 1 a bug, 2 wrong input, 3 refused by a provider, 4 budget spent before any result, 130 interrupted,
141 output closed by its reader (128 + SIGPIPE, as shells report it).
"""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from lpo_agent import __version__
from lpo_agent.cli.args import build_parser
from lpo_agent.errors import leaves, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130
BROKEN_PIPE = 141
WRONG_INPUT = 2
BUG = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `--help` raises SystemExit.

    Every exception is reported as one line on standard error.
    """
    verbose, code = False, 0
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["mcp"]:
        from lpo_mcp.command_line import main as serve  # noqa: PLC0415 - it has its own options and its own boundary

        return serve(words[1:])
    try:
        parser = build_parser(words)
        given: dict[str, Any] = vars(parser.parse_args(argv))
        verbose = given.get("verbose", False)
        _prepare(verbose=verbose)
        if given.get("version"):
            print(f"lpo-agent {__version__}")
        elif given.get("command") is None:
            parser.error("no command")
        else:
            code = _command(given["command"])(given) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(None)
    except Exception as exc:  # noqa: BLE001 - nothing may reach the user as a traceback
        return _failed(exc, verbose=verbose)
    return code


def _prepare(*, verbose: bool) -> None:
    """Set up logging, an output that can print every character, and a garbage collector that runs less often."""
    handler = logging.StreamHandler() if verbose else logging.NullHandler()
    level = logging.INFO if verbose else logging.CRITICAL
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    gc.set_threshold(50_000, 20, 100)  # calls make many objects, few in cycles; the default costs a tenth of the time


FUNCTIONS: Final = {
    "optimize": ("commands", "optimize"),
    "evaluate": ("commands", "evaluate"),
    "compare": ("commands", "compare"),
    "mark": ("commands", "mark"),
    "headroom": ("commands", "headroom"),
    "bench": ("bench", "bench"),
    "resume": ("bench", "resume"),
    "models": ("commands", "models"),
    "worker": ("worker", "worker"),
    "runs": ("history", "runs"),
    "show": ("history", "show_run"),
    "report": ("report", "report"),
    "doctor": ("doctor", "doctor"),
}
"""The module and the function of each command; the module is imported when the command is given."""


def _command(name: str) -> Callable[[dict[str, Any]], int | None]:
    module, function = FUNCTIONS[name]
    found: Callable[[dict[str, Any]], int | None] = getattr(import_module(f"lpo_agent.cli.{module}"), function)
    return found


def _failed(exc: Exception, *, verbose: bool) -> int:
    """Print the error in one line, and return the exit code."""
    from lpo_agent.cli.signals import StoppedBySignal  # noqa: PLC0415 - `--help` must not wait for it

    found = list(leaves(exc))
    if isinstance(found[0], StoppedBySignal):
        return _interrupted(found[0].run_id)
    if all(isinstance(leaf, BrokenPipeError) for leaf in found):
        return _close_stdout()
    if (known := worst(exc)) is not None:
        code = _print_error(str(known), known.exit_code)
        for note in getattr(known, "__notes__", ()):
            print(f"lpo: {note}", file=sys.stderr)
        return code
    if isinstance(found[0], OSError) and found[0].filename is not None:
        return _print_error(f"{found[0].filename}: {found[0].strerror}", WRONG_INPUT)
    if verbose:
        traceback.print_exception(exc)
    hint = "" if verbose else "; this is a bug, --verbose shows where"
    return _print_error(f"{type(found[0]).__name__}: {found[0]}{hint}", BUG, kind="internal error")


def _print_error(text: str, code: int, *, kind: str = "error") -> int:
    from lpo_agent.cli.words import one_line  # noqa: PLC0415 - beside its only use

    print(f"lpo: {kind}: {one_line(text)}", file=sys.stderr)
    return code


def _interrupted(run_id: str | None) -> int:
    print("lpo: interrupted", file=sys.stderr)
    if run_id is not None:
        print(f"resume with: lpo resume {run_id}", file=sys.stderr)
    return INTERRUPTED


def _close_stdout() -> int:
    """Redirect standard output to the null device, so that the interpreter's last flush cannot fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return BROKEN_PIPE
