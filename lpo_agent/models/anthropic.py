"""Models behind Anthropic's messages protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from lpo_agent.core.retry import Retry
from lpo_agent.errors import RequestRejected, TransientError
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.http import TIMEOUT, missing_key, on_asyncio, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from lpo_agent.models.base import Call

HOME = "https://api.anthropic.com"


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
    usage: _Usage = _Usage()


@dataclass(slots=True)
class AnthropicModel:
    """Use as ``async with``. ``base_url`` None is Anthropic; other servers may need no key.

    ``on_headers`` is shown the headers of every answer. Raises AuthError without a key.
    """

    model: str
    api_key: str | None = None
    base_url: str | None = None
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    _client: Any = field(init=False, default=None)

    @property
    def name(self) -> str:
        """``anthropic:NAME``."""
        return f"anthropic:{self.model}"

    @property
    def identity(self) -> dict[str, object]:
        """The address."""
        return {"url": self.base_url or HOME}

    async def __aenter__(self) -> Self:
        if self.api_key is None and self.base_url is None:
            raise missing_key("anthropic")
        import anthropic  # noqa: PLC0415 - takes most of a second

        transport = anthropic.DefaultAioHttpClient() if on_asyncio() else anthropic.DefaultAsyncHttpxClient()
        self._client = anthropic.AsyncAnthropic(
            api_key=self.api_key or "none",
            base_url=(self.base_url or HOME).removesuffix("/").removesuffix("/v1"),
            max_retries=0,
            timeout=TIMEOUT,
            http_client=transport,
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(self, call: Call) -> Completion:
        """Answer the call, once; raises ProviderError."""
        import anthropic  # noqa: PLC0415 - takes most of a second
        import httpx2  # noqa: PLC0415 - comes with the SDK

        where = self.base_url or HOME
        try:
            response = await self._client.post("/v1/messages", body=self._body(call), cast_to=httpx2.Response)
        except anthropic.AnthropicError as exc:
            if isinstance(exc, anthropic.APIStatusError):
                self._show(exc.response.headers)
            raise translate(exc, anthropic, self.model, where) from None
        self._show(response.headers)
        return _completion(response.content, where)

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

    def _show(self, headers: Mapping[str, str]) -> None:
        if self.on_headers is not None:
            self.on_headers(headers)


def _completion(content: bytes, where: str) -> Completion:
    try:
        reply = _Reply.model_validate_json(content)
    except ValueError:
        raise TransientError(f"{where}: the reply is not of the expected form", retry=Retry()) from None
    if reply.stop_reason == "refusal":
        raise RequestRejected(f"{where}: the model refused to answer")
    texts = [block.text for block in reply.content if block.type == "text"]
    if not texts and reply.stop_reason not in {"max_tokens", "end_turn", "stop_sequence"}:
        raise TransientError(f"{where}: a reply without content", retry=Retry())
    used = reply.usage
    read = used.input_tokens + (used.cache_creation_input_tokens or 0) + (used.cache_read_input_tokens or 0)
    return Completion("".join(texts), Usage(read, used.output_tokens), truncated=reply.stop_reason == "max_tokens")
