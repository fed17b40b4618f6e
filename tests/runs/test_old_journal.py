"""Tests with a journal of version 0.1.0: this version lists, shows, reports and resumes its runs.

The journal is in ``v0_1_0``, with the scripted model of its runs. The runs are: an optimize that ended (mdxe), an
evaluate (gwef), a compare (rdey), an interrupted optimize with a budget of 400 calls (etgf), one with method apo that
ended (jekn), an interrupted one with ape (dpjg), an interrupted run of a session (heva), and an interrupted benchmark
(apcb).
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

import lpo_agent
from lpo_agent import Environment, RunResult
from lpo_agent.cli import main
from lpo_agent.results import BenchResult, CompareResult, EvaluateResult

if TYPE_CHECKING:
    from lpo_agent import StoredRun

pytestmark = pytest.mark.anyio

OLD = Path(__file__).with_name("v0_1_0")
CUT_OFF = {"etgf": None, "dpjg": (56, 20), "heva": None}
"""Calls and answers from the journal of each run when this version goes on with it, where the method is the same.

The two other runs are searches of version 0.1.0 with a method that works in another way now.
"""
CAP = 400


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return the state folder of version 0.1.0, in a folder with what its runs need."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "journal.sqlite3").write_bytes(gzip.decompress((OLD / "journal.sqlite3.gz").read_bytes()))
    for name in ("models.py", "notes.jsonl"):
        shutil.copy(OLD / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPO_HOME", str(home))
    return Environment(home)


def named(runs: list[StoredRun], end: str) -> StoredRun:
    (found,) = (run for run in runs if run.run_id.endswith(end))
    return found


async def test_its_runs_are_listed(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    runs = await lpo_agent.list_runs(env=env)
    assert [(run.kind, run.status) for run in reversed(runs) if "." not in run.run_id] == [
        ("optimize", "completed"),
        ("evaluate", "completed"),
        ("compare", "completed"),
        ("optimize", "interrupted"),
        ("optimize", "completed"),
        ("optimize", "interrupted"),
        ("optimize", "interrupted"),
        ("bench", "interrupted"),
    ]
    assert await to_thread.run_sync(main, ["runs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [run["run_id"] for run in listed] == [run.run_id for run in runs]


async def test_its_runs_are_shown_and_reported(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"mdxe": RunResult, "jekn": RunResult, "gwef": EvaluateResult, "rdey": CompareResult}
    for run in await lpo_agent.list_runs(env=env):
        shown = await lpo_agent.read_run(run.run_id, env=env)
        kind = kinds.get(run.run_id[-4:])
        assert kind is None or isinstance(shown.result, kind)
        assert await to_thread.run_sync(main, ["show", run.run_id]) == 0
        assert run.run_id in capsys.readouterr().out
        if run.kind in {"optimize", "bench"} and run.status == "completed":
            __, page = await lpo_agent.report_page(run.run_id, env=env)
            assert "<html" in page


@pytest.mark.parametrize("end", CUT_OFF)
async def test_an_interrupted_run_is_resumed(env: Environment, end: str) -> None:
    """Answers that were paid for are not requested again, and the earlier spending counts."""
    run = named(await lpo_agent.list_runs(env=env), end)
    with closing(sqlite3.connect(env.journal)) as journal:
        ((spent,),) = journal.execute("SELECT COUNT(*) FROM attempts WHERE run = ?", (run.run_id,))
    result = await lpo_agent.resume(run.run_id, env=env)
    assert isinstance(result, RunResult)
    assert result.status == "completed"
    assert CUT_OFF[end] in {None, (result.usage.calls, result.usage.cached_calls)}
    assert spent < result.usage.calls <= CAP
    with closing(sqlite3.connect(env.journal)) as journal:
        ((attempts,),) = journal.execute("SELECT COUNT(*) FROM attempts WHERE run = ?", (run.run_id,))
        ((replies,),) = journal.execute("SELECT COUNT(DISTINCT key) FROM replies WHERE run = ?", (run.run_id,))
    assert result.usage.calls == attempts == replies  # each call got an answer that was not known before
    assert result.usage.cached_calls > 0


async def test_its_benchmark_is_resumed(env: Environment) -> None:
    run = named(await lpo_agent.list_runs(env=env), "apcb")
    result = await lpo_agent.resume(run.run_id, env=env)
    assert isinstance(result, BenchResult)
    assert result.status == "completed"
    assert len(result.rows) == 3
