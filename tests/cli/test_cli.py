"""Tests of the command line: arguments in; output, files and exit codes out."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from lpo_agent import WORKER_ROLES, pull_model, read_environment
from lpo_agent.cli import args, files, main, options
from lpo_agent.core.budget import Budget
from lpo_agent.core.fields import options_of
from lpo_agent.core.result import CompareResult, EvaluateResult, MarkResult, RunResult
from lpo_agent.diagnosis import diagnose, reach
from lpo_agent.environment import Environment
from lpo_agent.errors import ConfigError
from lpo_agent.journal import open_journal
from lpo_agent.models.providers.base import PROVIDERS, traits_of
from lpo_agent.spec import RunSpec

MODELS = '''
import os, signal
from pathlib import Path
from lpo_agent.errors import AuthError, RequestRejected

def answer(call):
    """Obeys only a prompt that names the answers."""
    prompt, _, text = call.turns[-1].content.rpartition("\\n\\n")
    if "odd" in prompt:
        return "odd" if int(text.split()[-1]) % 2 else "even"
    return "I would say: hm."

def moody(call):
    if int(call.turns[-1].content.split()[-1]) % 2:
        raise RequestRejected("not in the mood")
    return "even"

def refused(call):
    raise AuthError("the key is refused")

def broken(call):
    raise AssertionError("no call may be made")

def interrupted(call):
    """Sends its own process a signal once, in the middle of the run."""
    mark = Path(os.environ["LPO_HOME"]) / "signalled"
    if "hm" in call.turns[-1].content and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])
    return answer(call)

def chatty(output, target, row):
    print("judging")
    return float(output == target)
'''


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with some good and bad files, and a state folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    rows = [json.dumps({"input": f"number {n}", "target": "odd" if n % 2 else "even"}) for n in range(60)]
    texts = {
        "rows.jsonl": "\n".join(rows) + "\n",
        "prompt.txt": "Is it odd or not?",
        "plain.txt": "Which kind?",
        "empty.jsonl": "",
        "one.jsonl": rows[0],
        "target.jsonl": f'{rows[0]}\n{{"input": "x"}}\n',
        "bad.jsonl": f"{rows[0]}\n{{bad\n",
        "models.py": MODELS,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "latin.jsonl").write_bytes(rows[0].encode() + b"\n\xe9")
    monkeypatch.chdir(folder)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LPO_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")
    return folder


@pytest.fixture
def lpo(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main(words)
        return Ended(code, *capsys.readouterr())

    return run


def model(function: str = "answer") -> list[str]:
    return ["--model", f"scripted:models.py:{function}"]


SEARCH = ["--data", "rows.jsonl", "--metric", "exact", "--method", "local-search"]
GOOD = [*SEARCH, *model()]


def process(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lpo_agent", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **settings)


BAD_INPUT = {
    "bus of another kind": (["prompt.txt", *GOOD, "--bus", "kafka://x"], "nats://HOST:PORT"),
    "bus without a host": (["prompt.txt", *GOOD, "--bus", "nats://"], "nats://HOST:PORT"),
    "bus with a bad port": (["prompt.txt", *GOOD, "--bus", "nats://h:abc"], "no number from 0 to 65535"),
    "no NATS server": (
        ["prompt.txt", *GOOD, "--quiet", "--bus", "nats://127.0.0.1:1"],
        "cannot connect to a NATS server",
    ),
    "unknown bus option": (["prompt.txt", *GOOD, "--quiet", "--bus", "nats://h:1?tls=1"], "creds=FILE and ca=FILE are"),
    "no credentials file": (["prompt.txt", *GOOD, "--quiet", "--bus", "nats://h:1?creds=none.creds"], "none.creds"),
    "no prompt file": (["none.txt", *GOOD], "none.txt: there is no such prompt file"),
    "prompt not UTF-8": (["latin.txt", *GOOD], "latin.txt, line 1: not UTF-8"),
    "prompt is a folder": ([".", *GOOD], ".: cannot be read"),
    "no prompt": (GOOD, "no prompt"),
    "two prompts": (["prompt.txt", "--text", "x", *GOOD], "not both"),
    "empty prompt": (["--text", " ", *GOOD], "the prompt is empty"),
    "nothing free": (["--text", "<keep>All of it</keep>", *GOOD], "nothing in the prompt may change"),
    "nested tags": (["--text", "<edit>a<edit>b</edit></edit>", *GOOD], "nested"),
    "open tag": (["--text", "<edit>a", *GOOD], "never closed"),
    "unknown placeholder": (["--text", "Do {thing}", *GOOD], "{thing}"),
    "no data": (["prompt.txt", *model()], "--data"),
    "no data file": (["prompt.txt", "--data", "none.jsonl", *model()], "none.jsonl"),
    "empty data": (["prompt.txt", "--data", "empty.jsonl", *model()], "empty.jsonl"),
    "no target": (["prompt.txt", "--data", "target.jsonl", *model()], "2: has no 'target'"),
    "bad JSON": (["prompt.txt", "--data", "bad.jsonl", *model()], "bad.jsonl, line 2"),
    "data not UTF-8": (["prompt.txt", "--data", "latin.jsonl", *model()], "latin.jsonl, line 2"),
    "one example": (["prompt.txt", "--data", "one.jsonl", *model()], "one example"),
    "no model": (["prompt.txt", *SEARCH], "--model is required"),
    "unknown provider": (["prompt.txt", *SEARCH, "--model", "acme:x"], "unknown model 'acme:x'"),
    "no model file": (["prompt.txt", *SEARCH, "--model", "local:none.gguf"], "none.gguf"),
    "unknown metric": (["prompt.txt", *GOOD, "--metric", "vibes"], "unknown metric 'vibes'"),
    "unknown method": (["prompt.txt", *GOOD, "--method", "opro"], "unknown method 'opro'; known are lpo, local-search"),
    "unknown locality": (["prompt.txt", *GOOD, "--locality", "loose"], "'enforce'"),
    "locality of a method": (["prompt.txt", *GOOD, "--locality", "nudge"], "--method ape, apo or pe2"),
    "no address": (["prompt.txt", *GOOD, "--base-url", "here"], "--base-url: an address begins with http"),
    "unknown number": (["prompt.txt", *GOOD, "--method", "pe2", "--set", "bem=1"], "'bem'"),
    "number of another method": (
        ["prompt.txt", *GOOD, "--set", "minibatch=1"],
        "'minibatch' is no option of method local-search",
    ),
    "number out of range": (["prompt.txt", *GOOD, "--method", "pe2", "--set", "beam=0"], "beam: input"),
    "half a number": (["prompt.txt", *GOOD, "--method", "pe2", "--set", "beam"], "NAME=VALUE"),
    "unknown option": (["prompt.txt", *GOOD, "--speed", "9"], "--speed"),
    "negative budget": (["prompt.txt", *GOOD, "--budget-calls=-5"], "--budget-calls"),
    "budget of nothing": (["prompt.txt", *GOOD, "--budget-usd", "0"], "--budget-usd"),
    "no number": (["prompt.txt", *GOOD, "--branches", "many"], "--branches"),
    "no config file": (["prompt.txt", *GOOD, "--config", "none.toml"], "none.toml"),
    "config is a folder": (["prompt.txt", *GOOD, "--config", "."], ".: cannot be read: Is a directory"),
    "no price file": (["prompt.txt", *GOOD, "--prices", "none.toml"], "none.toml"),
    "out in no folder": (["prompt.txt", *GOOD, "--out", "none/best.txt"], "--out none/best.txt"),
    "out is a folder": (["prompt.txt", *GOOD, "--out", "."], "is a folder"),
}


@pytest.mark.parametrize(("words", "says"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_gets_one_line_and_code_2(lpo: Run, words: list[str], says: str) -> None:
    ended = lpo("optimize", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("lpo: error: ")
    assert says in ended.err


WORKER = ["worker", "--model", "scripted:models.py:answer", "--bus"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bench"],
        ["show"],
        ["resume", "x"],
        ["show", "x"],
        ["models", "pull", "x"],
        [*WORKER, "memory"],
        [*WORKER, "nats://127.0.0.1:1"],
        [*WORKER, "nats://127.0.0.1:1", "--all-concurrency", "0"],
        [*WORKER, "nats://127.0.0.1:1", "--metric", "nothing"],
        [*WORKER, "nats://127.0.0.1:1", "--serve", "score,train"],
        [*WORKER, "nats://127.0.0.1:1", "--serve", ","],
    ],
)
def test_bad_commands_get_one_line_and_code_2(lpo: Run, words: list[str]) -> None:
    ended = lpo(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", ["optimize", "evaluate", "compare", "mark", "bench", "worker"])
def test_a_command_has_the_options_whose_fields_name_it(command: str) -> None:
    parsers = args.build_parser()._subparsers
    assert parsers is not None
    (choices,) = [action.choices for action in parsers._group_actions]
    assert isinstance(choices, dict)
    given = {flag for action in choices[command]._actions for flag in action.option_strings}
    for option in options_of(RunSpec):
        own = {"--metric"} if command == "worker" else set()
        assert (option.flag in given - own) == (command in option.commands), option.flag


def test_every_option_of_a_search_can_be_given_and_reaches_the_spec(home: Path) -> None:
    words = ["optimize", "prompt.txt", "--no-cache", "--method", "lpo", "--set", "tags=2", "--set", "tags=3"]
    for name in ("data", "train", "dev", "test", "prices", "must-pass", "metric", "extract"):
        words += [f"--{name}", "x"]
    for name in ("branches", "steps", "proposals", "demos", "class-gate", "gain", "max-tokens", "extract-tokens"):
        words += [f"--{name}", "1"]
    for name in ("seed", "rpm", "tpm", "input-tpm", "output-tpm", "timeout", "concurrency", "temperature"):
        words += [f"--{name}", "1"]
    words += ["--optimizer-temperature", "default", "--race-items", "2", "--budget-calls", "5", "--budget-usd", "1"]
    words += ["--budget-tokens", "9", "--budget-seconds", "3", "--locality", "enforce", "--marker", "llm"]
    words += ["--placement", "after", "--bus", "nats://h:1", "--proposer", "operators"]
    words += ["--model", "openai:x", "--optimizer-model", "openai:y", "--base-url", "http://a"]
    words += ["--optimizer-base-url", "http://b", "--optimizer-max-tokens", "99"]
    given = vars(args.build_parser().parse_args(words))
    assert {found.name for found in options_of(RunSpec) if "optimize" in found.commands} <= given.keys()
    spec = options.spec(options.settings(given))
    assert (spec.budget, spec.cache) == (Budget(usd=1, calls=5, tokens=9, seconds=3), False)
    assert (spec.method_options, spec.optimizer_temperature) == ({"tags": "3"}, None)
    assert (spec.must_pass, spec.race_items, spec.bus) == (Path("x"), 2, "nats://h:1")


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        ("['--help']", {"pydantic", "anyio", "rich", "openai", "anthropic", "aiohttp", "sqlite3"}),
        ("['optimize', '--help']", {"anyio", "rich", "openai", "anthropic", "aiohttp", "sqlite3"}),
    ],
)
def test_help_imports_nothing_heavy(words: str, heavy: set[str]) -> None:
    code = (
        "import sys; from lpo_agent.cli import main\n"
        f"try: main({words})\n"
        "except SystemExit as exc: assert exc.code == 0\n"
        f"heavy = {heavy} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert ("--budget-usd" in done.stdout) == ("optimize" in words)


def test_the_distributions_own_name_is_the_command_too() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert scripts["lpo-agent"] == scripts["lpo"] == "lpo_agent.cli:main"


def test_version(lpo: Run) -> None:
    assert lpo("--version").out.startswith("lpo-agent ")


def test_optimize_prints_exactly_one_json_object(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *GOOD, "--json")
    assert ended.code == 0
    result = RunResult.model_validate_json(ended.out)
    assert (result.status, result.seed.prompt) == ("completed", "Which kind?")
    assert json.loads(ended.out)["schema"] == 1
    assert "method local-search" in ended.err
    assert "seed prompt on dev" in ended.err


def test_quiet_leaves_standard_error_empty(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *GOOD, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert "Verdict" in ended.out


def test_what_a_metric_prints_stays_out_of_the_json(lpo: Run) -> None:
    ended = lpo("evaluate", "plain.txt", *model(), "--data", "rows.jsonl", "--metric", "models.py:chatty", "--json")
    assert EvaluateResult.model_validate_json(ended.out).score.n == 60
    assert "judging" in ended.err


def test_out_gets_the_exact_best_prompt(lpo: Run, home: Path) -> None:
    ended = lpo("optimize", "plain.txt", *GOOD, "--json", "--out", "best.txt")
    best = RunResult.model_validate_json(ended.out).best.prompt
    assert (home / "best.txt").read_text(encoding="utf-8") == best
    assert not list(home.glob(".*"))


def test_out_ending_in_json_gets_the_result(lpo: Run, home: Path) -> None:
    ended = lpo("optimize", "plain.txt", *GOOD, "--json", "--out", "best.json")
    assert json.loads((home / "best.json").read_text(encoding="utf-8")) == json.loads(ended.out)


def test_unwritable_out_is_noticed_before_any_call(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *SEARCH, *model("broken"), "--out", "none/best.txt")
    assert ended.code == 2
    assert "none/best.txt" in ended.err


def test_out_replaces_what_a_link_points_to_and_leaves_devices_alone(home: Path) -> None:
    (home / "old.txt").write_text("old", encoding="utf-8")
    (home / "link.txt").symlink_to("old.txt")
    files.check_writable(home / "link.txt")
    files.write_text(home / "link.txt", "new\n")
    assert (home / "link.txt").is_symlink()
    assert (home / "old.txt").read_bytes() == b"new\n"
    files.check_writable(Path(os.devnull))
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_dry_run_asks_no_model(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *SEARCH, *model("broken"), "--dry-run", "--json")
    plan = json.loads(ended.out)
    assert ended.code == 0
    assert 0 < plan["calls_low"] <= plan["calls_high"]
    assert "no model was called" in lpo("optimize", "plain.txt", *SEARCH, *model("broken"), "--dry-run").out


def test_a_budget_spent_before_any_result_is_code_4(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *GOOD, "--budget-calls", "1", "--quiet")
    assert (ended.code, ended.out, ended.err.count("\n")) == (4, "", 1)


@pytest.mark.parametrize(("command", "calls"), [("evaluate", 60), ("compare", 120)])
def test_a_dry_run_of_a_scoring_asks_nothing(lpo: Run, command: str, calls: int) -> None:
    prompts = ["plain.txt"] if command == "evaluate" else ["plain.txt", "plain.txt"]
    limits = ["--rpm", "60", "--output-tpm", "1"]
    ended = lpo(command, *prompts, "--data", "rows.jsonl", *model("broken"), "--dry-run", "--json", *limits)
    plan = json.loads(ended.out)
    assert (plan["kind"], plan["calls_low"], plan["calls_high"]) == (command, calls, calls)
    assert plan["seconds"] == 60 * plan["output_tokens"]


def test_an_evaluation_that_mostly_fails_says_so_and_keeps_its_answers(lpo: Run) -> None:
    ended = lpo("evaluate", "plain.txt", "--data", "rows.jsonl", *model("moody"), "--json", "--quiet")
    result = json.loads(ended.out)
    assert (ended.code, result["status"]) == (3, "failed")
    assert "scorings failed" in result["stop_reason"]
    assert result["score"]["n"] > 0
    assert {reason for _, reason in result["unscored"]} == {"RequestRejected: not in the mood"}
    (run,) = json.loads(lpo("runs", "--json").out)
    assert run["status"] == "failed"


def test_a_refused_key_is_code_3(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *SEARCH, *model("refused"), "--quiet")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "lpo: error: the key is refused\n"


def test_a_missing_key_is_code_3(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *SEARCH, "--model", "openai:x", "--quiet")
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "OPENAI_API_KEY" in ended.err


def test_a_bug_is_one_line_and_a_traceback_only_on_demand(lpo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh \x1b[31m\nno")

    monkeypatch.setattr(options, "settings", fail)
    ended = lpo("optimize", "plain.txt")
    assert ended.code == 1
    assert (
        ended.err == "lpo: internal error: ZeroDivisionError: oh \\u001b[31m no; this is a bug, --verbose shows where\n"
    )
    assert "Traceback" in lpo("optimize", "plain.txt", "--verbose").err


def test_a_bug_in_a_model_is_named_and_not_its_consequences(lpo: Run) -> None:
    ended = lpo("optimize", "plain.txt", *SEARCH[:4], "--method", "pe2", *model(), "--quiet")
    assert ended.code == 1
    assert "ValueError" in ended.err
    assert "cut off" not in ended.err


def test_a_config_file_is_used_for_options_that_are_not_given(lpo: Run, home: Path) -> None:
    text = """
        prompt = "plain.txt"
        data = "rows.jsonl"
        model = "scripted:models.py:broken"
        no-cache = true
        json = true
        budget-calls = 7
        concurrency = 1
        [budget]
        seconds = 100
    """
    (home / "lpo.toml").write_text(text, encoding="utf-8")
    ended = lpo("evaluate", "--config", "lpo.toml", "--text", "odd?", *model(), "--budget-seconds", "50")
    result = EvaluateResult.model_validate_json(ended.out)
    assert (result.status, result.usage.calls) == ("stopped", 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "lpo.toml: unknown option 'colour'"),
        ("quiet = 'yes'", "quiet must be true or false"),
        ("text = 1", "text must be a text"),
        ("budget = 5", "budget must be a table"),
        ("host = 5", "host must be a table"),
        ("no-cache = 1", "lpo.toml: no-cache must be true or false"),
        ("budget-calls = 0", "--budget-calls"),
        ("method = 'opro'", "unknown method 'opro'"),
        ("= 1", "not valid TOML"),
    ],
)
def test_a_bad_config_file_is_named(lpo: Run, home: Path, text: str, says: str) -> None:
    (home / "lpo.toml").write_text(text, encoding="utf-8")
    ended = lpo("optimize", "plain.txt", *SEARCH[:2], *model(), "--config", "lpo.toml")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert says in ended.err


@pytest.mark.parametrize("table", ["host", "method-options", "method_options"])
def test_numbers_of_a_method_may_stand_under_either_name_and_options_win(home: Path, table: str) -> None:
    text = f"method = 'pe2'\nbudget-calls = 7\n[{table}]\nbeam = 2\ntag-words = 3\n[budget]\nusd = 2\n"
    (home / "lpo.toml").write_text(text, encoding="utf-8")
    words = ["optimize", "prompt.txt", *model(), "--config", "lpo.toml", "--set", "beam=3", "--budget-usd", "1"]
    spec = options.spec(options.settings(vars(args.build_parser().parse_args(words))))
    assert spec.method_options == {"beam": "3", "tag_words": 3}
    assert spec.budget == Budget(usd=1, calls=7)


def test_temperature_can_be_the_services_own(home: Path) -> None:
    given = options.settings({"text": "x", "model": "openai:x", "temperature": "default"})
    assert options.spec(given).temperature is None


def test_compare(lpo: Run) -> None:
    ended = lpo("compare", "plain.txt", "prompt.txt", *model(), "--data", "rows.jsonl", "--metric", "exact", "--json")
    result = CompareResult.model_validate_json(ended.out)
    assert (result.a.mean, result.b.mean) == (0.0, 1.0)
    assert "B is better than A" in lpo("show", "last").out


def test_mark_gives_a_reason_for_every_span(lpo: Run) -> None:
    ended = lpo("mark", "prompt.txt", *GOOD, "--json")
    marked = MarkResult.model_validate_json(ended.out)
    assert marked.marked.count("<edit>") == len(marked.spans) > 0
    assert all(span.reason for span in marked.spans)
    assert (marked.status, json.loads(ended.out)["schema"]) == ("completed", 1)
    assert "1. " in lpo("mark", "prompt.txt", *GOOD).out


def test_a_marking_is_a_run_like_others(lpo: Run) -> None:
    marked = json.loads(lpo("mark", "prompt.txt", *GOOD, "--json").out)
    (listed,) = json.loads(lpo("runs", "--json").out)
    assert (listed["run_id"], listed["kind"], listed["status"]) == (marked["run_id"], "mark", "completed")
    assert json.loads(lpo("show", "last", "--json").out) == marked
    assert "Marked prompt" in lpo("show", "last").out


def test_the_help_of_the_worker_says_what_it_can_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["worker", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} ({meaning})" in text for name, meaning in WORKER_ROLES.items())
    assert "ignored: the run judges the answers itself" in text


def store(home: Path, run_id: str, kind: str, result: str | None, events: Sequence[tuple[str, str]] = ()) -> None:
    """Put a run into the journal."""

    async def write() -> None:
        async with open_journal(home.parent / "state" / "journal.sqlite3") as journal:
            await journal.create_run(run_id, kind, "no JSON")
            await journal.append(run_id, events)
            await journal.finish_run(run_id, "interrupted" if result is None else "completed", result, 1.0)

    anyio.run(write)


def test_runs_of_another_version_are_listed_and_marked(lpo: Run, home: Path) -> None:
    store(home, "r-older", "optimize", '{"schema": 0}')
    store(home, "r-newer", "migrate", '{"schema": 2}')
    store(home, "r-begun", "optimize", None, [("odd", '{"type": "odd"}'), ("worse", "{")])
    assert lpo("runs").out.count("written by another version") == 2
    assert {run["run_id"] for run in json.loads(lpo("runs", "--json").out)} == {"r-older", "r-newer", "r-begun"}
    for run in ("r-older", "r-newer"):
        shown = lpo("show", run)
        assert (shown.code, shown.out) == (2, "")
        assert shown.err == f"lpo: error: run {run}: its result was written by another version of lpo-agent\n"
    assert "r-begun (optimize) is interrupted" in lpo("show", "r-begun").out


def test_runs_and_show(lpo: Run, home: Path) -> None:
    assert lpo("runs").out == "no runs yet\n"
    assert json.loads(lpo("runs", "--json").out) == []
    first = json.loads(lpo("optimize", "plain.txt", *GOOD, "--json").out)
    second = json.loads(lpo("evaluate", "plain.txt", *GOOD[:2], *model(), "--json").out)
    listed = json.loads(lpo("runs", "--json").out)
    assert [run["run_id"] for run in listed] == [second["run_id"], first["run_id"]]
    assert {(run["kind"], run["status"]) for run in listed} == {("optimize", "completed"), ("evaluate", "completed")}
    assert listed[0]["started"].endswith("Z")
    assert first["run_id"] in lpo("runs").out
    assert json.loads(lpo("show", first["run_id"], "--json").out) == first
    assert json.loads(lpo("show", "last", "--json").out) == second
    assert lpo("show", first["run_id"], "--out", "best.txt", "--json").code == 0
    assert (home / "best.txt").read_text(encoding="utf-8") == first["best"]["prompt"]


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_cleanly_and_it_can_be_resumed(home: Path, sent: str) -> None:
    (home / "hm.txt").write_text("Is this hm or what?", encoding="utf-8")
    environment = os.environ | {"SIGNAL": sent}
    stopped = process("optimize", "hm.txt", *SEARCH, *model("interrupted"), "--quiet", "--json", env=environment)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    said, hint = stopped.stderr.splitlines()
    assert said == "lpo: interrupted"
    run_id = hint.removeprefix("resume with: lpo resume ")
    (listed,) = json.loads(process("runs", "--json").stdout)
    assert (listed["run_id"], listed["status"]) == (run_id, "interrupted")
    shown = process("show", run_id[:12])
    assert f"continue with: lpo resume {run_id}" in shown.stdout
    resumed = process("resume", run_id, "--json", "--quiet", env=environment)
    result = RunResult.model_validate_json(resumed.stdout)
    assert (resumed.returncode, result.run_id, result.status) == (0, run_id, "completed")


def test_a_second_signal_kills() -> None:
    code = """
