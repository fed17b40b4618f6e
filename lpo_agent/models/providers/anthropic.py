"""Models that speak Anthropic's messages protocol: those of Anthropic itself and of compatible servers."""

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

DEFAULT_URL = "https://api.anthropic.com"


class _Block(BaseModel):
    type: str
    text: str = ""


class _Usage(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0


class _Reply(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage | None = None


@dataclass(slots=True)
class AnthropicModel:
    """A model behind the messages protocol. Use as ``async with``.

    ``base_url``: the server's address, None for Anthropic's, which needs an ``api_key``. ``on_headers``
    is called with the rate limit headers of each response. ``timeout``: seconds for one call, None for
    a time that grows with ``max_tokens``.

    Entering the context raises AuthError if a key is needed and missing.
    """

    model: str
    api_key: str | None = None
    base_url: str | None = None
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    timeout: float | None = None
    _endpoint: Endpoint = field(init=False)

    @property
    def name(self) -> str:
        """The name as users write it, ``anthropic:NAME``."""
        return f"anthropic:{self.model}"

    @property
    def identity(self) -> dict[str, object]:
        """The server's address."""
        return {"url": self.base_url or DEFAULT_URL}

    async def __aenter__(self) -> Self:
        if self.api_key is None and self.base_url is None:
            raise missing_key("anthropic")
        import anthropic  # noqa: PLC0415 - the import takes most of a second

        client = anthropic.AsyncAnthropic(
            api_key=self.api_key or "none",
            base_url=(self.base_url or DEFAULT_URL).removesuffix("/").removesuffix("/v1"),
            max_retries=0,
            http_client=open_transport(anthropic),
        )
        where = self.base_url or DEFAULT_URL
        self._endpoint = Endpoint(client, anthropic, self.model, where, "/v1/messages", self.on_headers, self.timeout)
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
        system = "\n\n".join(turn.content for turn in call.turns if turn.role == "system")
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": t.role, "content": t.content} for t in call.turns if t.role != "system"],
            "max_tokens": call.max_tokens,
        }
        if system:
            body["system"] = system
        if call.temperature is not None:
            body["temperature"] = call.temperature
        return body


def _completion(content: bytes, call: Call, where: str) -> Completion:
    try:
        reply = _Reply.model_validate_json(content)
    except ValueError:
        raise broken_reply(where) from None
    if reply.stop_reason == "refusal":
        raise RequestRejected(f"{where}: the model refused to answer", unsure=True)
    texts = [block.text for block in reply.content if block.type == "text"]
    if not texts and reply.stop_reason not in {"max_tokens", "end_turn", "stop_sequence"}:
        raise broken_reply(where, "a reply without content")
    return Completion("".join(texts), _usage(reply, call), truncated=reply.stop_reason == "max_tokens")


def _usage(reply: _Reply, call: Call) -> Usage:
    used = reply.usage
    if used is None:
        return call.max_usage
    read = used.input_tokens + (used.cache_creation_input_tokens or 0) + (used.cache_read_input_tokens or 0)
    return Usage(read, used.output_tokens)


TRAITS: Final = Traits(
    address=DEFAULT_URL,
    limit_headers={
        "anthropic-ratelimit-requests-limit": "requests",
        "anthropic-ratelimit-tokens-limit": "tokens",
        "anthropic-ratelimit-input-tokens-limit": "input_tokens",
        "anthropic-ratelimit-output-tokens-limit": "output_tokens",
    },
)


@dataclass(frozen=True, slots=True)
class Anthropic:
    """Anthropic, and every server that speaks its protocol, by ``base_url``."""

    traits: Traits = TRAITS

    def open(self, name: str, connection: Connection) -> AnthropicModel:
        """Return the model; raises AuthError without a key when it is entered."""
        return AnthropicModel(
            name,
            api_key=connection.api_key,
            base_url=connection.base_url,
            on_headers=connection.on_headers,
            timeout=connection.timeout,
        )


PROVIDER: Final = Anthropic()
