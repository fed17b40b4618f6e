"""Tests of a run's cap on calls, counted at the provider: it holds over any number of interruptions and resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

import lpo_agent
from lpo_agent import Environment
from tests.mcp.models import answer_text
from tests.models.fake_server import Asked, FakeServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent import Run

CAP = 150
CONCURRENCY = 8
FULL: dict[str, Any] = {
    "prompt": "Say it.\n\n{input}",
    "examples": [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 300)],
    "metric": "numeric",
    "method": "local-search",
    "model": "openai:any",
    "budget": {"calls": CAP},
}
CHILD = """
import json, sys, anyio, lpo_agent

async def main():
    async with lpo_agent.open_session(model="openai:any", concurrency=8) as session:
        if len(sys.argv) > 2:
            run = await session.resume(sys.argv[2])
        else:
            run = await session.start(lpo_agent.make_spec(json.loads(sys.argv[1])), kind="evaluate")
        print(run.run_id, flush=True)
        await run.wait()

anyio.run(main)
"""


class HeldBack:
    """Answers until a certain call; later calls wait, so that the run is in the middle of them."""

    def __init__(self, provider: FakeServer, first: int) -> None:
        self.provider, self.hold = provider, first
        provider.reply_with(self._reply)

    def _reply(self, asked: Asked) -> Reply:
        return Reply(answer_text(asked.text), held=asked.number >= self.hold)

    def let(self, more: int) -> None:
        """Answer this number of further calls."""
        self.hold = len(self.provider.calls) + more


def environment(home: Path, provider: FakeServer) -> Environment:
    return Environment(home, keys={"openai": "k"}, base_urls={"openai": f"{provider.url}/v1"})


async def interrupt(run: Run[Any], back: HeldBack) -> None:
    """Cancel a run in the middle of its calls."""
    await to_thread.run_sync(back.provider.wait_for_calls, back.hold + CONCURRENCY)
    await run.cancel()
    back.let(20)


@pytest.mark.anyio
async def test_a_sessions_run_keeps_its_cap_over_many_resumes(tmp_path: Path, provider: FakeServer) -> None:
    env, back = environment(tmp_path, provider), HeldBack(provider, 30)
    async with lpo_agent.open_session(model="openai:any", env=env, concurrency=CONCURRENCY) as session:
        run = await session.start(lpo_agent.make_spec(FULL))
        await interrupt(run, back)
        await interrupt(await session.resume(run.run_id), back)
    async with lpo_agent.open_session(model="openai:other", env=env, concurrency=CONCURRENCY) as session:
        await interrupt(await session.resume(run.run_id), back)
    before, back.hold = len(provider.calls), 2 * CAP
    result: Any = await lpo_agent.resume(run.run_id, env=env)
    assert before < len(provider.calls) == result.usage.calls == CAP


@pytest.mark.anyio
async def test_a_stopped_run_keeps_its_cap_when_it_is_resumed(tmp_path: Path, provider: FakeServer) -> None:
    env, back = environment(tmp_path, provider), HeldBack(provider, 25)  # while the seed prompt is scored
    async with lpo_agent.open_session(model="openai:any", env=env, concurrency=CONCURRENCY) as session:
        run = await session.start(lpo_agent.make_spec(FULL))
        await to_thread.run_sync(provider.wait_for_calls, back.hold + CONCURRENCY)
        run.stop()
        back.hold = 2 * CAP
        provider.release()
        assert (await run.wait()).status == "stopped"
        again: Any = await (await session.resume(run.run_id)).wait()
    assert again.usage.calls == len(provider.calls) == CAP  # calls that the stop cut off count too


def test_a_cap_holds_for_a_run_whose_process_is_killed(tmp_path: Path, provider: FakeServer) -> None:
    """Calls in progress are lost with the process, but they count, because they may have been charged.

    There are more items than calls, so an evaluation uses the cap up.
    """
    env = os.environ | {"LPO_HOME": str(tmp_path), "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{provider.url}/v1"}
    back, words = HeldBack(provider, 20), [lpo_agent.make_spec(FULL).model_dump_json()]
    for more in (20, 20, 20, 2 * CAP):
        process = subprocess.Popen([sys.executable, "-c", CHILD, *words], env=env, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        words = [words[0], process.stdout.readline().strip()]
        if more == 2 * CAP:
            break
        provider.wait_for_calls(back.hold + CONCURRENCY)  # all calls in progress, so that none is lost on its way
        process.send_signal(signal.SIGKILL)
        process.communicate()
        back.let(more)
    back.hold = 10 * CAP
    provider.release()
    process.communicate()
    assert process.returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "lpo_agent", "show", words[1], "--json"], env=env, check=True, capture_output=True
    )
    assert b'"status": "stopped"' in shown.stdout
    assert len(provider.calls) == CAP