import anyio, os, signal
from lpo_agent.cli.signals import cancel_on_signal

async def main():
    async with anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGINT


@pytest.mark.parametrize("runs", [0, 1])
def test_a_closed_output_is_no_error(home: Path, runs: int) -> None:
    for number in range(runs):
        store(home, f"r-{number}", "optimize", None)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lpo_agent", "runs"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_prompt_can_come_from_standard_input(home: Path) -> None:
    done = process("evaluate", "-", *model(), "--data", "rows.jsonl", "--json", input="Is it odd or not?")
    assert EvaluateResult.model_validate_json(done.stdout).score.mean == 1.0


@pytest.mark.parametrize("stream", [{"encoding": "latin-1"}, {"encoding": "ascii"}])
def test_output_survives_any_encoding(home: Path, stream: dict[str, str]) -> None:
    environment = os.environ | {"PYTHONIOENCODING": stream["encoding"]}
    done = process("mark", "--text", "Grüße, 数字?", *GOOD, env=environment, **stream)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6570" in done.stdout


def test_doctor_reports_whether_keys_are_set_and_never_shows_them(lpo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:secret@127.0.0.1:{port}/v1")
        ended = lpo("doctor")
        checks = {check["name"]: check for check in json.loads(lpo("doctor", "--json").out)["checks"]}
    assert ended.code == 0
    assert "secret" not in ended.out
    assert checks["models openai:..."]["ok"] is True
    assert f"127.0.0.1:{port}: takes connections" in checks["models openai:..."]["detail"]
    assert checks["models anthropic:..."]["ok"] is False
    assert checks["model file"]["ok"] is False


@pytest.mark.anyio
async def test_doctor_checks_every_provider_with_a_remote_service(home: Path) -> None:
    names = {check.name for check in await diagnose(Environment(home))}
    services = [name for name in PROVIDERS.names() if traits_of(PROVIDERS.load(name)).address is not None]
    assert len(services) >= 2
    assert {f"models {name}:..." for name in services} <= names
    assert "models scripted:..." not in names


def test_keys_are_read_for_any_provider() -> None:
    found = read_environment({"ACME_API_KEY": "sk-acme", "ACME_BASE_URL": "http://a", "OPENAI_API_KEY": ""})
    assert (found.keys, found.base_urls) == ({"acme": "sk-acme"}, {"acme": "http://a"})
    assert "sk-acme" not in repr(found)


@pytest.mark.anyio
async def test_only_known_models_are_fetched(home: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'big' to fetch; known are smollm2"):
        await pull_model("big", env=Environment(home))


@pytest.mark.anyio
async def test_doctor_sees_damaged_weights_and_a_useless_state_folder(home: Path) -> None:
    state = home / "state"
    (state / "models").mkdir(parents=True)
    (state / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF, but not for long")
    (state / "journal.sqlite3").write_text("no journal at all", encoding="utf-8")
    checks = {check.name: check for check in await diagnose(Environment(state))}
    assert "damaged" in checks["model file"].detail
    assert checks["journal"].ok is False


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["nonsense", "http://", "http://[::1", "ftp://host/x"])
async def test_reach_names_a_bad_address(url: str) -> None:
    _, problem = await reach(url)
    assert problem is not None
    assert "not an address" in problem


@pytest.mark.anyio
async def test_reach_sees_that_nothing_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert await reach(f"http://127.0.0.1:{port}/v1") == (f"127.0.0.1:{port}", "nothing answers")
