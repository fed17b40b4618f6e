"""Both SDKs, unchanged, against a real model: the embedded one behind llama.cpp's own server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from lpo_agent import open_run
from lpo_agent.core.result import RunResult
from lpo_agent.data import read_examples
from lpo_agent.environment import Environment
from lpo_agent.models.providers.weights import smollm2_path
from lpo_agent.spec import make_spec

if TYPE_CHECKING:
    from lpo_agent.spec import RunSpec

EXAMPLE = Path(__file__).parent.parent.parent / "lpo_agent" / "examples" / "orders"
HOME = Path(os.environ.get("LPO_HOME") or platformdirs.user_state_dir("lpo-agent", appauthor=False))

pytestmark = [pytest.mark.anyio, pytest.mark.local_model]


@pytest.fixture
def weights() -> Path:
    pytest.importorskip("xllamacpp", reason="the local extra is not installed")
    path = smollm2_path(HOME)
    if not path.is_file():
        pytest.skip(f"no model file at {path}; `lpo models pull smollm2` fetches it")
    return path


def small_run(**model: str) -> RunSpec:
    options = {"branches": 1, "steps": 1, "proposals": 2, "race_items": 4, "max_tokens": 8, "method": "local-search"}
    examples = tuple(read_examples(EXAMPLE / "messages.jsonl")[:10])
    prompt = (EXAMPLE / "prompt.txt").read_text(encoding="utf-8")
    return make_spec({"prompt": prompt, "examples": examples, "cache": False, **options, **model})


@pytest.mark.parametrize(("provider", "path"), [("openai", "/v1"), ("anthropic", "")])
async def test_a_run_through_each_sdk_gives_a_valid_result(
    tmp_path: Path, weights: Path, provider: str, path: str
) -> None:
    from lpo_agent.models.providers.local import llama_server  # noqa: PLC0415 - needs the extra

    async with llama_server(weights, slots=4, context=512) as url:
        spec = small_run(model=f"{provider}:smollm2", base_url=f"{url}{path}")
        async with open_run(spec, env=Environment(tmp_path)) as run:
            result = await run.wait()
    assert isinstance(result, RunResult)
    assert result.status == "completed"
    assert result.seed.dev is not None
    assert result.seed.dev.unscored == 0
    assert result.usage.calls > 10
    assert result.usage.input_tokens > result.usage.output_tokens > 0
    assert result.usage.usd is None  # nobody knows what this server charges


async def test_the_embedded_model_runs_by_name(tmp_path: Path, weights: Path) -> None:
    async with open_run(small_run(model=f"local:{weights}"), env=Environment(tmp_path)) as run:
        result = await run.wait()
    assert isinstance(result, RunResult)
    assert result.status == "completed"
    assert result.usage.usd == 0.0
