"""The command line's words. Imports nothing heavy, so that `--help` is quick."""

from __future__ import annotations

import argparse
from typing import Final, NoReturn

from lpo_agent.errors import ConfigError

METHODS: Final = ("auto", "lpo", "local-search", "ape", "apo", "pe2")
LOCALITIES: Final = ("off", "think", "nudge", "enforce")
PROPOSERS: Final = ("auto", "llm", "operators")
MARKERS: Final = ("auto", "llm", "influence", "random", "manual")
PLACEMENTS: Final = ("before", "after", "system")
MODELS: Final = ("smollm2",)
PRESETS: Final = ("smoke", "local-small", "paper-math", "paper-bbh")
RUN_HELP: Final = "a run's id, a unique beginning of one, or `last`"


class Parser(argparse.ArgumentParser):
    """Leaves out what was not given, and complains in one line with exit code 2."""

    def __init__(self, **settings: object) -> None:
        settings |= {"argument_default": argparse.SUPPRESS, "allow_abbrev": False}
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as argparse gives them

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message} (see `{self.prog} --help`)")


def build_parser() -> Parser:
    """Return the parser; a value that was not given is missing in its namespace."""
    parser = Parser(
        prog="lpo",
        description="Local Prompt Optimization: better prompts by small, proven-local edits, measured on your data.",
        epilog="Exit codes: 0 done, 2 wrong input, 3 refused by a provider, 4 budget spent before any result, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (
        _optimize,
        _evaluate,
        _compare,
        _mark,
        _bench,
        _runs,
        _show,
        _report,
        _resume,
        _models,
        _worker,
        _mcp,
        _doctor,
    ):
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse gives its type no public name


