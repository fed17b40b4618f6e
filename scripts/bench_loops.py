"""The loops that scripts/bench_engine.py compares, each in a new process. Arguments: KIND URL CALLS WIDTH."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = "Answer the question with its last word only, please.\n\n{input}"
FILLER = "lorem ipsum " * 20


def question(number: int) -> str:
    """Return one item's question."""
    return PROMPT.replace("{input}", f"{FILLER}q{number}")


async def loop(url: str, calls: int, width: int, *, fast: bool) -> float:
    """Make calls with the OpenAI SDK: its fast path (the request method, on aiohttp), or its typed methods."""
    import httpx2
    import openai

    numbers = iter(range(calls))
    transport = openai.DefaultAioHttpClient() if fast else None
    async with openai.AsyncOpenAI(api_key="x", base_url=f"{url}/v1", max_retries=0, http_client=transport) as client:

        async def worker() -> None:
            for number in numbers:
                messages: Any = [{"role": "user", "content": question(number)}]
                if fast:
                    body = {"model": "fake", "messages": messages, "max_tokens": 16, "temperature": 0.0}
                    reply = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                    json.loads(reply.content)
                else:
                    await client.chat.completions.create(model="fake", messages=messages, max_tokens=16, temperature=0)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(width)))
        return calls / (time.perf_counter() - began)


def gepa_speed(url: str, calls: int, width: int) -> float:
    """Evaluate with GEPA's default adapter."""
    from gepa.adapters.default_adapter.default_adapter import DefaultAdapter

    options = {"api_base": f"{url}/v1", "api_key": "x", "max_tokens": 16}
    adapter = DefaultAdapter(model="openai/fake", max_litellm_workers=width, litellm_batch_completion_kwargs=options)
    batch = [{"input": f"{FILLER}q{n}", "additional_context": {}, "answer": f"q{n}"} for n in range(calls)]
    began = time.perf_counter()
    done = adapter.evaluate(batch, {"system_prompt": PROMPT.split("\n", maxsplit=1)[0]})
    assert sum(done.scores) == calls
    return calls / (time.perf_counter() - began)


def dspy_speed(url: str, calls: int, width: int, *, cache: bool) -> float:
    """Evaluate a one-step DSPy program; by default DSPy uses its own cache of answers."""
    import dspy

    dspy.configure(lm=dspy.LM("openai/fake", api_base=f"{url}/v1", api_key="x", cache=cache))
    signature = dspy.Signature("question -> answer", PROMPT.split("\n", maxsplit=1)[0])
    items = [dspy.Example(question=f"{FILLER}q{n}", answer=f"q{n}").with_inputs("question") for n in range(calls)]
    evaluate = dspy.Evaluate(devset=items, num_threads=width, metric=lambda e, p, _=None: e.answer == p.answer)
    began = time.perf_counter()
    assert float(evaluate(dspy.Predict(signature)).score) == 100
    return calls / (time.perf_counter() - began)


async def branches(url: str, steps: int, width: int) -> tuple[float, float, float]:
    """Run branches of dependent steps through the engine.

    Return the seconds it took, those of the critical path (the longest branch, each step as long as
    its slowest call), and those it would take if all branches waited for each other after each step.
    """
    from fake_provider import build_parser, latency

    from lpo_agent.agents.scorer import Scorer, place
    from lpo_agent.bus.memory import MemoryBus
    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.messages import SCORE
    from lpo_agent.core.messages import Row as Item
    from lpo_agent.environment import Environment
    from lpo_agent.journal import open_journal
    from lpo_agent.metrics import as_metric
    from lpo_agent.models.billing import Billing
    from lpo_agent.models.middleware import compose
    from lpo_agent.models.pool import Rates, open_pool
    from lpo_agent.models.prices import load_prices
    from lpo_agent.models.ratelimit.limiter import Limits
    from lpo_agent.search.scoring import Scoring

    told = build_parser().parse_args(["--latency", "0.1", "--shape", "heavy"])
    items = [Item(id=str(n), variables={"input": f"q{n}"}, target=f"q{n}") for n in range(12)]
    texts = [[f"Branch {b}, step {s}." for s in range(steps)] for b in range(width)]
    longest = [
        [max(latency(told, place(text, item.variables, "before")[0].content) for item in items) for text in branch]
        for branch in texts
    ]
    with tempfile.TemporaryDirectory() as folder:
        env = Environment(Path(folder))
        async with (
            open_journal(env.journal) as journal,
            MemoryBus() as bus,
            open_pool(env, Rates(Limits(rpm=1e9)), say=print) as pool,
        ):
            shared = await pool.named("openai:fake", f"{url}/v1")
            billing = Billing((Ledger(),), load_prices())
            model = compose(shared, journal, billing, run_id="bench", cache=True, allowance=None)
            scorer = Scorer(model, as_metric("exact", labels=(), judge=None), max_tokens=16)
            serving = asyncio.create_task(bus.serve(SCORE, scorer.score, concurrency=128))
            scoring = Scoring(bus, in_flight=128)

            async def branch(number: int) -> None:
                for text in texts[number]:
                    await scoring.score(text, items)

            await scoring.score("Warm up.", items)
            began = time.perf_counter()
            await asyncio.gather(*(branch(number) for number in range(width)))
            took = time.perf_counter() - began
            serving.cancel()
    return took, max(map(sum, longest)), sum(max(b[s] for b in longest) for s in range(steps))


def as_child(kind: str, url: str, calls: int, width: int) -> None:
    """Run one loop and print what it measured."""
    loops: dict[str, Callable[[], object]] = {
        "bare": lambda: asyncio.run(loop(url, calls, width, fast=True)),
        "gather": lambda: asyncio.run(loop(url, calls, width, fast=False)),
        "gepa": lambda: gepa_speed(url, calls, width),
        "dspy": lambda: dspy_speed(url, calls, width, cache=True),
        "dspy without its cache": lambda: dspy_speed(url, calls, width, cache=False),
        "branches": lambda: asyncio.run(branches(url, calls, width)),
    }
    print(json.dumps(loops[kind]()))


if __name__ == "__main__":
    as_child(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
