"""Tests of options: each is declared once, and all other places are generated from the declaration."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import pytest
from pydantic import BaseModel

from lpo_agent import plan_run
from lpo_agent.cli.args import Parser, add_run
from lpo_agent.core.budget import Budget
from lpo_agent.core.fields import by_field, field_of, option, options_of
from lpo_agent.errors import ConfigError
from lpo_agent.spec import RunSpec, argument, load_config, make_spec, option_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from lpo_agent.options import RunOptions, ScoreOptions

ROOT = Path(__file__).parent.parent
GENERATE = ROOT / "scripts" / "generate"
RUN: dict[str, Any] = {"prompt": "x", "model": "openai:x"}


class Wider(RunSpec):
    """A spec with one more option, declared as any other."""

    patience: int | None = option(
        None, "steps without a gain", metavar="N", unset="all", group="search", commands=("optimize",), ge=1, le=9
    )


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_loader("generate", SourceFileLoader("generate", str(GENERATE)))
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    spec.loader.exec_module(found)
    sys.dont_write_bytecode = before
    return found


def test_a_new_field_is_an_option_of_the_commands_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="lpo optimize")
    add_run(parser, "optimize", model=Wider)
    given = vars(parser.parse_args(["--patience", "3", "--budget-calls", "5"]))
    assert Wider.model_validate(by_field(Wider, given) | RUN).patience == 3
    assert "--patience N steps without a gain (default: all)" in " ".join(parser.format_help().split())
    other = Parser(prog="lpo evaluate")
    add_run(other, "evaluate", model=Wider)
    assert "--patience" not in other.format_help()


def test_a_new_field_is_a_key_of_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "lpo.toml").write_text("patience = 10\nno-cache = true\n[budget]\nusd = 1\n", encoding="utf-8")
    options = load_config(tmp_path / "lpo.toml", Wider)
    assert options == {"patience": 10, "cache": False, "budget": {"usd": 1}}
    assert (field_of(Wider, "patience"), field_of(RunSpec, "patience")) == ("patience", None)
    with pytest.raises(ConfigError, match="--patience: input should be less than or equal to 9"):
        Wider(**RUN, **options)


def test_a_new_field_makes_the_generated_files_out_of_date(generate: ModuleType) -> None:
    files: Mapping[Path, str] = generate.made(Wider)
    assert all(path.read_text(encoding="utf-8") != text for path, text in files.items())
    keywords, page = files.values()
    assert '    patience: int | None\n    """Steps without a gain (1 to 9; default: all)."""\n' in keywords
    row = "| `--patience N` | `patience` | `patience` | steps without a gain | - | 1 to 9 | all | optimize |\n"
    assert row in page


def test_the_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_outdated_file_is_named_and_written_again(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lpo_agent").mkdir()
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "lpo_agent/options.py is out of date; run scripts/generate" in capsys.readouterr().err
    assert (generate.main([]), generate.main(["--check"]), generate.main(["--help"])) == (0, 0, 2)


def run(**options: Unpack[RunOptions]) -> RunSpec:
    return make_spec({**RUN, **options})


def score(**options: Unpack[ScoreOptions]) -> RunSpec:
    return make_spec({**RUN, **options})


def test_the_typed_keywords_make_a_spec() -> None:
    found = run(locality="enforce", must_pass="rows.csv", budget={"usd": 1}, method_options={"tags": 2}, rpm=5)
    assert (found.must_pass, found.budget, found.method_options) == (Path("rows.csv"), Budget(usd=1), {"tags": 2})
    assert score(budget=Budget(calls=1), data=Path("x"), max_tokens=5).budget.calls == 1


def test_every_option_has_a_description() -> None:
    for found in options_of(RunSpec):
        assert 5 < len(found.text) < 170, found.name
        assert found.text[-1] not in ".;", found.name
        assert found.group, found.name
        if found.commands and not found.choices and found.kind is not bool:
            assert found.metavar, found.name


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the class": lambda given: RunSpec(**given),
    "make_spec": make_spec,
    "model_validate": RunSpec.model_validate,
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "^prompt is required; --model is required$"),
    "no number": (RUN | {"branches": "many"}, "^--branches: input should be a valid integer.*got 'many'"),
    "out of range": (RUN | {"race_items": 1}, "^--race-items: input should be greater than or equal to 2 .got 1.$"),
    "unknown": (RUN | {"speed": 9}, "^unknown option 'speed'; did you mean 'seed'.$"),
    "budget": (RUN | {"budget": {"usd": 0}}, "^--budget-usd: input should be greater than 0"),
    "unknown budget": (RUN | {"budget": {"eur": 1}}, "^unknown option 'budget-eur'$"),
    "no budget": (RUN | {"budget": 5}, "^budget: "),
    "a number": (RUN | {"method_options": {"tags": [1]}}, "^--set tags: "),
    "numbers": (RUN | {"method_options": 5}, "^--set: "),
    "row": (RUN | {"examples": [{"input": "x"}]}, "^examples row 1 target is required$"),
    "a near miss": (RUN | {"budget": {"call": 1}}, "^unknown option 'budget-call'; did you mean 'budget-calls'.$"),
    "nothing near": (RUN | {"zzz": 1}, "^unknown option 'zzz'$"),
    "rows in a text": (RUN | {"examples": "rows"}, "^examples: give a list of rows .* not a str"),
    "a row alone": (RUN | {"examples": {"input": "1", "target": "1"}}, "^examples: give a list of rows .* not a dict$"),
    "no rows": (RUN | {"examples": None}, "^examples: give a list of rows .* not a NoneType$"),
    "two": (RUN | {"steps": 0, "seed": "x"}, "^--steps: .*; --seed: "),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize(("given", "says"), BAD.values(), ids=BAD.keys())
def test_an_invalid_value_is_a_config_error_that_names_the_option(
    make: Callable[[dict[str, Any]], Any], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make(given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method_options": {"bem": 1}}, "^--set: 'bem' is no option of method local-search"),
        ({"method": "opro"}, "^unknown method 'opro'; known are lpo, local-search, ape, apo, pe2$"),
        ({"marker": "me"}, "^--marker: unknown marker 'me'; known are auto, llm, influence, random, manual$"),
    ],
)
def test_names_that_a_package_may_add_are_checked_when_a_run_is_planned(given: dict[str, Any], says: str) -> None:
    rows = [{"input": f"{n}?", "target": str(n)} for n in range(40)]
    spec = make_spec(RUN | {"examples": rows} | given)
    with pytest.raises(ConfigError, match=says):
        plan_run(spec)


def test_the_test_option_takes_none_a_number_or_a_file() -> None:
    read = {given: make_spec({**RUN, "test": given}).test for given in ("none", "0", "12", "3.5", "rows.jsonl")}
    assert read == {"none": 0, "0": 0, "12": 12, "3.5": Path("3.5"), "rows.jsonl": Path("rows.jsonl")}
    for given in ("-5", -5, True):
        with pytest.raises(ConfigError, match=r"test.*write none, a file, or a number of items"):
            make_spec({**RUN, "test": given})


def test_a_bad_cap_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^--budget-usd: input should be greater than 0 \(got -1\)$"):
        Budget(usd=-1)


def test_specs_of_the_first_version_are_read() -> None:
    old = RUN | {"method": "pe2", "host": {"beam": 2}}
    spec = make_spec(old)
    assert (spec, spec.method_options) == (RunSpec(**RUN, method="pe2", method_options={"beam": 2}), {"beam": 2})
    stored = spec.model_dump(mode="json")
    assert ("host" in stored, stored["method_options"]) == (False, {"beam": 2})
    assert RunSpec.model_validate(stored) == RunSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ConfigError, match="unknown option 'host'"):
        make_spec(old | {"method_options": {}})


def test_an_argument_of_a_tool_has_the_options_words_and_range() -> None:
    class Arguments(BaseModel):
        proposals: Annotated[int | None, argument("proposals")] = None
        steps: Annotated[int, argument("steps", "rounds", unset="", le=10)] = 2
        method: Annotated[str, argument("method")] = "auto"
        budget_usd: Annotated[float | None, argument("budget_usd", unset="the server's")] = None

    found = Arguments.model_json_schema()["properties"]
    assert found["proposals"]["description"] == "Candidates of each step; default: depends on the method."
    assert found["proposals"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 64}
    assert (found["steps"]["description"], found["steps"]["maximum"]) == ("Rounds.", 10)
    assert found["method"]["enum"] == list(option_of("method").choices)
    assert found["budget_usd"]["description"].endswith("in US dollars; default: the server's.")
