"""Tests of the providers' adapters: one contract for all, with the real SDKs and a real HTTP server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent.errors import (
    AuthError,
    BrokenReply,
    ProviderError,
    QuotaError,
    RateLimited,
    RequestRejected,
    TransientError,
    UnknownModelError,
    UnreachableError,
)
from lpo_agent.models.base import Call, Turn, Usage
from lpo_agent.models.providers.anthropic import AnthropicModel
from lpo_agent.models.providers.http import retry_after
from lpo_agent.models.providers.local import room
from lpo_agent.models.providers.openai import OpenAIModel
from tests.models.fake_server import Reply, failure, fake_server

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

Adapter = type[OpenAIModel] | type[AnthropicModel]
CALL = Call((Turn("system", "Be brief."), Turn("user", "Say ok.")), max_tokens=7)


@pytest.fixture(params=[OpenAIModel, AnthropicModel])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    kind: Adapter = request.param
    return kind


def address(adapter: Adapter, url: str) -> str:
    return f"{url}/v1" if adapter is OpenAIModel else url


async def test_an_answer_with_its_usage(adapter: Adapter) -> None:
    shown: list[Mapping[str, str]] = []
    with fake_server() as server:
        server.reply_with(Reply("fine", headers={"X-RateLimit-Limit-Requests": "60", "x-other": "1"}))
        async with adapter("m", api_key="k", base_url=address(adapter, server.url), on_headers=shown.append) as model:
            reply = await model.complete(CALL)
        body = server.calls[0].body
    assert (reply.text, reply.usage, reply.truncated) == ("fine", Usage(7, 3), False)
    assert shown == [{"x-ratelimit-limit-requests": "60"}]
    assert (body["max_tokens"], body["temperature"], body["model"]) == (7, 0.0, "m")
    system = body["system"] if adapter is AnthropicModel else body["messages"][0]["content"]
    assert system == "Be brief."
    assert body["messages"][-1] == {"role": "user", "content": "Say ok."}


async def test_no_temperature_is_sent_when_none_is_wanted(adapter: Adapter) -> None:
    with fake_server() as server:
        async with adapter("m", base_url=address(adapter, server.url)) as model:
            await model.complete(Call(CALL.turns, temperature=None))
        assert "temperature" not in server.calls[0].body


async def test_a_cut_answer_says_so(adapter: Adapter) -> None:
    with fake_server() as server:
        server.reply_with(Reply("fi", finish="length" if adapter is OpenAIModel else "max_tokens"))
        async with adapter("m", base_url=address(adapter, server.url)) as model:
            assert (await model.complete(CALL)).truncated


FAILURES: dict[str, tuple[Reply, type[ProviderError], bool, float | None]] = {
    "bad key": (failure(401, "bad key sk-abcdefgh1234"), AuthError, False, None),
    "forbidden": (failure(403), AuthError, False, None),
    "no credit": (failure(429, kind="insufficient_quota"), QuotaError, False, None),
    "low balance": (failure(400, "Your credit balance is too low"), QuotaError, False, None),
    "no model": (failure(404), UnknownModelError, False, None),
    "too long": (failure(400, "too long"), RequestRejected, False, None),
    "unprocessable": (failure(422), RequestRejected, False, None),
    "rate": (failure(429), RateLimited, True, None),
    "rate, wait": (failure(429, headers={"retry-after": "3"}), RateLimited, True, 3.0),
    "rate, wait a bit": (failure(429, headers={"retry-after-ms": "250"}), RateLimited, True, 0.25),
    "error": (failure(500), TransientError, True, None),
    "overloaded": (failure(529, headers={"retry-after": "9"}), TransientError, True, 9.0),
    "reset": (Reply(reset=True), TransientError, True, None),
    "cut off": (Reply(cut=True), TransientError, True, None),
    "not JSON": (Reply(body=b"<html>"), BrokenReply, True, None),
    "empty": (Reply(body={"choices": [], "content": None}), BrokenReply, True, None),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_are_translated_once_and_asked_once(adapter: Adapter, name: str) -> None:
    reply, expected, again, after = FAILURES[name]
    with fake_server() as server:
        server.reply_with(reply)
        async with adapter("m", api_key="sk-secretsecret", base_url=address(adapter, server.url)) as model:
            with pytest.raises(ProviderError) as raised:
                await model.complete(CALL)
        assert len(server.calls) == 1
    assert type(raised.value) is expected
    assert (raised.value.retry is not None) is again
    assert raised.value.retry is None or raised.value.retry.after == after
    assert raised.value.unsure == (name in {"reset", "cut off", "not JSON", "empty"})
    assert "sk-" not in str(raised.value)
    assert "Say ok" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK drops the half-read reply
async def test_a_reply_with_a_wrong_encoding_is_a_temporary_failure(adapter: Adapter) -> None:
    with fake_server() as server:
        server.reply_with(Reply(headers={"content-encoding": "gzip"}))
        async with adapter("m", base_url=address(adapter, server.url)) as model:
            with pytest.raises(TransientError) as raised:
                await model.complete(CALL)
    assert raised.value.unsure
    assert raised.value.retry is not None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("10, 10", 10.0), ("2.5", 2.5), ("inf", None), ("soon, maybe", None), ("", None), ("-1", None)],
)
def test_retry_after_is_read_in_all_forms(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


async def test_a_service_that_does_not_answer_times_out(adapter: Adapter) -> None:
    with fake_server() as server:
        server.reply_with(Reply(held=True))
        async with adapter("m", base_url=address(adapter, server.url), timeout=0.2) as model:
            with pytest.raises(TransientError, match="--timeout") as raised:
                await model.complete(CALL)
        server.release()
    assert raised.value.unsure


async def test_a_lone_surrogate_is_refused_before_it_is_sent(adapter: Adapter) -> None:
    with fake_server() as server:
        async with adapter("m", base_url=address(adapter, server.url)) as model:
            with pytest.raises(RequestRejected, match="lone surrogate"):
                await model.complete(Call((Turn("user", "\ud800"),)))
        assert not server.calls


async def test_an_answer_without_usage_counts_as_the_most_it_can_have_used(adapter: Adapter) -> None:
    bodies = {
        OpenAIModel: {"choices": [{"message": {"content": "x"}}], "usage": None},
        AnthropicModel: {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"},
    }
    with fake_server() as server:
        server.reply_with(Reply(body=bodies[adapter]))
        async with adapter("m", base_url=address(adapter, server.url)) as model:
            reply = await model.complete(CALL)
    assert reply.usage == CALL.max_usage


async def test_an_address_without_a_server(adapter: Adapter) -> None:
    with fake_server() as server:
        url = server.url
    async with adapter("m", base_url=address(adapter, url)) as model:
        with pytest.raises(UnreachableError, match="nothing answers"):
            await model.complete(CALL)


async def test_a_missing_key_is_noticed_before_any_call(adapter: Adapter) -> None:
    with pytest.raises(AuthError, match="_API_KEY"):
        async with adapter("m"):
            pass


async def test_a_cancelled_call_leaves_the_server(adapter: Adapter) -> None:
    with fake_server() as server:
        server.reply_with(Reply(held=True))
        async with adapter("m", base_url=address(adapter, server.url)) as model, anyio.create_task_group() as tasks:
            tasks.start_soon(model.complete, CALL)
            await anyio.to_thread.run_sync(server.wait_for_calls, 1)
            tasks.cancel_scope.cancel()
        with contextlib.suppress(TimeoutError):
            server.wait_for_hang_up()
        assert server.hung_up == 1


@pytest.mark.parametrize(("concurrency", "slots", "context"), [(128, 16, 1024), (4, 4, 4096), (1, 1, 16384)])
def test_a_local_model_has_longer_contexts_with_fewer_calls_at_a_time(
    concurrency: int, slots: int, context: int
) -> None:
    assert room(concurrency) == (slots, context)
