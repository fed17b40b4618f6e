"""A fake model provider for benchmarks and experiments: a real HTTP server without a model.

It has OpenAI's chat completions at /v1/chat/completions and Anthropic's messages at /v1/messages. Options set its
latency, limits and faults. GET /stats returns statistics. The answer to a question is the last word of the question,
so that a metric can judge it.

    python scripts/fake_provider.py --port 8900 --latency 0.4 --rps 100
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FAULTS = ("429", "429+", "500", "529", "reset", "hang", "truncated", "empty")
BREAK = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Bucket:
    """A limit per second with a burst, as a provider enforces it; 0 for ``per_second`` means no limit."""

    per_second: float
    burst: float
    level: float = field(init=False)
    last: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self.burst

    def lacks(self, amount: float) -> float:
        """Return the seconds until ``amount`` is available, 0 if it is already."""
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.last) * self.per_second)
        self.last = now
        return 0.0 if not self.per_second else max(0.0, (amount - self.level) / self.per_second)


@dataclass(slots=True)
class Provider:
    """The server's behaviour and its statistics."""

    options: argparse.Namespace
    seen: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    arrivals: deque[float] = field(default_factory=deque)
    in_flight: int = 0
    peak: int = 0
    first: float | None = None
    last: float = 0.0
    arrived: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    requests: Bucket = field(init=False)
    volume: Bucket = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        told = self.options
        self.requests = Bucket(told.rps, told.burst or max(1.0, told.rps / 5))
        self.volume = Bucket(told.tpm / 60, max(told.tpm / 60, 1.0))
        self.rng = random.Random(told.seed)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        body = await request.json()
        text: str = body["messages"][-1]["content"]
        now = time.time()
        self.first = now if self.first is None else self.first
        self.arrived.setdefault(text.rsplit(maxsplit=1)[-1], now)
        self.seen["requests"] += 1
        self.questions[text] += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await self._answer(request, body, text)
        finally:
            self.in_flight -= 1
            self.last = time.time()

    async def _answer(self, request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
        into = sum(len(turn["content"]) for turn in body["messages"]) // 4 + 4
        out = 2
        wait = self._refusal(into + out)
        if wait is not None:
            self.seen["429"] += 1
            return self._refuse(wait)
        if self.rng.random() < self.options.faults:
            return await self._fail(request, self.rng.choice(FAULTS))
        await asyncio.sleep(latency(self.options, text))
        self.seen["answered"] += 1
        self.tokens += into + out
        return web.json_response(_reply(request.path, _answer(text), into, out), headers=self._headers())

    def _refusal(self, tokens: int) -> float | None:
        """Return the seconds to wait if a limit is reached; otherwise count the call in both buckets."""
        if self.options.window:
            now = time.monotonic()
            while self.arrivals and self.arrivals[0] <= now - 1:
                self.arrivals.popleft()
            if len(self.arrivals) >= self.options.rps:
                return self.arrivals[0] + 1 - now
            self.arrivals.append(now)
            return None
        lacks = max(self.requests.lacks(1), self.volume.lacks(min(tokens, self.volume.burst)))
        if lacks > 0:
            return lacks
        self.requests.level -= 1
        self.volume.level -= tokens
        return None

    def _refuse(self, wait: float) -> web.Response:
        headers = self._headers()
        if self.options.retry_after:
            headers["retry-after"] = str(math.ceil(wait))
        return web.json_response(_error("rate limit"), status=429, headers=headers)

    def _headers(self) -> dict[str, str]:
        if not self.options.headers:
            return {}
        names = {"requests": self.options.rps * 60, "tokens": self.options.tpm}
        return {f"x-ratelimit-limit-{name}": str(int(value)) for name, value in names.items() if value}

    async def _fail(self, request: web.Request, fault: str) -> web.StreamResponse:
        self.seen[f"fault {fault}"] += 1
        if fault == "429":
            return web.json_response(_error("slow down"), status=429)
        if fault == "429+":
            return web.json_response(_error("slow down"), status=429, headers={"retry-after": "1"})
        if fault in {"500", "529"}:
            return web.json_response(_error("broken"), status=int(fault))
        if fault == "hang":
            await asyncio.sleep(self.options.hang)
        if fault in {"reset", "hang"}:
            _break(request)
            return web.Response()
        whole = json.dumps(_reply(request.path, "x", 1, 1))
        empty = json.dumps({"choices": [], "content": None})
        return web.Response(text=whole[:40] if fault == "truncated" else empty, content_type="application/json")

    async def stats(self, request: web.Request) -> web.Response:
        """Return the statistics; ``?full`` adds when each question came first; ``?reset`` deletes the times."""
        repeats = sum(self.questions.values()) - len(self.questions)
        body: dict[str, Any] = {"seen": dict(self.seen), "first": self.first, "last": self.last, "repeats": repeats}
        body |= {"peak": self.peak, "in_flight": self.in_flight, "tokens": self.tokens}
        if "full" in request.query:
            body["arrived"] = self.arrived
        if "reset" in request.query:
            self.first = None
        return web.json_response(body)


def latency(options: argparse.Namespace, text: str) -> float:
    """Return the latency of a question in seconds; it is always the same, so that other programs can compute it."""
    base = float(options.latency)
    if options.shape == "constant":
        return base
    rng = random.Random(text)
    factor = rng.lognormvariate(0, 0.3)
    return base * factor * (20 if options.shape == "heavy" and rng.random() < 0.01 else 1)


def _break(request: web.Request) -> None:
    """Reset the connection."""
    if (transport := request.transport) is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BREAK)
        transport.abort()


def _answer(text: str) -> str:
    """Return the last word of the text; for DSPy, the last word of its question in DSPy's format."""
    if "[[ ## answer ## ]]" not in text:
        return text.rsplit(maxsplit=1)[-1]
    question = text.partition("[[ ## question ## ]]")[2].partition("Respond with")[0]
    return f"[[ ## answer ## ]]\n{question.split()[-1]}\n\n[[ ## completed ## ]]"


def _error(message: str) -> dict[str, object]:
    return {"type": "error", "error": {"message": message, "type": "fake", "code": "fake"}}


def _reply(path: str, text: str, into: int, out: int) -> dict[str, object]:
    if path.endswith("/messages"):
        usage = {"input_tokens": into, "output_tokens": out}
        content = [{"type": "text", "text": text}]
        return {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn", "usage": usage}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice], "usage": usage}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--shape", choices=("constant", "lognormal", "heavy"), default="constant")
    parser.add_argument("--rps", type=float, default=0.0, help="requests a second, 0: no limit")
    parser.add_argument("--burst", type=float, default=0.0, help="requests at once (default: a fifth of a second's)")
    parser.add_argument("--window", action="store_true", help="at most --rps in any second, no burst")
    parser.add_argument("--tpm", type=float, default=0.0, help="tokens a minute, 0: no limit")
    parser.add_argument("--headers", action="store_true", help="tell the limits in headers")
    parser.add_argument("--retry-after", action="store_true", help="send it with 429, in whole seconds")
    parser.add_argument("--faults", type=float, default=0.0, help="share of calls that fail in one of many ways")
    parser.add_argument("--hang", type=float, default=600.0, help="seconds that a hanging call hangs")
    parser.add_argument("--seed", type=int, default=0)
    return parser


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    provider = Provider(options)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{path:.*}", provider.handle)
    app.router.add_get("/stats", provider.stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=2048).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(build_parser().parse_args()))
