"""HTTP for the OpenAI and Anthropic providers: the client, sending a request, and translating errors.

Both SDKs have the same classes of errors, so the same code translates the errors of both into those
of this package.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sniffio

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
from lpo_agent.failure import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT, TOKENS_PER_SECOND = 60.0, 20.0
"""The default time-out: so many seconds, and one more for so many tokens of the longest possible answer."""
OPTIONS: Final = {
    "max_retries": 0,
    "params": {},
    "headers": {"Content-Type": "application/json"},
    "idempotency_key": "none",
}
"""SDK options of all requests. For those left out, the SDK would compute a value for each request; the costly one
is a random idempotency key, which is not sent."""
_KEY: Final = re.compile(r"\b(?:sk|key|pk)-[\w-]{6,}")
_UNREACHABLE: Final = re.compile(
    r"ConnectError|ClientConnectorError|ConnectorDNS|ConnectionRefused|refused|gaierror|Name or service|No route"
)
_NO_CREDIT: Final = ("insufficient_quota", "billing", "credit balance")


def on_asyncio() -> bool:
    """Return whether this is asyncio, which the faster aiohttp transport needs."""
    return sniffio.current_async_library() == "asyncio"


def open_transport(sdk: Any, *, trust_env: bool = True) -> Any:
    """Return an HTTP client for an SDK (``sdk`` is its module), with little overhead per request.

    It uses aiohttp where possible, which halves the overhead of a call. Building a request skips what
    an API does not need (cookies, base URL, query parameters) and caches URLs and headers, which halves
    what is left. ``trust_env``: use the proxies of the environment.
    """
    import httpx2  # noqa: PLC0415 - comes with the SDKs

    base: type[httpx2.AsyncClient] = sdk.DefaultAioHttpClient if on_asyncio() else sdk.DefaultAsyncHttpxClient
    urls: dict[str, httpx2.URL] = {}
    cached_headers: dict[tuple[tuple[str, str], ...], httpx2.Headers] = {}

    class Transport(base):  # type: ignore[valid-type,misc]  # the base class is only known at run time
        def build_request(self, method: str, url: str, **parts: Any) -> httpx2.Request:
            given = parts["headers"]
            key = tuple(given.items() if isinstance(given, Mapping) else given)
            if url not in urls:
                urls[url] = httpx2.URL(url)
            if key not in cached_headers:
                cached_headers[key] = httpx2.Headers(key)
            extensions = {"timeout": httpx2.Timeout(parts["timeout"]).as_dict()}
            content, headers = parts.get("content"), cached_headers[key]
            return httpx2.Request(method, urls[url], headers=headers, content=content, extensions=extensions)

    return Transport(trust_env=trust_env)


def missing_key(provider: str) -> AuthError:
    """Return the error for a provider whose API key is missing."""
    variable = f"{provider.upper()}_API_KEY"
    return AuthError(f"no key for {provider}: models; set {variable}, or --base-url for a server without keys")


def translate(exc: Exception, sdk: Any, model: str, url: str) -> ProviderError:
    """Return this package's error for an exception of an SDK.

    ``sdk``: the SDK's module. ``model`` and ``url`` are for the message.
    """
    if isinstance(exc, sdk.APIConnectionError) and _is_unreachable(exc):
        return UnreachableError(
            f"nothing answers at {url}; is the server running, and the address right?", retry=Retry()
        )
    if isinstance(exc, sdk.APITimeoutError):
        return TransientError(f"{url}: no answer in time (see --timeout)", retry=Retry(), unsure=True)
    if isinstance(exc, sdk.APIStatusError):
        return _by_status(exc, model, url)
    if isinstance(exc, sdk.APIConnectionError):
        return TransientError(f"{url}: the connection broke", retry=Retry(), unsure=True)
    return TransientError(f"{url}: {type(exc).__name__}: {mask(str(exc))}", retry=Retry(), unsure=True)


def broken_reply(url: str, what: str = "the reply is not of the expected form") -> BrokenReply:
    """Return the error for a reply that cannot be used, though the service may charge for it."""
    return BrokenReply(f"{url}: {what}", retry=Retry(), unsure=True)


@dataclass(slots=True)
class Endpoint:
    """Sends requests to one address of a service, through an SDK's client.

    ``sdk``: the SDK's module. ``model`` and ``url`` are for messages. ``path`` is added to the client's
    base URL. ``on_headers`` is called with the rate limit headers of each response. ``timeout``: seconds
    for one request, None for a time that grows with the length of the answer.
    """

    client: Any
    sdk: Any
    model: str
    url: str
    path: str
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    timeout: float | None = None
    _target: str = field(init=False)

    def __post_init__(self) -> None:
        base = self.client.base_url
        # The full URL, or the SDK would join its parts for each request.
        self._target = str(base.copy_with(path=base.path.rstrip("/") + self.path))

    async def post(self, body: Mapping[str, object], max_tokens: int) -> bytes:
        """Send one request with a JSON ``body`` and return the body of the response; raises ProviderError.

        Uses the SDK's untyped ``post``: the typed methods inspect every message, which costs more time
        than all the rest of the call.
        """
        import aiohttp  # noqa: PLC0415 - as slow to import as the SDKs
        import httpx2  # noqa: PLC0415 - comes with the SDKs

        try:
            content = json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RequestRejected(f"{self.url}: the text has a lone surrogate, which cannot be sent") from None
        timeout = TIMEOUT + max_tokens / TOKENS_PER_SECOND if self.timeout is None else self.timeout
        options = {"timeout": timeout, **OPTIONS}
        try:
            response = await self.client.post(self._target, content=content, cast_to=httpx2.Response, options=options)
        except self.sdk.APIError as exc:
            if isinstance(exc, self.sdk.APIStatusError):
                self._report_headers(exc.response.headers)
            raise translate(exc, self.sdk, self.model, self.url) from None
        except (httpx2.HTTPError, aiohttp.ClientError, zlib.error) as exc:
            raise broken_reply(self.url, f"the reply cannot be read ({type(exc).__name__})") from None
        self._report_headers(response.headers)
        answer: bytes = response.content
        return answer

    def _report_headers(self, headers: Any) -> None:
        if self.on_headers is None:
            return
        raw: list[tuple[bytes, bytes]] = headers.raw  # looking headers up by name takes ten times as long
        found = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in raw
            if b"ratelimit" in name.lower()
        }
        if found:
            self.on_headers(found)


def _is_unreachable(exc: BaseException) -> bool:
    """Return whether nothing listens at the address, in contrast to a connection that broke or was too slow.

    The SDKs have one class for both, so this reads the names and texts of the exceptions that caused it.
    """
    causes, cause = "", exc.__cause__ or exc.__context__
    while cause is not None:
        causes += f" {type(cause).__name__} {cause}"
        cause = cause.__cause__ or cause.__context__
    return "ConnectionReset" not in causes and bool(_UNREACHABLE.search(causes))


def _by_status(exc: Any, model: str, url: str) -> ProviderError:
    status, text = exc.status_code, mask(_message(exc))
    code = f"{getattr(exc, 'code', '')} {getattr(exc, 'type', '')} {text}".casefold()
    said = f"{url} answered {status}: {text}"
    if any(sign in code for sign in _NO_CREDIT) and status in {400, 402, 403, 429}:
        return QuotaError(f"{said}; the account is out of credit")
    if status in {401, 403}:
        return AuthError(f"{said}; check the key")
    if status == 404:
        return UnknownModelError(f"{said}; is {model!r} the right name, and {url} the right address?")
    after = retry_after(exc.response.headers)
    if status == 429:
        return RateLimited(said, retry=Retry(rate_limited=True, after=after))
    if status in {408, 409} or status >= 500:
        return TransientError(said, retry=Retry(after=after))
    return RequestRejected(said)


def _message(exc: Any) -> str:
    body = getattr(exc, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    text = inner.get("message") if isinstance(inner, dict) else None
    return str(text or getattr(exc, "message", "") or exc)


def mask(text: str) -> str:
    """Return at most 200 characters of the text on one line, with API keys replaced."""
    return _KEY.sub("[key]", " ".join(text.split()))[:200]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a service asks to wait before the next call, None if its headers do not say."""
    if (milliseconds := _float(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after") or ""
    if (seconds := _float(value.partition(",")[0])) is not None:  # a repeated header is joined with commas
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _float(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
