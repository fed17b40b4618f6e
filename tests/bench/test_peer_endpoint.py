"""Tests of the counting endpoint with the OpenAI SDK, and of the HTTP server below it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import openai
import pytest
from anyio import to_thread

from lpo_agent.agents.scorer import Scorer
from lpo_agent.bench.peers.endpoint import Endpoint, open_endpoint
from lpo_agent.bench.peers.metering import Counts, Meter, Metered
from lpo_agent.core.messages import Row
from lpo_agent.errors import AuthError, BudgetExceeded, RequestRejected
from lpo_agent.metrics import as_metric
from lpo_agent.models.base import Call, Completion, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio


@dataclass
class Echo:
    """Answers with the last message and the number of the sample."""

    problem: Exception | None = None

    async def complete(self, call: Call) -> Completion:
        await anyio.lowlevel.checkpoint()
        if self.problem is not None:
            raise self.problem
        limit = "" if call.max_tokens == 8 else f" within {call.max_tokens}"
        return Completion(f"{call.turns[-1].content} #{call.replicate}{limit}", Usage(10, 2), truncated=False)


def endpoint_of(cap: int = 100, problem: Exception | None = None) -> Endpoint:
    meter = Meter(cap)
    models = {role: Metered(Echo(problem), meter, role) for role in ("task", "optimizer")}
    scorer = Scorer(models["task"], as_metric("contains"))
    rows = {"train-0": Row(id="train-0", variables={"input": "pears"}, target="pears")}
    return Endpoint(models, scorer, meter, rows, {"task": 8, "optimizer": 8})


@asynccontextmanager
async def client_of(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    """Yield a function that makes a request with the OpenAI SDK in a thread."""
    async with open_endpoint(endpoint) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=endpoint.token, max_retries=0) as client:

            async def ask(text: str = "hello", **more: Any) -> Any:
                messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
                arguments = {"model": "task", "messages": messages, "temperature": 0.0} | more
                return await to_thread.run_sync(partial(client.chat.completions.create, **arguments))

            yield ask


def post(url: str, token: str, path: str, body: object) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


async def test_calls_and_tokens_are_counted_by_role() -> None:
    endpoint = endpoint_of()
    async with client_of(endpoint) as ask:
        reply = await ask()
        await ask(model="optimizer", max_tokens=5)
    assert reply.choices[0].message.content == "hello #0"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 2)
    assert endpoint.meter.roles == {"task": Counts(1, 10, 2), "optimizer": Counts(1, 10, 2)}
    assert endpoint.meter.taken == 2


async def test_the_limit_of_an_answer_is_that_of_the_request_or_of_the_role() -> None:
    async with client_of(endpoint_of()) as ask:
        texts = [(await ask(**more)).choices[0].message.content for more in ({}, {"max_tokens": 5})]
        texts.append((await ask(max_completion_tokens=7)).choices[0].message.content)
    assert texts == ["hello #0", "hello #0 within 5", "hello #0 within 7"]


async def test_several_choices_are_several_calls() -> None:
    endpoint = endpoint_of()
    async with client_of(endpoint) as ask:
        reply = await ask(n=3, temperature=0.7)
    assert [choice.message.content for choice in reply.choices] == ["hello #0", "hello #1", "hello #2"]
    assert endpoint.meter.taken == 3


async def test_a_repeated_request_counts_and_is_another_sample_unless_its_temperature_is_0() -> None:
    endpoint = endpoint_of()
    async with client_of(endpoint) as ask:
        warm = [(await ask(temperature=1.0)).choices[0].message.content for _ in range(2)]
        cold = [(await ask()).choices[0].message.content for _ in range(2)]
    assert (warm, cold) == (["hello #0", "hello #1"], ["hello #0", "hello #0"])
    assert endpoint.meter.taken == 4


async def test_the_call_beyond_the_cap_is_refused_for_good() -> None:
    endpoint = endpoint_of(cap=2)
    async with client_of(endpoint) as ask:
        await ask()
        await ask(model="optimizer")
        assert not endpoint.meter.spent.is_set()
        with pytest.raises(openai.PermissionDeniedError, match="2 search calls are used up"):
            await ask()
    assert endpoint.meter.spent.is_set()
    assert (endpoint.meter.taken, endpoint.failure) == (2, None)


async def test_exactly_the_cap_is_answered_however_many_ask_at_once() -> None:
    endpoint = endpoint_of(cap=7)
    async with open_endpoint(endpoint) as url:
        ask = partial(post, url, endpoint.token, "/answer", {"prompt": "Say {input}", "row": "train-0"})

        def ask_all() -> list[int]:
            with ThreadPoolExecutor(16) as pool:
                return [status for status, _ in pool.map(lambda _: ask(), range(40))]

        statuses = await to_thread.run_sync(ask_all)
    assert sorted(statuses) == [200] * 7 + [403] * 33
    assert endpoint.meter.taken == 7


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"stream": True}, "not streamed"),
        ({"model": "gpt-5"}, "model: Input should be 'task' or 'optimizer'"),
        ({"messages": []}, "messages"),
    ],
)
async def test_requests_that_it_does_not_serve_are_refused_without_a_call(more: dict[str, Any], error: str) -> None:
    endpoint = endpoint_of()
    async with client_of(endpoint) as ask:
        with pytest.raises(openai.BadRequestError, match=error):
            await ask(**more)
    assert endpoint.meter.taken == 0


async def test_nobody_without_the_token_is_answered() -> None:
    endpoint = endpoint_of()
    async with open_endpoint(endpoint) as url:
        status, body = await to_thread.run_sync(post, url, "guessed", "/v1/chat/completions", {})
    assert (status, body["error"]["message"]) == (401, "the token is missing or wrong")


async def test_rows_are_answered_and_judged_by_us_and_test_rows_are_not_there() -> None:
    endpoint = endpoint_of()
    async with open_endpoint(endpoint) as url:
        send = partial(post, url, endpoint.token)
        answered = await to_thread.run_sync(send, "/answer", {"prompt": "Say {input}", "row": "train-0"})
        judged = await to_thread.run_sync(send, "/judge", {"row": "train-0", "output": "apples"})
        unknown = await to_thread.run_sync(send, "/judge", {"row": "test-0", "output": "apples"})
        missing = await to_thread.run_sync(send, "/rows", {})
    assert answered[0] == 200
    assert (answered[1]["output"], answered[1]["score"]) == ("Say pears #0 within 256", 1.0)
    assert (judged[0], judged[1]["score"]) == (200, 0.0)
    assert (unknown[0], missing[0]) == (400, 404)
    assert endpoint.meter.taken == 1


async def test_reports_are_kept_with_the_number_of_calls_at_that_time() -> None:
    endpoint = endpoint_of()
    async with open_endpoint(endpoint) as url:
        send = partial(post, url, endpoint.token)
        await to_thread.run_sync(send, "/report", {"prompt": "a", "score": 0.5, "seed": True})
        await to_thread.run_sync(send, "/answer", {"prompt": "Say {input}", "row": "train-0"})
        await to_thread.run_sync(send, "/report", {"prompt": "b", "score": 0.7, "calls": 99})
    assert [(each.prompt, each.score, each.seed, each.calls) for each in endpoint.reports] == [
        ("a", 0.5, True, 0),
        ("b", 0.7, False, 1),
    ]


async def test_a_request_that_the_model_refuses_does_not_end_the_search() -> None:
    endpoint = endpoint_of(problem=RequestRejected("too long"))
    async with client_of(endpoint) as ask:
        with pytest.raises(openai.BadRequestError, match="too long"):
            await ask()
    assert (endpoint.failure, endpoint.meter.spent.is_set()) == (None, False)


@pytest.mark.parametrize("problem", [AuthError("the key is refused"), BudgetExceeded("150 calls are spent")])
async def test_an_error_that_ends_all_calls_ends_the_search(problem: Any) -> None:
    endpoint = endpoint_of(problem=problem)
    async with client_of(endpoint) as ask:
        with pytest.raises(openai.PermissionDeniedError, match=str(problem)):
            await ask()
    assert endpoint.failure is problem
    assert endpoint.meter.spent.is_set()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{x", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\n\r\n", 401),
    ],
)
async def test_what_is_no_request_for_it_gets_a_status_that_says_so(request_bytes: bytes, status: int) -> None:
    def send(address: str) -> bytes:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            sock.sendall(request_bytes)
            return sock.recv(65536)

    async with open_endpoint(endpoint_of()) as url:
        reply = await to_thread.run_sync(send, url)
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
