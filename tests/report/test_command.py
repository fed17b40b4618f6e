"""Tests of `lpo report`: its output, and its errors for runs without a report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent import data as data_files
from lpo_agent.cli import main
from lpo_agent.data import Splits
from lpo_agent.journal import open_journal
from lpo_agent.runs.outcomes import prompt_hash
from tests.report import sample
from tests.report.reading import read

if TYPE_CHECKING:
    from pathlib import Path

MODELS = '''
def task(call):
    """Obeys only a prompt that names the answers."""
    prompt, _, text = call.turns[-1].content.rpartition("\\n\\n")
    last = text.split()[-1]
    if "odd" not in prompt or not last.isdigit():
        return "hm"
    return "odd" if int(last) % 2 else "even"
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LPO_HOME", str(tmp_path / "state"))
    return folder


def store(home: Path, run_id: str, kind: str = "optimize", *, done: bool = True, rows: bool = True) -> None:
    """Put a run into the journal."""

    async def write() -> None:
        result, test = sample.full(run_id=run_id), tuple(sample.rows(40))
        async with open_journal(home.parent / "state" / "journal.sqlite3") as journal:
            key = await journal.put_blob(data_files.to_json(Splits((), (), test))) if rows else "gone"
            await journal.create_run(run_id, kind, json.dumps({"rows": key}))
            log = sample.search(result.best.prompt)
            await journal.append(run_id, [(event.name, event.model_dump_json()) for event in log])
            outs = sample.outcomes(test, result.seed.prompt, result.best.prompt)
            outs["another prompt"] = {"item:0": next(iter(outs[result.seed.prompt].values()))}
            journal.keep(run_id, [(prompt_hash(text), item, o) for text, by in outs.items() for item, o in by.items()])
            text = result.model_dump_json(by_alias=True) if done else None
            await journal.finish_run(run_id, "completed" if done else "interrupted", text, 1.0)

    anyio.run(write)


def test_the_page_is_written_to_a_file_of_the_runs_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(home, "r-one")
    assert main(["report", "r-o"]) == 0
    assert capsys.readouterr().out == "report-r-one.html\n"
    shown = read((home / "report-r-one.html").read_text(encoding="utf-8"))
    assert len(shown.titles) == 10
    assert shown.embedded["run_id"] == "r-one"


def test_the_page_may_go_to_another_file_or_to_standard_output(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(home, "r-one")
    assert main(["report", "last", "--out", "page.html", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["report", "last", "--out", "-"]) == 0
    assert capsys.readouterr().out == (home / "page.html").read_text(encoding="utf-8")
    assert [path.name for path in home.iterdir()] == ["page.html"]


def test_a_run_whose_rows_are_gone_is_reported_without_items(home: Path) -> None:
    store(home, "r-one", rows=False)
    assert main(["report", "last", "--out", "page.html"]) == 0
    assert "so they cannot be compared" in (home / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "done", "says"),
    [
        ("evaluate", True, "is of kind evaluate, not optimize; see it with: lpo show r-one"),
        ("guided", True, "is of kind guided"),
        ("bench", True, "is a benchmark; each of its searches has one, such as: lpo report r-one.cell"),
        ("optimize", False, "has no result yet; it is interrupted; continue with: lpo resume r-one"),
    ],
)
def test_other_runs_are_refused_with_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], kind: str, *, done: bool, says: str
) -> None:
    store(home, "r-one", kind, done=done)
    store(home, "r-one.cell")
    assert main(["report", "r-one"]) == 2
    assert says in capsys.readouterr().err
    assert list(home.iterdir()) == []


def test_an_unknown_run_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "nope"]) == 2
    assert "nothing was run" in capsys.readouterr().err
    store(home, "r-one")
    assert main(["report", "nope"]) == 2
    err = capsys.readouterr().err
    assert "there is no run 'nope'; `lpo runs` lists them" in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(home, "r-one")
    assert main(["report", "last", "--out", str(home)]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["local-search", "apo", "ape"])
def test_a_run_of_any_method_has_a_page(home: Path, method: str) -> None:
    rows = [json.dumps({"input": f"number {n}", "target": "odd" if n % 2 else "even"}) for n in range(40)]
    (home / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (home / "models.py").write_text(MODELS, encoding="utf-8")
    words = ["--data", "rows.jsonl", "--metric", "exact", "--model", "scripted:models.py:task", "--quiet"]
    assert main(["optimize", "--text", "Is it odd or not?", *words, "--method", method, "--steps", "1"]) == 0
    assert main(["report", "last", "--out", "page.html", "--quiet"]) == 0
    shown = read((home / "page.html").read_text(encoding="utf-8"))
    assert "What it cost" in shown.titles
    assert f"method {method}" in shown.bare
