"""Tests of other optimizers as arms of a benchmark: with a small program in their place, and with the real packages."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lpo_agent import open_bench, open_resumed
from lpo_agent.bench import plan_bench, to_csv, to_markdown
from lpo_agent.bench.grid import arm_key, cell_spec, cells, make_bench
from lpo_agent.bench.peers import catalog, process
from lpo_agent.bench.peers.catalog import PEERS, Peer
from lpo_agent.bench.peers.process import Ended, Program, check_installed
from lpo_agent.bench.peers.programs.client import Job, Row
from lpo_agent.bench.rows import BenchResult
from lpo_agent.cli import main
from lpo_agent.environment import Environment, read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.history import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.bench.grid import Bench
    from lpo_agent.bench.rows import CellRow

pytestmark = pytest.mark.anyio

MODELS = Path(__file__).parent / "peer_models.py"
ITEMS = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 180)]
SEED = "Say it.\n\n{input}\n"
CALLS = 60

SEARCH = """
job = read_job()
if job.test:
    raise SystemExit("a test row has come to the search")
job.report(job.prompt, mean(job, job.prompt), seed=True)
better = "Give the number, the number, the number.\\n\\n{input}"
job.report(better, mean(job, better))
"""
ON = """
for row in (*job.train, *job.train, *job.train):
    job.answer("Give the number, the number, the number.\\n\\n{input}", row)
"""
PROGRAM = """
from .client import read_job


def mean(job, prompt):
    found = job.answers([prompt] * len(job.dev), job.dev)
    return sum(each["score"] for each in found) / len(found)

