"""Both SDKs, unchanged, against a real model: the embedded one behind llama.cpp's own server.

The server is started once for all tests that only need its address. Time-outs are wide, since a busy process
beside it slows the model several times over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from lpo_agent import open_run
from lpo_agent.core.result import RunResult
from lpo_agent.data import read_examples
from lpo_agent.environment import Environment
from lpo_agent.spec import make_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpo_agent.spec import RunSpec

EXAMPLE = Path(__file__).parent.parent.parent / "lpo_agent" / "examples" / "orders"

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def served(weights: Path) -> Iterator[str]:
    """Serve the model once, from a thread of its own, so that tests on asyncio and on trio can ask it."""
    from lpo_agent.models.providers.local import llama_server  # noqa: PLC0415 - needs the extra

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(llama_server(weights, slots=4, context=512)) as url,
    ):
        yield url


def small_run(**model: str) -> RunSpec:
    options = {"branches": 1, "steps": 1, "proposals": 2, "race_items": 4, "max_tokens": 4, "method": "local-search"}
    examples = tuple(read_examples(EXAMPLE / "messages.jsonl")[:10])
    prompt = (EXAMPLE / "prompt.txt").read_text(encoding="utf-8")
    return make_spec({"prompt": prompt, "examples": examples, "cache": False, **options, **model})


@pytest.mark.parametrize(
    ("anyio_backend", "provider", "path"),
    [
        ("asyncio", "openai", "/v1"),
        ("trio", "anthropic", ""),
        pytest.param("trio", "openai", "/v1", marks=pytest.mark.slow),
        pytest.param("asyncio", "anthropic", "", marks=pytest.mark.slow),
    ],
)
async def test_a_run_through_each_sdk_gives_a_valid_result(
    tmp_path: Path, served: str, provider: str, path: str
) -> None:
    spec = small_run(model=f"{provider}:smollm2", base_url=f"{served}{path}")
    async with open_run(spec, env=Environment(tmp_path)) as run:
        result = await run.wait()
    assert isinstance(result, RunResult)
    assert result.status == "completed"
    assert result.seed.dev is not None
    assert result.seed.dev.unscored == 0
    assert result.usage.calls > 10
    assert result.usage.input_tokens > result.usage.output_tokens > 0
    assert result.usage.usd is None  # nobody knows what this server charges


@pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
async def test_the_embedded_model_runs_by_name(tmp_path: Path, weights: Path) -> None:
    async with open_run(small_run(model=f"local:{weights}"), env=Environment(tmp_path)) as run:
        result = await run.wait()
    assert isinstance(result, RunResult)
    assert result.status == "completed"
    assert result.usage.usd == 0.0
