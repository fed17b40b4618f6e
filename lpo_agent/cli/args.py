"""The command line's words. What a run is told comes from the fields of its spec, the rest is written here.

`lpo --help` needs only the commands' names, so that a command's options, and what they are made from,
are loaded when the command is asked for.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, NoReturn

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from pydantic import BaseModel

    from lpo_agent.core.fields import Option

MODELS: Final = ("smollm2",)
RUN_HELP: Final = "a run's id, a unique beginning of one, or `last`"
ABOUT: Final = {"data": "JSON lines or CSV with `input` and `target`"}
"""What a group's heading is followed by."""


class Parser(argparse.ArgumentParser):
    """Leaves out what was not given, and complains in one line with exit code 2."""

    def __init__(self, **settings: object) -> None:
        settings |= {"argument_default": argparse.SUPPRESS, "allow_abbrev": False}
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as argparse gives them

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message} (see `{self.prog} --help`)")

    def actions(self) -> list[argparse.Action]:
        """Return what was added to it; argparse has no public list."""
        return self._actions

    def commands(self) -> dict[str, Parser]:
        """Return the parsers of its commands by name."""
        choices = [action.choices for action in self._actions if isinstance(action.choices, dict)]
        return {name: parser for found in choices for name, parser in found.items()}


def build_parser(words: Container[str] | None = None) -> Parser:
    """Return the parser; a value that was not given is missing in its namespace.

    With ``words``, only the commands that are among them have their options.
    """
    parser = Parser(
        prog="lpo",
        description="Local Prompt Optimization: better prompts by small, proven-local edits, measured on your data.",
        epilog="Exit codes: 0 done, 2 wrong input, 3 refused by a provider, 4 budget spent before any result, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (text, fill) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if words is None or name in words:
            fill(command)
    return parser


def add_run(
    parser: Parser, command: str, changes: Mapping[str, str] | None = None, model: type[BaseModel] | None = None
) -> None:
    """Add the options of a run that a command has; ``changes``: other help for some, by name.

    ``model`` declares the options; None stands for RunSpec.
    """
    from lpo_agent.core.fields import options_of  # noqa: PLC0415 - `lpo --help` must not wait for pydantic
    from lpo_agent.spec import RunSpec  # noqa: PLC0415

    groups: dict[str, argparse._ArgumentGroup] = {}
    for found in options_of(model or RunSpec):
        if command not in found.commands:
            continue
        if found.group not in groups:
            groups[found.group] = parser.add_argument_group(found.group, ABOUT.get(found.group))
        add_option(groups[found.group], found, (changes or {}).get(found.name))


def add_option(group: argparse._ActionsContainer, found: Option, text: str | None = None) -> None:
    """Add one option; its value stays as it was written, because the spec reads and checks it."""
    settings: dict[str, Any] = {
        "metavar": found.metavar or (f"{{{','.join(found.choices)}}}" if found.choices else None)
    }
    if found.kind is bool:
        settings = {"action": "store_false" if found.inverted else "store_true"}
    elif found.is_table or found.is_list:
        settings["action"] = "append"
    meaning = text or found.meaning()
    note = "; may be repeated" if "action" in settings and found.kind is not bool else ""
    words = f"{'do not ' if found.inverted else ''}{meaning}{note}".replace("%", "%%")
    group.add_argument(found.flag, dest=found.name, help=words, **settings)


def _optimize(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "optimize")
    _plan(parser)
    _output(parser)
    _best(parser)


def _evaluate(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "evaluate", {"data": "the items"})
    _plan(parser)
    _output(parser)


def _compare(parser: Parser) -> None:
    parser.add_argument("prompt", metavar="A", help="a prompt's file, or - for standard input")
    parser.add_argument("other", metavar="B", help="the other prompt's file")
    add_run(parser, "compare", {"data": "the items"})
    _plan(parser)
    _output(parser)


def _mark(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "mark")
    _plan(parser)
    _output(parser)


def _bench(parser: Parser) -> None:
    from lpo_agent.bench.grid import PRESETS  # noqa: PLC0415 - see build_parser
    from lpo_agent.spec import option_of  # noqa: PLC0415

    parser.add_argument("bench", metavar="BENCH", help=f"{', '.join(PRESETS)}, or a TOML file of the same form")
    group = parser.add_argument_group("grid (each a comma-separated list, in place of the benchmark's own)")
    group.add_argument("--tasks", metavar="LIST", help="names of its tasks")
    group.add_argument("--methods", metavar="LIST", help="methods, as for `lpo optimize`")
    group.add_argument("--localities", metavar="LIST", help=option_of("locality").range)
    group.add_argument("--markers", metavar="LIST", help=option_of("marker").range)
    group.add_argument("--seeds", metavar="LIST", help="seeds, such as 0,1,2")
    group.add_argument("--search-calls", metavar="N", help="what each search may ask, known replies counted too")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the tasks' data (default: LPO_BENCH_DATA)")
    group.add_argument("--cells", metavar="N", help="cells that run at the same time (default: 8)")
    group.add_argument("--out", metavar="DIR", help="write bench.md, .json, .csv, .png and .svg there")
    add_run(parser, "bench")
    _plan(parser, config=False)
    _output(parser)


def _show(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    _output(parser)
    _best(parser)


def _report(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--out", metavar="FILE", help="write it there (default: report-RUN.html; -: standard output)")
    _talk(parser)


def _pull(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pull = actions.add_parser("pull", help="download and check a model's file")
    pull.add_argument("name", choices=MODELS, help="the model")
    _talk(pull)


def _worker(parser: Parser) -> None:
    changes = {
        "bus": "the NATS server: nats://HOST:PORT or tls://HOST:PORT",
        "concurrency": "items at the same time here (default: 16)",
    }
    add_run(parser, "worker", changes)
    for action in parser.actions():
        action.required = action.dest in {"bus", "model"}
    group = parser.add_argument_group("worker", "its rates hold for all workers of an account together")
    group.add_argument(
        "--metric", metavar="NAME", action="append", help="run this metric too, FILE.py:FUNCTION as the run names it"
    )
    group.add_argument("--all-concurrency", metavar="N", help="items at the same time at all workers together")
    _output(parser)


def _nothing(_: Parser) -> None:
    """Leave the parser as it is: `lpo mcp` has a command line of its own."""


def _prompt(parser: Parser) -> None:
    group = parser.add_argument_group("prompt")
    group.add_argument("prompt", metavar="PROMPT", nargs="?", help="the prompt's file, or - for standard input")
    group.add_argument("--text", help="the prompt itself, in place of a file")


def _plan(parser: Parser, *, config: bool = True) -> None:
    group = parser.add_argument_group("plan")
    group.add_argument("--dry-run", action="store_true", help="say what would be done and spent; call no model")
    if config:
        group.add_argument("--config", metavar="FILE", help="TOML file with the same keys; options win")


def _output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON value on standard output")
    _talk(group)


def _talk(group: argparse._ActionsContainer) -> None:
    group.add_argument("--quiet", action="store_true", help="nothing on standard error but errors")
    group.add_argument("--verbose", action="store_true", help="log to standard error, without prompts, rows or keys")


def _best(parser: Parser) -> None:
    parser.add_argument("--out", metavar="FILE", help="write the best prompt there, or the JSON if FILE ends in .json")


COMMANDS: Final[Mapping[str, tuple[str, Callable[[Parser], None]]]] = {
    "optimize": ("search for a better prompt and prove it on untouched items", _optimize),
    "evaluate": ("score one prompt on every item of a file", _evaluate),
    "compare": ("score two prompts on the same items: is B better than A?", _compare),
    "mark": ("show which words of a prompt would be edited, and why", _mark),
    "bench": ("compare methods and kinds of locality on tasks, with tables and curves", _bench),
    "runs": ("list the runs, newest first", _output),
    "show": ("show what a run found", _show),
    "report": ("write what a run found as one HTML page", _report),
    "resume": ("go on with an interrupted run; nothing is paid for twice", _show),
    "models": ("get the files of models that run on this machine", _pull),
    "worker": ("score for runs on other machines, over NATS", _worker),
    "mcp": ("serve assistants over the Model Context Protocol (`lpo mcp --help`)", _nothing),
    "doctor": ("say what works on this machine and what does not", _output),
}
"""Each command with its help in one line, and what adds its options."""
