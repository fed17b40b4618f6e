"""The parser of the command line. The options of a run are made from the fields of RunSpec; the others are listed here.

`lpo --help` needs only the names of the commands, so the options of a command, and the modules that they are made
from, are loaded only when the command is given.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, NoReturn

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from pydantic import BaseModel

    from lpo_agent import Option

RUN_HELP: Final = "the id of a run, a unique prefix of it, or `last`"
ABOUT: Final = {"data": "JSON lines or CSV with `input` and `target`"}
"""The text below a group's heading."""


class Parser(argparse.ArgumentParser):
    """A parser whose namespace has only the given values, and which raises ConfigError for wrong arguments."""

    def __init__(self, **settings: object) -> None:
        settings |= {"argument_default": argparse.SUPPRESS, "allow_abbrev": False}
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as argparse gives them

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, which the command line prints in one line."""
        raise ConfigError(f"{message} (see `{self.prog} --help`)")

    def actions(self) -> list[argparse.Action]:
        """Return the arguments that were added; argparse has no public list of them."""
        return self._actions

    def commands(self) -> dict[str, Parser]:
        """Return the parsers of its commands by name."""
        choices = [action.choices for action in self._actions if isinstance(action.choices, dict)]
        return {name: parser for found in choices for name, parser in found.items()}


def build_parser(words: Container[str] | None = None) -> Parser:
    """Return the parser; values that are not given are missing in its namespace.

    With ``words``, only the commands in ``words`` get their options.
    """
    parser = Parser(
        prog="lpo",
        description="Local Prompt Optimization: improves prompts by small local edits, measured on your data.",
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
    """Add the options of a run that a command has. ``changes``: other help texts, by an option's name.

    ``model`` declares the options (default: RunSpec).
    """
    from lpo_agent import RunSpec, options_of  # noqa: PLC0415 - `lpo --help` must not wait for pydantic

    groups: dict[str, argparse._ArgumentGroup] = {}
    for found in options_of(model or RunSpec):
        if command not in found.commands:
            continue
        if found.group not in groups:
            groups[found.group] = parser.add_argument_group(found.group, ABOUT.get(found.group))
        add_option(groups[found.group], found, (changes or {}).get(found.name))


def add_option(group: argparse._ActionsContainer, found: Option, text: str | None = None) -> None:
    """Add one option. Its value stays a text, because the spec converts and checks it."""
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
    _dry_run(parser)
    _output(parser)
    _out_file(parser)


def _evaluate(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "evaluate", {"data": "the items"})
    _dry_run(parser)
    _output(parser)


def _compare(parser: Parser) -> None:
    parser.add_argument("prompt", metavar="A", help="a prompt's file, or - for standard input")
    parser.add_argument("other", metavar="B", help="the other prompt's file")
    add_run(parser, "compare", {"data": "the items"})
    _dry_run(parser)
    _output(parser)


def _mark(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "mark")
    _dry_run(parser)
    _output(parser)


def _headroom(parser: Parser) -> None:
    _prompt(parser)
    add_run(parser, "headroom")
    _dry_run(parser)
    _output(parser)


def _bench(parser: Parser) -> None:
    from lpo_agent import option_of  # noqa: PLC0415 - `lpo --help` must not wait for pydantic
    from lpo_agent.bench import AT_ONCE, PEERS, PRESETS  # noqa: PLC0415

    parser.add_argument("bench", metavar="BENCH", help=f"{', '.join(PRESETS)}, or a TOML file of the same form")
    group = parser.add_argument_group("grid (each a comma-separated list, in place of the benchmark's own)")
    group.add_argument("--tasks", metavar="LIST", help="names of its tasks")
    group.add_argument(
        *("--methods", "--arms"), metavar="LIST", help=f"methods, as for `lpo optimize`, and {', '.join(PEERS)}"
    )
    group.add_argument("--localities", metavar="LIST", help=option_of("locality").range)
    group.add_argument("--markers", metavar="LIST", help=option_of("marker").range)
    group.add_argument("--seeds", metavar="LIST", help="seeds, such as 0,1,2")
    group.add_argument(
        "--search-calls", metavar="N", help="highest number of calls of each search, including cached ones"
    )
    group.add_argument("--data-dir", metavar="DIR", help="folder with the tasks' data (default: LPO_BENCH_DATA)")
    group.add_argument("--cells", metavar="N", help=f"cells that run at the same time (default: {AT_ONCE})")
    group.add_argument("--out", metavar="DIR", help="write bench.md, .json, .csv, .png and .svg to DIR")
    add_run(parser, "bench")
    _dry_run(parser, config=False)
    _output(parser)


def _show(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    _output(parser)
    _out_file(parser)


def _report(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--out", metavar="FILE", help="the file to write (default: report-RUN.html; -: standard output)"
    )
    _messages(parser)


def _models(parser: Parser) -> None:
    from lpo_agent import LOCAL_MODELS  # noqa: PLC0415 - `lpo --help` must not wait for it

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pull = actions.add_parser("pull", help="download and check a model's file")
    pull.add_argument("name", choices=LOCAL_MODELS, help="the model")
    _messages(pull)


def _worker(parser: Parser) -> None:
    from lpo_agent import WORKER_ROLES  # noqa: PLC0415 - `lpo --help` must not wait for pydantic

    changes = {
        "bus": "the NATS server: nats://HOST:PORT or tls://HOST:PORT",
        "concurrency": "requests at the same time here (default: 16)",
    }
    add_run(parser, "worker", changes)
    for action in parser.actions():
        action.required = action.dest in {"bus", "model"}
    group = parser.add_argument_group("worker", "the rates apply to all workers of an account together")
    roles = ", ".join(f"{name} ({meaning})" for name, meaning in WORKER_ROLES.items())
    group.add_argument("--serve", metavar="LIST", help=f"roles of the worker, comma-separated (default: all): {roles}")
    group.add_argument(
        "--metric",
        metavar="NAME",
        action="append",
        help="ignored: the run judges the answers itself",
    )
    group.add_argument(
        "--all-concurrency", metavar="N", help="highest number of requests in progress at all workers together"
    )
    _output(parser)


def _no_options(_: Parser) -> None:
    """Add nothing: `lpo mcp` has a parser of its own."""


def _prompt(parser: Parser) -> None:
    group = parser.add_argument_group("prompt")
    group.add_argument("prompt", metavar="PROMPT", nargs="?", help="the prompt's file, or - for standard input")
    group.add_argument("--text", help="the prompt itself, instead of a file")


def _dry_run(parser: Parser, *, config: bool = True) -> None:
    group = parser.add_argument_group("plan")
    group.add_argument("--dry-run", action="store_true", help="print the plan and its cost, without calling a model")
    if config:
        group.add_argument(
            "--config", metavar="FILE", help="TOML file with the same keys; options of the command line win"
        )


def _output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON value on standard output")
    _messages(group)


def _messages(group: argparse._ActionsContainer) -> None:
    group.add_argument("--quiet", action="store_true", help="print only errors on standard error")
    group.add_argument("--verbose", action="store_true", help="log to standard error, without prompts, rows or keys")


def _out_file(parser: Parser) -> None:
    parser.add_argument("--out", metavar="FILE", help="write the best prompt to FILE, or JSON if FILE ends in .json")


COMMANDS: Final[Mapping[str, tuple[str, Callable[[Parser], None]]]] = {
    "optimize": ("search for a better prompt and prove it on untouched items", _optimize),
    "evaluate": ("score one prompt on every item of a file", _evaluate),
    "compare": ("score two prompts on the same items: is B better than A?", _compare),
    "mark": ("show which words of a prompt would be edited, and why", _mark),
    "headroom": ("say what goes wrong with a prompt, and whether a search is worth it", _headroom),
    "bench": ("compare methods and kinds of locality on tasks, with tables and curves", _bench),
    "runs": ("list the runs, newest first", _output),
    "show": ("show what a run found", _show),
    "report": ("write what a run found as one HTML page", _report),
    "resume": ("continue an interrupted run; nothing is paid for twice", _show),
    "models": ("get the files of models that run on this machine", _models),
    "worker": ("make model calls for runs on other machines, over NATS", _worker),
    "mcp": ("serve assistants over the Model Context Protocol (`lpo mcp --help`)", _no_options),
    "doctor": ("say what works on this machine and what does not", _output),
}
"""Each command with its help in one line, and the function that adds its options."""