def _optimize(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("optimize", help="search for a better prompt and prove it on untouched items")
    _prompt(parser)
    _data(parser)
    _search(parser)
    _task(parser)
    _limits(parser)
    _output(parser)
    parser.add_argument("--out", metavar="FILE", help="write the best prompt there, or the JSON if FILE ends in .json")


def _evaluate(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("evaluate", help="score one prompt on every item of a file")
    _prompt(parser)
    parser.add_argument("--data", metavar="FILE", help="the items")
    _task(parser)
    _limits(parser)
    _output(parser)


def _compare(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("compare", help="score two prompts on the same items: is B better than A?")
    parser.add_argument("prompt", metavar="A", help="a prompt's file, or - for standard input")
    parser.add_argument("other", metavar="B", help="the other prompt's file")
    parser.add_argument("--data", metavar="FILE", help="the items")
    _task(parser)
    _limits(parser)
    _output(parser)


def _mark(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("mark", help="show which words of a prompt would be edited, and why")
    _prompt(parser)
    _data(parser)
    _search(parser)
    _task(parser)
    _limits(parser)
    _output(parser)


def _bench(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("bench", help="compare methods and kinds of locality on tasks, with tables and curves")
    parser.add_argument("bench", metavar="BENCH", help=f"{', '.join(PRESETS)}, or a TOML file of the same form")
    group = parser.add_argument_group("grid (each a comma-separated list, in place of the benchmark's own)")
    group.add_argument("--tasks", metavar="LIST", help="names of its tasks")
    group.add_argument("--methods", metavar="LIST", help="methods, as for `lpo optimize`")
    group.add_argument("--localities", metavar="LIST", help="off, think, nudge, enforce")
    group.add_argument("--markers", metavar="LIST", help="llm, influence, random, manual, auto")
    group.add_argument("--seeds", metavar="LIST", help="seeds, such as 0,1,2")
    group.add_argument("--search-calls", metavar="N", help="what each search may ask, known replies counted too")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the tasks' data (default: LPO_BENCH_DATA)")
    group.add_argument("--cells", metavar="N", help="cells that run at the same time (default: 8)")
    group.add_argument("--out", metavar="DIR", help="write bench.md, .json, .csv, .png and .svg there")
    _search_numbers(parser.add_argument_group("search"))
    _task(parser)
    _limits(parser, seed=False)
    _output(parser)


def _runs(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("runs", help="list the runs, newest first")
    _output(parser)


def _show(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("show", help="show what a run found")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    _output(parser)
    parser.add_argument("--out", metavar="FILE", help="write the best prompt there, or the JSON if FILE ends in .json")


def _report(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("report", help="write what a run found as one HTML page")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--out", metavar="FILE", help="write it there (default: report-RUN.html; -: standard output)")
    parser.add_argument("--quiet", action="store_true", help="nothing on standard error but errors")
    parser.add_argument("--verbose", action="store_true", help="log to standard error")


def _resume(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("resume", help="go on with an interrupted run; nothing is paid for twice")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    _output(parser)
    parser.add_argument("--out", metavar="FILE", help="write the best prompt there, or the JSON if FILE ends in .json")


def _models(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("models", help="get the files of models that run on this machine")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    pull = actions.add_parser("pull", help="download and check a model's file")
    pull.add_argument("name", choices=MODELS, help="the model")
    pull.add_argument("--quiet", action="store_true", help="nothing on standard error but errors")
    pull.add_argument("--verbose", action="store_true", help="log to standard error")


def _worker(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("worker", help="score for runs on other machines, over NATS")
    parser.add_argument(
        "--bus", required=True, metavar="URL", help="the NATS server: nats://HOST:PORT or tls://HOST:PORT"
    )
    parser.add_argument(
        "--model", required=True, metavar="PROVIDER:NAME", help="answers the items, such as local:smollm2"
    )
    parser.add_argument(
        "--optimizer-model", metavar="PROVIDER:NAME", help="judges, for --metric judge (default: --model)"
    )
    parser.add_argument("--base-url", metavar="URL", help="the server of --model")
    parser.add_argument("--optimizer-base-url", metavar="URL", help="the server of --optimizer-model")
    parser.add_argument("--concurrency", metavar="N", help="items at the same time here (default: 16)")
    parser.add_argument(
        "--metric", metavar="NAME", action="append", help="run this metric too, FILE.py:FUNCTION as the run names it"
    )
    parser.add_argument("--all-concurrency", metavar="N", help="items at the same time at all workers together")
    for name, what in (
        ("rpm", "requests"),
        ("tpm", "tokens"),
        ("input-tpm", "input tokens"),
        ("output-tpm", "output tokens"),
    ):
        parser.add_argument(f"--{name}", metavar="N", help=f"{what} a minute, of all workers of this account together")
    parser.add_argument("--timeout", metavar="S", help="seconds for one answer (default: 60, more for long ones)")
    _output(parser)


def _mcp(commands: Commands[Parser]) -> None:
    commands.add_parser("mcp", help="serve assistants over the Model Context Protocol (`lpo mcp --help`)")


def _doctor(commands: Commands[Parser]) -> None:
    parser = commands.add_parser("doctor", help="say what works on this machine and what does not")
    _output(parser)


def _prompt(parser: Parser) -> None:
    group = parser.add_argument_group("prompt")
    group.add_argument("prompt", metavar="PROMPT", nargs="?", help="the prompt's file, or - for standard input")
    group.add_argument("--text", help="the prompt itself, in place of a file")


def _data(parser: Parser) -> None:
    group = parser.add_argument_group("data (JSON lines or CSV with `input` and `target`)")
    group.add_argument("--data", metavar="FILE", help="items, split by the seed into train, dev and test")
    group.add_argument("--train", metavar="FILE", help="items to learn from")
    group.add_argument("--dev", metavar="FILE", help="items to choose by")
    group.add_argument("--test", metavar="FILE", help="items to judge by, once, at the end")


def _search(parser: Parser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument("--method", choices=METHODS, help="default: auto, which tests what the optimizer model can do")
    group.add_argument(
        "--locality",
        choices=LOCALITIES,
        help="ape, apo, pe2: no marks (off), no marks but as much thought (think), marks as advice (nudge, "
        "as in the paper); default: enforce, nothing outside the marks can change",
    )
    group.add_argument("--marker", choices=MARKERS, help="who chooses the words to edit (default: the method's own)")
    group.add_argument(
        "--proposer",
        choices=PROPOSERS,
        help="who writes new words: a model, or edit operators (default: by method)",
    )
    group.add_argument("--branches", metavar="N", help="searches side by side")
    group.add_argument("--race-items", metavar="N", help="training items that the best candidates are compared on")
    group.add_argument("--demos", metavar="N", help="most few-shot examples that the search may put in (default: 0)")
    group.add_argument("--must-pass", metavar="FILE", help="examples on which the answer may not do worse than before")
    group.add_argument("--class-gate", metavar="X", help="most of the mean score that it may lose in one class, 0 to 1")
    group.add_argument("--gain", metavar="X", help="the gain looked for; warn if test cannot show it (default: 0.1)")
    _search_numbers(group)


def _search_numbers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--steps", metavar="N", help="steps of each branch")
    group.add_argument("--proposals", metavar="N", help="candidates of each step")
    group.add_argument(
        "--set",
        dest="host",
        action="append",
        metavar="NAME=VALUE",
        help="a number of ape, apo or pe2, such as beam=4 or tags=3; may be repeated (all are in the README)",
    )


def _task(parser: Parser) -> None:
    group = parser.add_argument_group("models and metric")
    group.add_argument("--model", metavar="PROVIDER:NAME", help="answers the items, such as local:smollm2")
    group.add_argument("--optimizer-model", metavar="PROVIDER:NAME", help="marks and proposes (default: --model)")
    group.add_argument("--base-url", metavar="URL", help="the server of --model")
    group.add_argument("--optimizer-base-url", metavar="URL", help="the server of --optimizer-model")
    group.add_argument(
        "--metric",
        help="exact, normalized, contains, choice, numeric, regex, f1, json, judge, FILE.py:FUNCTION "
        "or MODULE:FUNCTION (default: by the data)",
    )
    group.add_argument("--placement", choices=PLACEMENTS, help="where a prompt without {input} stands")
    group.add_argument("--max-tokens", metavar="N", help="longest answer (default: by the data)")
    group.add_argument("--extract", metavar="WORDS", help="ask with these words for the answer alone, in a second call")
    group.add_argument("--extract-tokens", metavar="N", help="longest such answer (default: 10)")
    group.add_argument(
        "--temperature", metavar="T", help="of the answers: a number, or `default` for the service's own"
    )
    group.add_argument("--prices", metavar="FILE", help="TOML file with prices of models")


def _limits(parser: Parser, *, seed: bool = True) -> None:
    group = parser.add_argument_group("limits")
    if seed:
        group.add_argument("--seed", metavar="N", help="of every random choice (default: 0)")
    group.add_argument("--rpm", metavar="N", help="requests a minute (default: found out)")
    group.add_argument("--tpm", metavar="N", help="tokens a minute (default: found out)")
    group.add_argument("--input-tpm", metavar="N", help="input tokens a minute, where they are counted apart")
    group.add_argument("--output-tpm", metavar="N", help="output tokens a minute, where they are counted apart")
    group.add_argument("--concurrency", metavar="N", help="never more calls at the same time (default: 128)")
    group.add_argument("--timeout", metavar="S", help="seconds for one answer (default: 60, more for long ones)")
    for name, unit in (("usd", "US dollars"), ("calls", "calls"), ("tokens", "tokens"), ("seconds", "seconds")):
        group.add_argument(f"--budget-{name}", metavar="N", help=f"spend at most this many {unit}")
    group.add_argument("--no-cache", dest="cache", action="store_false", help="use no replies of other runs")
    group.add_argument(
        "--bus", metavar="BUS", help="memory, or nats://HOST:PORT to have workers score (default: memory)"
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be done and spent; call no model")
    if seed:
        group.add_argument("--config", metavar="FILE", help="TOML file with the same keys; options win")


def _output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON value on standard output")
    group.add_argument("--quiet", action="store_true", help="nothing on standard error but errors")
    group.add_argument("--verbose", action="store_true", help="log to standard error, without prompts, rows or keys")
