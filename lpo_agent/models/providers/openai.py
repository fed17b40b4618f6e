"""Models that speak OpenAI's chat completions protocol: those of OpenAI itself and of compatible servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from pydantic import BaseModel

from lpo_agent.errors import RequestRejected
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.providers.base import Connection, Traits
from lpo_agent.models.providers.http import Endpoint, broken_reply, missing_key, open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from lpo_agent.models.base import Call

DEFAULT_URL = "https://api.openai.com/v1"


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


@dataclass(slots=True)
class OpenAIModel:
    """A model behind the chat completions protocol. Use as ``async with``.

    ``base_url``: the server's address, None for OpenAI's, which needs an ``api_key``. ``on_headers`` is
    called with the rate limit headers of each response. ``timeout``: seconds for one call, None for a
    time that grows with ``max_tokens``. ``known_as`` and ``weights`` (a hash) replace name and address
    where the model is not one of the provider ``openai:``, such as a local one.

    Entering the context raises AuthError if a key is needed and missing.
    """

    model: str
    api_key: str | None = None
    base_url: str | None = None
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    timeout: float | None = None
    known_as: str | None = None
    weights: str | None = None
    _endpoint: Endpoint = field(init=False)

    @property
    def name(self) -> str:
        """``known_as`` if given, else ``openai:NAME``."""
        return self.known_as or f"openai:{self.model}"

    @property
    def identity(self) -> dict[str, object]:
        """The weights if they are known, else the address."""
        return {"weights": self.weights} if self.weights else {"url": self.base_url or DEFAULT_URL}

    async def __aenter__(self) -> Self:
        if self.api_key is None and self.base_url is None:
            raise missing_key("openai")
        import openai  # noqa: PLC0415 - the import takes most of a second

        client = openai.AsyncOpenAI(
            api_key=self.api_key or "none",
            base_url=self.base_url or DEFAULT_URL,
            max_retries=0,
            http_client=open_transport(openai, trust_env=self.weights is None),  # no proxy to a local server
        )
        where = self.base_url or DEFAULT_URL
        self._endpoint = Endpoint(client, openai, self.model, where, "/chat/completions", self.on_headers, self.timeout)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._endpoint.client.close()

    async def complete(self, call: Call) -> Completion:
        """Send the call once, without retries, and return the answer; raises ProviderError."""
        answer = await self._endpoint.post(self._body(call), call.max_tokens)
        return _completion(answer, call, self._endpoint.url)

    def _body(self, call: Call) -> dict[str, object]:
        limit = "max_completion_tokens" if self.base_url is None else "max_tokens"
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in call.turns],
            limit: call.max_tokens,
        }
        if call.temperature is not None:
            body["temperature"] = call.temperature
            if call.temperature > 0 and self.weights:
                body["seed"] = call.replicate
        return body


def _completion(content: bytes, call: Call, where: str) -> Completion:
    try:
        reply = _Reply.model_validate_json(content)
    except ValueError:
        raise broken_reply(where) from None
    if not reply.choices:
        raise broken_reply(where, "a reply without choices")
    choice, used = reply.choices[0], reply.usage
    if choice.finish_reason == "content_filter":
        raise RequestRejected(f"{where}: the answer was filtered", unsure=True)
    if choice.message.content is None and choice.finish_reason != "length":
        raise broken_reply(where, "a reply without content")
    usage = call.max_usage if used is None else Usage(used.prompt_tokens, used.completion_tokens)
    return Completion(choice.message.content or "", usage, truncated=choice.finish_reason == "length")


TRAITS: Final = Traits(
    address="https://api.openai.com",
    limit_headers={"x-ratelimit-limit-requests": "requests", "x-ratelimit-limit-tokens": "tokens"},
)


@dataclass(frozen=True, slots=True)
class OpenAI:
    """OpenAI, and every server that speaks its protocol, by ``base_url``."""

    traits: Traits = TRAITS

    def open(self, name: str, connection: Connection) -> OpenAIModel:
        """Return the model; raises AuthError without a key when it is entered."""
        return OpenAIModel(
            name,
            api_key=connection.api_key,
            base_url=connection.base_url,
            on_headers=connection.on_headers,
            timeout=connection.timeout,
        )


PROVIDER: Final = OpenAI()