"""
"""A program in the place of GEPA's, which needs no package."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose programs run in place of the package's own."""
    place = tmp_path / "programs"
    place.mkdir()
    (place / "__init__.py").touch()
    (place / "client.py").write_text((process.PROGRAMS / "client.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(process, "PROGRAMS", place)
    monkeypatch.setitem(catalog.PEERS, "gepa", Peer("gepa", "run_gepa", ()))
    return place


def grid(folder: Path, arms: Sequence[str] = ("gepa",), **changes: Any) -> Bench:
    data = folder / "pears.jsonl"
    data.write_text("\n".join(json.dumps(item) for item in ITEMS), encoding="utf-8")
    roles = {"model": f"scripted:{MODELS}:task", "optimizer-model": f"scripted:{MODELS}:optimizer"}
    content: dict[str, Any] = {
        "name": "pears",
        "arms": list(arms),
        "prompt": SEED,
        "rows": {"train": 20, "dev": 15, "test": 30},
        "search_calls": CALLS,
        "options": {**roles, "metric": "numeric"},
        "tasks": [{"name": "pears", "data": str(data)}],
    }
    return make_bench(content | changes)


async def finish(home: Path, bench: Bench, python: Path | None = None) -> BenchResult:
    env = Environment(home, peers_python=python, harmless=read_environment().harmless)
    async with open_bench(bench, env=env) as run:
        result = await run.wait()
    assert isinstance(result, BenchResult)
    return result


async def one(home: Path, **changes: Any) -> CellRow:
    return (await finish(home, grid(home, **changes))).rows[0]


async def test_a_search_ends_at_the_cap_with_the_best_prompt_that_was_reported(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH + ON, encoding="utf-8")
    row = await one(tmp_path)
    assert (row.status, row.reason) == ("completed", f"its {CALLS} search calls are used up")
    assert (row.calls, row.optimizer_calls) == (CALLS, 0)
    assert row.roles is not None
    assert {name: each.calls for name, each in row.roles.items()} == {"task": CALLS}
    assert row.prompt == "Give the number, the number, the number.\n\n{input}"
    assert (row.seed_dev, row.seed_test, row.seed_was_best) == (0.0, 0.0, False)
    assert row.dev is not None
    assert row.test is not None
    assert row.curve == ((15, 0.0), (30, row.dev))
    assert (row.calls_to_100, row.words, row.test_n) == (30, 8, 30)
    assert 0.5 < row.test < 1.0
    assert row.usage is not None
    assert row.usage.calls == CALLS + 2 * 30 - (CALLS - 30 - 20)  # of the calls after the report, 20 are different


async def test_names_in_braces_that_a_model_invents_are_text(tmp_path: Path, programs: Path) -> None:
    invented = SEARCH.replace("the number.", "the number as {second_letter}.")
    (programs / "run_gepa.py").write_text(PROGRAM + invented, encoding="utf-8")
    row = await one(tmp_path)
    assert (row.status, row.prompt) == (
        "completed",
        "Give the number, the number, the number as {{second_letter}}.\n\n{input}",
    )
    assert row.test is not None


async def test_the_seed_prompt_is_the_result_of_a_search_that_the_cap_ends_early(
    tmp_path: Path, programs: Path
) -> None:
    begin = "\njob = read_job()\njob.report(job.prompt, None, seed=True)\n"
    (programs / "run_gepa.py").write_text(PROGRAM + begin + ON, encoding="utf-8")
    row = await one(tmp_path, search_calls=10)
    assert (row.status, row.calls, row.seed_was_best, row.seed_dev, row.dev) == ("completed", 10, True, None, None)
    assert (row.prompt, row.test, row.seed_test, row.curve) == (SEED, 0.0, 0.0, ())


async def test_a_search_that_ends_by_itself_keeps_its_calls(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH, encoding="utf-8")
    row = await one(tmp_path)
    assert (row.status, row.reason, row.calls) == ("completed", "it ended by itself after 30 calls", 30)


async def test_what_a_program_had_reported_counts_when_it_fails(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH + "\nraise ValueError('no sample')\n", encoding="utf-8")
    result = await finish(tmp_path, grid(tmp_path))
    row, why = result.rows[0], "its process ended with status 1 after 30 calls"
    assert (row.status, row.reason, row.error) == ("completed", why, "ValueError: no sample")
    assert result.notes == (f"pears.gepa.-.-.0: {why}: ValueError: no sample",)


async def test_a_program_without_a_report_fails_alone_and_says_why(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text("import no_such_package\n", encoding="utf-8")
    result = await finish(tmp_path, grid(tmp_path, ["lpo", "gepa"]))
    ours, theirs = result.rows
    assert (ours.status, theirs.status) == ("completed", "failed")
    assert theirs.reason == "gepa reported no prompt: its process ended with status 1 after 0 calls"
    assert theirs.error == "ModuleNotFoundError: No module named 'no_such_package'"


async def test_a_process_is_ended_when_its_time_is_over(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH + "\nimport time\ntime.sleep(600)\n", encoding="utf-8")
    row = await one(tmp_path, peer_seconds=4)
    assert row.reason == "its process was ended after 4 s and 30 calls"
    assert row.status == "completed"


async def test_ours_and_a_peer_are_compared_on_the_same_items(tmp_path: Path, programs: Path) -> None:
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH + ON, encoding="utf-8")
    result = await finish(tmp_path, grid(tmp_path, ["lpo", "gepa"], search_calls=120))
    assert result.reference == "lpo/enforce"
    assert [(each.base, each.delta.n) for each in result.against] == [("seed prompt", 30), ("gepa", 30)]
    assert {(each.method, each.delta.n) for each in result.gains} == {("lpo", 30), ("gepa", 30)}
    page = to_markdown(result)
    assert "## lpo/enforce against the others" in page
    assert "`pears.gepa.-.-.0`" in page
    assert "```text\nGive the number, the number, the number.\n\n{input}\n```" in page
    (line,) = [line for line in page.splitlines() if line.startswith("| gepa") and line.count("|") == 10]
    calls, optimizer, words = (cell.strip() for cell in line.split("|")[3:6])
    assert (int(calls), optimizer, words) == (result.rows[1].calls, "0", "8")
    assert "optimizer_calls" in to_csv(result).splitlines()[0]


async def test_a_stored_row_is_not_run_again(tmp_path: Path, programs: Path) -> None:
    fails = "\nif job.seed == 1:\n    raise SystemExit('not now')\n"
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH.replace("\nif", f"{fails}if", 1), encoding="utf-8")
    first = await finish(tmp_path, grid(tmp_path, seeds=[0, 1]))
    assert [row.status for row in first.rows] == ["completed", "failed"]
    stored = await read_run(first.rows[0].run_id, env=Environment(tmp_path))
    assert (stored.kind, stored.status, stored.result) == ("peer", "completed", None)
    assert f"its benchmark has its result: lpo show {first.run_id}" in (stored.unreadable or "")
    end = "\nif job.seed == 0:\n    raise SystemExit('again')\n"
    (programs / "run_gepa.py").write_text(PROGRAM + SEARCH.replace("\nif", f"{end}if", 1), encoding="utf-8")
    async with open_resumed(first.run_id, env=Environment(tmp_path)) as again:
        second = await again.wait()
    assert isinstance(second, BenchResult)
    assert second.rows[0] == first.rows[0]
    assert (second.rows[1].status, second.rows[1].calls) == ("completed", 30)


async def test_a_program_sees_no_keys_and_dies_with_the_run(tmp_path: Path, programs: Path) -> None:
    (programs / "look.py").write_text(
        "import json, os, pathlib, time\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "(place / 'seen.tmp').write_text(json.dumps([os.getpid(), dict(os.environ)]))\n"
        "(place / 'seen.tmp').rename(place / 'seen.json')\n"
        "time.sleep(600)\n",
        encoding="utf-8",
    )
    environment = read_environment({"PATH": os.environ["PATH"], "OPENAI_API_KEY": "secret", "LPO_HOME": str(tmp_path)})
    program = Program("look", None, environment.harmless)
    seen = anyio.Path(tmp_path / "seen.json")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(program.run, {}, until=(), seconds=600))
        with anyio.fail_after(60):
            while not await seen.exists():  # noqa: ASYNC110 - another process makes it
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    pid, variables = json.loads(await seen.read_text())
    assert "secret" not in str(variables)
    assert str(tmp_path) != variables["HOME"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_last_line_of_an_error_is_what_is_told() -> None:
    assert Ended(1, "Traceback\n  File\nValueError: no\n\n").last_line == "ValueError: no"
    assert Ended(1, "").last_line == "it wrote nothing to standard error"


async def test_a_missing_package_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    peer = Peer("other", "run_other", ("json", "no_such_package"))
    with pytest.raises(ConfigError, match=r"other: no_such_package is not installed.*pip install 'lpo-agent\[peers\]'"):
        await check_installed([peer], None)
    with pytest.raises(ConfigError, match=r"LPO_PEERS_PYTHON: .*cannot be run"):
        await check_installed([peer], tmp_path / "python")
    await check_installed([Peer("other", "run_other", ("json",))], None)


def test_a_peer_has_one_cell_for_each_task_and_seed(tmp_path: Path) -> None:
    bench = grid(tmp_path, ["lpo", "pe2", "capo"], localities=["off", "nudge"], seeds=[0, 1])
    mine = [cell for cell in cells(bench) if cell.method == "capo"]
    assert [cell.name for cell in mine] == ["pears.capo.-.-.0", "pears.capo.-.-.1"]
    assert {arm_key(cell) for cell in cells(bench)} == {"lpo/enforce", "pe2/off", "pe2/nudge", "capo"}


def test_the_specification_of_a_peer_holds_what_all_arms_share(tmp_path: Path) -> None:
    options = {**grid(tmp_path).options, "steps": 7, "max-tokens": 9, "temperature": 0.5}
    bench = grid(tmp_path, ["gepa"], options=options)
    (cell,) = cells(bench)
    spec = cell_spec(bench, cell)
    assert (spec.steps, spec.max_tokens, spec.temperature, spec.prompt) == (None, 9, 0.5, SEED)


def test_the_plan_counts_the_cap_and_the_test(tmp_path: Path) -> None:
    plan = plan_bench(grid(tmp_path, ["gepa", "capo"]))
    assert (plan.cells, plan.calls_low, plan.calls_high) == (2, 2 * 60, 2 * (CALLS + 60))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_calls": None}, "search_calls is needed with gepa"),
        ({"options": {"model": "openai:x", "gepa": {"steps": 1}}}, "gepa runs with the defaults of its package"),
        ({"methods": ["lpo"]}, "give methods or arms"),
        ({"arms": ["gepa", "copro"]}, "known are .*dspy-mipro"),
    ],
)
def test_wrong_grids_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(tmp_path, **changes)


@pytest.mark.parametrize("words", [["--arms", "ape,gepa"], ["--methods", "ape", "--set", "peers=gepa,capo"]])
def test_arms_can_be_named_on_the_command_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    more = ["--localities", "off", "--search-calls", "100", "--tasks", "orders", "--dry-run", "--json"]
    assert main(["bench", "smoke", *words, *more]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == (2 if "--arms" in words else 3)


def job(prompt: str) -> Job:
    return Job("gepa", "", "", prompt, (), (), (), None, 0, 1, 8, 0.0)


@pytest.mark.parametrize(
    ("prompt", "bare"),
    [
        ("Say it.\n\n{input}\n", "Say it."),
        ("Text: {input}\nLabel it, as {{a}}.", "Text: `input`\nLabel it, as {a}."),
        ("{context}\n{question}\nAnswer.", "Answer."),
        ("Just say it.", "Just say it."),
    ],
)
def test_a_seed_prompt_without_its_placeholders(prompt: str, bare: str) -> None:
    assert job(prompt).bare_prompt == bare


def test_a_row_is_shown_as_one_text() -> None:
    assert Row("a", {"input": "pears"}).shown == "pears"
    assert Row("a", {"question": "How many?", "context": "Two."}).shown == "question: How many?\ncontext: Two."


def python_with(peer: Peer) -> Path | None:
    """Return the Python that has the peer's packages, if there is one, else skip the test."""
    given = os.environ.get("LPO_PEERS_PYTHON")
    if given is None:
        missing = [name for name in peer.modules if importlib.util.find_spec(name) is None]
        found = given
    else:
        code = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
        done = subprocess.run([given, "-c", code, *peer.modules], check=True, capture_output=True, text=True)
        missing, found = done.stdout.split(), given
    if missing:
        place = found or sys.executable
        pytest.skip(f"{', '.join(missing)} is not installed in {place}: pip install 'lpo-agent[peers]'")
    return None if found is None else Path(found)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the other packages know nothing of it
@pytest.mark.parametrize(
    ("name", "calls"),
    [("gepa", 150), ("dspy-gepa", 150), ("dspy-mipro", 250), ("capo", 700)],
)
async def test_the_real_packages_find_the_better_prompt(tmp_path: Path, name: str, calls: int) -> None:
    python = python_with(PEERS[name])
    result = await finish(tmp_path, grid(tmp_path, [name], search_calls=calls), python)
    (row,) = result.rows
    assert (row.status, result.notes) == ("completed", ())
    assert row.calls is not None
    assert row.calls <= calls
    assert row.optimizer_calls
    assert row.prompt is not None
    assert "the number, the number" in row.prompt
    assert (row.seed_test, row.test) == (0.0, 0.9)
    assert row.curve
