"""The preset paper-math against a real server on loopback: its sizes, and the formula for its calls.

The formula stands in lpo_agent/search/methods/beam/counting.py and in the README:
calls = c * (D * K + E) + O for the search, and c * T for each prompt on the test split.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from lpo_agent import open_bench
from lpo_agent.bench.grid import read_bench
from lpo_agent.bench.rows import BenchResult
from lpo_agent.bench.splits import load_splits
from lpo_agent.environment import Environment
from tests.models.fake_server import Asked, Reply, fake_server

DATA = Path(os.environ.get("LPO_BENCH_DATA") or Path(__file__).parents[3] / "shared" / "data")

C, D, T = 2, 100, 20
K = 1 + 4 + 16 + 16
FIRST = 10
"""PE2 looks at ten training items at a time, and every answer of this server is wrong."""
PARENTS = 4
"""Nothing beats the seed prompt, so ties go to the oldest: the seed and its first three children."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of the published sizes; what is in the rows does not matter to the count."""
    for offset, (name, rows) in enumerate((("train", 100), ("dev", 100), ("test", 30))):
        lines = [json.dumps({"input": f"{1000 * offset + n} apples?", "target": str(n)}) for n in range(rows)]
        (tmp_path / "gsm8k").mkdir(exist_ok=True)
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


class Server:
    """Answers as a capable optimizer and as a hopeless task model; counts what it is asked for."""

    def __init__(self) -> None:
        self.number = itertools.count()
        self.kinds: dict[str, int] = {}

    def __call__(self, asked: Asked) -> Reply:
        kind, text = self._answer(asked.text, asked.body["messages"][0]["content"])
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        return Reply(text)

    def _answer(self, text: str, first: str) -> tuple[str, str]:  # noqa: PLR0911 - one line a kind of request
        if text.startswith("Therefore, the answer (arabic numerals) is"):
            return "extract", "none"
        if text.startswith("Q: "):
            return "answer", "Let me see."
        if "Reply with the tagged prompt" in text:
            prompt = first.split("~~~~\n")[1].rstrip("\n")
            return "tag", prompt.replace("think", "<edit>think</edit>", 1)
        if "between <prompt> and </prompt>" in text:
            return "write", f"<prompt>Let's think carefully, way {next(self.number)}.</prompt>"
        if "numbered slots" in text:
            return "write", f'<option><slot number="1">think, way {next(self.number)},</slot></option>'
        if "Think step by step, in at most 150 words" in text:
            return "think", "The prompt is short."
        return "critique", "<reason>it is vague</reason>" if "<reason>" in text else "It is vague."


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # 7,600 calls each; the search itself runs on trio elsewhere
@pytest.mark.parametrize(
    ("method", "locality"),
    [
        ("pe2", "nudge"),
        pytest.param("apo", "off", marks=pytest.mark.slow),
        pytest.param("ape", "think", marks=pytest.mark.slow),
    ],
)
async def test_the_calls_are_those_of_the_formula(tmp_path: Path, data: Path, method: str, locality: str) -> None:
    script = Server()
    bench = read_bench("paper-math")
    with fake_server() as server:
        server.reply_with(script)
        changes = {
            "methods": (method,),
            "localities": (locality,),
            "tasks": bench.tasks[:1],
            "rows": bench.rows | {"test": T},
            "options": bench.options | {"model": "openai:any", "base_url": f"{server.url}/v1", "concurrency": 64},
        }
        bench = bench.model_copy(update=changes)
        splits = load_splits(bench, bench.tasks[0], data)
        assert splits is not None
        assert (len(splits.train), len(splits.dev)) == (100, 100)
        env = Environment(tmp_path, keys={"openai": "k"}, bench_data=data)
        async with open_bench(bench, env=env) as run:
            result = await run.wait()
        calls = len(server.calls)
    assert isinstance(result, BenchResult)
    (row,) = result.rows
    assert row.status == "completed", row.reason
    assert row.candidates == K - 1
    assert (row.seed_was_best, row.best_step) == (True, None)
    thoughts = 0 if locality == "off" else 1
    writes = K - 1
    e = 0 if method == "ape" else FIRST * PARENTS
    o = writes * (1 + thoughts) if method == "ape" else writes * (2 + thoughts)
    assert row.calls == C * (D * K + e) + o
    assert calls == row.calls + C * T
    assert result.usage.calls == calls
    expected = {"answer": D * K + e + T, "extract": D * K + e + T, "write": writes}
    expected |= {{"think": "think", "nudge": "tag"}[locality]: writes} if thoughts else {}
    expected |= {} if method == "ape" else {"critique": writes}
    assert script.kinds == expected


@pytest.mark.benchmark_data
@pytest.mark.parametrize(("preset", "tasks"), [("paper-math", 2), ("paper-bbh", 18)])
def test_the_published_splits_are_read_as_they_are(preset: str, tasks: int) -> None:
    if not (DATA / "gsm8k" / "train.jsonl").exists():
        pytest.skip(f"no benchmark data at {DATA}; set LPO_BENCH_DATA")
    bench = read_bench(preset)
    found = [splits for task in bench.tasks if (splits := load_splits(bench, task, DATA)) is not None]
    assert len(found) == tasks
    sizes = {(len(splits.train), len(splits.dev)) for splits in found}
    assert sizes <= {(100, 100), (50, 50)}
    assert (100, 100) in sizes
