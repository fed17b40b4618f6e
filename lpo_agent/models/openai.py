"""Models behind OpenAI's chat completions protocol: OpenAI itself and every compatible server."""

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

HOME = "https://api.openai.com/v1"


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
    usage: _Usage = _Usage()


@dataclass(slots=True)
class OpenAIModel:
    """Use as ``async with``. ``base_url`` None is OpenAI; other servers may need no key.

    ``on_headers`` is shown the headers of every answer. ``known_as`` and ``weights`` name a model
    that only happens to be served by this protocol. Raises AuthError without a key.
    """

    model: str
    api_key: str | None = None
    base_url: str | None = None
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    known_as: str | None = None
    weights: str | None = None
    _client: Any = field(init=False, default=None)

    @property
    def name(self) -> str:
        """``openai:NAME``, or what the model is known as."""
        return self.known_as or f"openai:{self.model}"

    @property
    def identity(self) -> dict[str, object]:
        """The address, or the weights where these are known."""
        return {"weights": self.weights} if self.weights else {"url": self.base_url or HOME}

    async def __aenter__(self) -> Self:
        if self.api_key is None and self.base_url is None:
            raise missing_key("openai")
        import openai  # noqa: PLC0415 - takes most of a second

        transport = openai.DefaultAioHttpClient() if on_asyncio() else openai.DefaultAsyncHttpxClient()
        self._client = openai.AsyncOpenAI(
            api_key=self.api_key or "none",
            base_url=self.base_url or HOME,
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
        import httpx2  # noqa: PLC0415 - comes with the SDK
        import openai  # noqa: PLC0415 - takes most of a second

        where = self.base_url or HOME
        try:
            response = await self._client.post("/chat/completions", body=self._body(call), cast_to=httpx2.Response)
        except openai.OpenAIError as exc:
            if isinstance(exc, openai.APIStatusError):
                self._show(exc.response.headers)
            raise translate(exc, openai, self.model, where) from None
        self._show(response.headers)
        return _completion(response.content, where)

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

    def _show(self, headers: Mapping[str, str]) -> None:
        if self.on_headers is not None:
            self.on_headers(headers)


def _completion(content: bytes, where: str) -> Completion:
    try:
        reply = _Reply.model_validate_json(content)
    except ValueError:
        raise TransientError(f"{where}: the reply is not of the expected form", retry=Retry()) from None
    if not reply.choices:
        raise TransientError(f"{where}: a reply without choices", retry=Retry())
    choice, used = reply.choices[0], reply.usage
    if choice.finish_reason == "content_filter":
        raise RequestRejected(f"{where}: the answer was filtered")
    if choice.message.content is None and choice.finish_reason != "length":
        raise TransientError(f"{where}: a reply without content", retry=Retry())
    usage = Usage(used.prompt_tokens, used.completion_tokens)
    return Completion(choice.message.content or "", usage, truncated=choice.finish_reason == "length")
