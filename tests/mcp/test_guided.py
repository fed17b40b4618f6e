"""Tests of guided runs: a client acts as the assistant, and no model is configured."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings
from mcp import Client

from lpo_agent import data as data_files
from lpo_agent.core.result import RunResult
from lpo_agent.environment import Environment
from lpo_agent.journal import open_journal
from lpo_agent.runs.request import read_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.data import Splits

pytestmark = pytest.mark.anyio

EXAMPLES: list[dict[str, str]] = [
    {"input": f"Note {n}: we sold {n} pears.", "target": f"<{n}>"} for n in range(100, 200)
]
PROMPT = "Say something about the note.\n\n{input}"
OLD = Path(__file__).parent / "guided-0.1.0.json"
MODEL = f"scripted:{Path(__file__).parent / 'models.py'}:answer"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Assistant:
    """Plays the assistant: follows "next", marks the first words, proposes, answers as a model would.

    ``sent`` keeps everything that the server sent, as text.
    """

    def __init__(self, client: Client) -> None:
        self.client, self.sent, self.stages = client, [], []  # type: ignore[var-annotated]

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        said = "\n".join(getattr(part, "text", "") for part in result.content)
        self.sent.append(said + json.dumps(result.structured_content))
        assert not result.is_error, said
        content: dict[str, Any] | None = result.structured_content
        assert content is not None
        assert len(json.dumps(content)) < 8_000
        return content

    async def play(self, view: dict[str, Any], until: str = "done") -> dict[str, Any]:
        for _ in range(200):
            self.stages.append(view["stage"])
            if view["stage"] == until:
                return view
            view = await self.move(view)
        raise AssertionError("it never ends")

    async def move(self, view: dict[str, Any]) -> dict[str, Any]:
        run_id = view["run_id"]
        if view["stage"] == "mark":
            words = view["prompt"].split(" ")
            tagged = view["prompt"].replace(" ".join(words[:3]), f"<edit>{' '.join(words[:3])}</edit>", 1)
            return await self.call("submit_marks", run_id=run_id, tagged_prompt=tagged)
        if view["stage"] == "propose":
            texts = ["Be nice about", "Give the number in angle brackets from", "Sing about"]
            candidates = [[{"slot": 1, "text": text}] for text in texts]
            return await self.call("submit_candidates", run_id=run_id, candidates=candidates)
        outputs = [{"item": item["item"], "output": answer(item["text"])} for item in view["items"]]
        return await self.call("submit_outputs", run_id=run_id, outputs=outputs)


def answer(text: str) -> str:
    number = re.findall(r"\d+", text)[-1]
    return f"<{number}>" if "angle brackets" in text else "What a note!"


@asynccontextmanager
async def assistant(home: Path, **settings: Any) -> AsyncIterator[Assistant]:
    async with Client(build_server(Settings(**settings), env=Environment(home))) as client:
        yield Assistant(client)


async def splits_of(home: Path, run_id: str) -> Splits:
    async with open_journal(Environment(home).journal) as journal:
        order = read_request(journal.run(run_id).spec_json)
        return data_files.from_json(journal.get_blob(order.rows))


async def test_a_client_without_a_model_reaches_improved(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        done = await played.play(view)
        run = await played.call("get_run", run_id=done["run_id"])
        whole = (await played.client.read_resource(f"lpo://runs/{done['run_id']}")).contents[0].text  # type: ignore[union-attr]
    assert (done["verdict"], run["verdict"], run["status"]) == ("improved", "improved", "completed")
    assert run["best"]["prompt"] == "Give the number in angle brackets from the note.\n\n{input}"
    assert run["best"]["test"]["mean"] == 1.0
    assert played.stages.count("mark") == 2
    result = RunResult.model_validate_json(whole)
    assert (result.locality.violations, result.method) == (0, "guided")


async def test_wanted_answers_of_dev_and_test_are_never_sent_and_test_inputs_only_at_the_end(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        done = await played.play(view)
    splits = await splits_of(tmp_path, done["run_id"])
    sent = "\n".join(played.sent)
    for row in (*splits.dev, *splits.test):
        assert f'"wanted": "{row.target}"' not in sent
        assert row.target not in sent
    tested = [n for n, said in enumerate(played.sent) if any(row.variables["input"] in said for row in splits.test)]
    briefed = [n for n, stage in enumerate(played.stages) if stage in {"mark", "propose"}]
    assert tested
    assert min(tested) > max(briefed)


async def test_marks_that_change_the_prompt_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        view = await played.play(view, until="mark")
        for bad in ("<edit>Say</edit> anything.", "no tags", PROMPT.replace("{input}", "<edit>{input}</edit>")):
            result = await played.client.call_tool("submit_marks", {"run_id": view["run_id"], "tagged_prompt": bad})
            assert result.is_error
            assert "cannot be used" in result.content[0].text  # type: ignore[union-attr]
        wrong = await played.client.call_tool("submit_candidates", {"run_id": view["run_id"], "candidates": [[]]})
        assert "call submit_marks" in wrong.content[0].text  # type: ignore[union-attr]
        done = await played.play(view)
    assert done["verdict"] == "improved"


async def test_candidates_that_break_the_prompt_are_refused(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        view = await played.play(view, until="propose")
        for text, slot in (("{other}", 1), ("<edit>x</edit>", 1), ("fine", 9)):
            fills = {"run_id": view["run_id"], "candidates": [[{"slot": slot, "text": text}]]}
            result = await played.client.call_tool("submit_candidates", fills)
            assert "no candidate is usable" in result.content[0].text  # type: ignore[union-attr]


async def test_a_guided_run_survives_the_server(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        view = await played.play(view, until="propose")
    async with assistant(tmp_path) as played:
        seen = await played.call("get_run", run_id=view["run_id"])
        assert (seen["status"], seen["kind"]) == ("running", "guided")
        again = await played.call("next_inputs", run_id=view["run_id"])
        assert {key: again[key] for key in ("stage", "prompt", "failures")} == {
            key: view[key] for key in ("stage", "prompt", "failures")
        }
        assert (await played.play(again))["verdict"] == "improved"


async def test_answers_for_other_items_are_refused(tmp_path: Path) -> None:
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        outputs = [{"item": "0" * 16, "output": "<100>"}]
        result = await played.client.call_tool("submit_outputs", {"run_id": view["run_id"], "outputs": outputs})
        assert "none of these items" in result.content[0].text  # type: ignore[union-attr]


async def test_with_a_task_model_only_marking_and_proposing_are_guided(tmp_path: Path) -> None:
    examples = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
    async with assistant(tmp_path, models=(MODEL,)) as played:
        view = await played.call(
            "start_guided_run", prompt="Say something.", examples=examples, metric="exact", model=MODEL, steps=1
        )
        assert view["stage"] == "mark"
        view = await played.call("submit_marks", run_id=view["run_id"], tagged_prompt="<edit>Say something</edit>.")
        assert view["stage"] == "propose"
        fills = [[{"slot": 1, "text": "Give the number"}], [{"slot": 1, "text": "Sing"}]]
        view = await played.call("submit_candidates", run_id=view["run_id"], candidates=fills)
    assert (view["stage"], view["verdict"]) == ("done", "improved")
    assert "answer" not in played.stages


async def test_the_calls_of_a_server_side_model_count_for_the_run_and_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPO_TEST_LOG", str(tmp_path / "log"))
    examples = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
    start = {"examples": examples, "metric": "exact", "model": MODEL, "steps": 1}
    async with assistant(tmp_path, models=(MODEL,), server_calls=400) as played:
        view = await played.call("start_guided_run", prompt="Say something.", **start)
        run_id = view["run_id"]
        await played.call("submit_marks", run_id=run_id, tagged_prompt="<edit>Say something</edit>.")
        await played.call("submit_candidates", run_id=run_id, candidates=[[{"slot": 1, "text": "Give the number"}]])
        run = await played.call("get_run", run_id=run_id)
        made = len((tmp_path / "log").read_text(encoding="utf-8").split())
        assert 0 < made == run["usage"]["calls"]
        more = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(1_000, 1_400)]
        scored = await played.call("evaluate_prompt", prompt="Say it.", examples=more, wait_seconds=60)
    assert scored["status"] == "stopped"
    assert len((tmp_path / "log").read_text(encoding="utf-8").split()) == 400


async def test_a_guided_run_without_calls_left_says_so_and_can_be_continued_later(tmp_path: Path) -> None:
    examples = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 200)]
    start = {"prompt": "Say something.", "examples": examples, "metric": "exact", "model": MODEL, "steps": 1}
    async with assistant(tmp_path, models=(MODEL,), server_calls=20) as played:
        view = await played.call("start_guided_run", **start)  # 12 calls
        marks = {"run_id": view["run_id"], "tagged_prompt": "<edit>Say something</edit>."}
        await played.call("submit_marks", **marks)
        fills = {"run_id": view["run_id"], "candidates": [[{"slot": 1, "text": "Give the number"}]]}
        refused = await played.client.call_tool("submit_candidates", fills)
        assert "used up" in refused.content[0].text  # type: ignore[union-attr]
    async with assistant(tmp_path, models=(MODEL,)) as played:
        view = await played.call("next_inputs", run_id=view["run_id"])
        assert view["stage"] == "answer"
        assert (await played.play(view))["stage"] == "done"


async def test_a_guided_run_of_version_0_1_0_can_be_continued(tmp_path: Path) -> None:
    """The file is what version 0.1.0 (commit 96c2ff3) wrote after half of the answers to its first candidates."""
    old = json.loads(OLD.read_text(encoding="utf-8"))
    async with open_journal(Environment(tmp_path).journal) as journal:
        assert await journal.put_blob(old["rows"].encode()) == json.loads(old["spec"])["rows"]
        await journal.create_run(old["run_id"], "guided", old["spec"])
        await journal.append(old["run_id"], [("guided", body) for body in old["log"]])
    async with assistant(tmp_path) as played:
        view = await played.call("next_inputs", run_id=old["run_id"])
        assert (view["stage"], view["waiting"], view["items"][0]["item"]) == ("answer", old["waiting"], old["item"])
        done = await played.play(view)
        run = await played.call("get_run", run_id=old["run_id"])
    assert run["best"]["prompt"] == "Give the number in angle brackets from the note.\n\n{input}"
    assert done["verdict"] == run["verdict"]


async def test_a_guided_run_is_visible_to_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = ["alice"]
    monkeypatch.setattr("lpo_mcp.guided_tools.owner_of", lambda: asking[0])
    async with assistant(tmp_path) as played:
        view = await played.call("start_guided_run", prompt=PROMPT, examples=EXAMPLES, metric="exact")
        asking[0] = "bob"
        outputs = {"run_id": view["run_id"], "outputs": [{"item": view["items"][0]["item"], "output": "<100>"}]}
        for tool, arguments in (("next_inputs", {"run_id": view["run_id"]}), ("submit_outputs", outputs)):
            refused = await played.client.call_tool(tool, arguments)
            assert "unknown run_id" in refused.content[0].text  # type: ignore[union-attr]
