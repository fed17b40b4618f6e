"""What both providers' adapters share: clients, bodies, and one translation of errors.

Both SDKs are built alike, so one translation by status and code serves both.
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

from lpo_agent.core.retry import Retry
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

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT, SLOWEST = 60.0, 20.0
"""Seconds to wait for an answer, and the tokens a second that are expected of a long one."""
OPTIONS: Final = {
    "max_retries": 0,
    "params": {},
    "headers": {"Content-Type": "application/json"},
    "idempotency_key": "none",
}
"""Of every request. What is not said is worked out anew each time, a random key above all, which is not even sent."""
_KEY: Final = re.compile(r"\b(?:sk|key|pk)-[\w-]{6,}")
_NOBODY: Final = re.compile(
    r"ConnectError|ClientConnectorError|ConnectorDNS|ConnectionRefused|refused|gaierror|Name or service|No route"
)
_NO_CREDIT: Final = ("insufficient_quota", "billing", "credit balance")


def on_asyncio() -> bool:
    """Tell whether the fast aiohttp transport can be used, which needs asyncio."""
    return sniffio.current_async_library() == "asyncio"


def open_transport(sdk: Any, *, trust_env: bool = True) -> Any:
    """Return an HTTP client for an SDK: on aiohttp where that runs, which takes half the time of a call.

    Requests are built without what an API does not need (cookies, a base address, parameters), with
    addresses and headers kept for reuse: half of the rest.
    """
    import httpx2  # noqa: PLC0415 - comes with the SDKs

    base: type[httpx2.AsyncClient] = sdk.DefaultAioHttpClient if on_asyncio() else sdk.DefaultAsyncHttpxClient
    addresses: dict[str, httpx2.URL] = {}
    headings: dict[tuple[tuple[str, str], ...], httpx2.Headers] = {}

    class Transport(base):  # type: ignore[valid-type,misc]  # chosen while running
        def build_request(self, method: str, url: str, **parts: Any) -> httpx2.Request:
            given = parts["headers"]
            headers = tuple(given.items() if isinstance(given, Mapping) else given)
            if url not in addresses:
                addresses[url] = httpx2.URL(url)
            if headers not in headings:
                headings[headers] = httpx2.Headers(headers)
            waits = {"timeout": httpx2.Timeout(parts["timeout"]).as_dict()}
            content = parts.get("content")
            return httpx2.Request(method, addresses[url], headers=headings[headers], content=content, extensions=waits)

    return Transport(trust_env=trust_env)


def missing_key(provider: str) -> AuthError:
    """Return the error for a provider without a key."""
    variable = f"{provider.upper()}_API_KEY"
    return AuthError(f"no key for {provider}: models; set {variable}, or --base-url for a server without keys")


def translate(exc: Exception, sdk: Any, model: str, url: str) -> ProviderError:
    """Return this package's error for an exception of an SDK (``sdk`` is its module)."""
    if isinstance(exc, sdk.APIConnectionError) and _nobody_there(exc):
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


def unusable(url: str, what: str = "the reply is not of the expected form") -> BrokenReply:
    """Return the error for a reply that came, perhaps was charged for, and says nothing."""
    return BrokenReply(f"{url}: {what}", retry=Retry(), unsure=True)


@dataclass(slots=True)
class Endpoint:
    """A service's address with an SDK's open client; ``sdk`` is its module, ``path`` is where questions go.

    ``on_headers`` is shown the headers about limits of every answer. ``timeout`` is in seconds, None:
    by the answer's length.
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
        self._target = str(base.copy_with(path=base.path.rstrip("/") + self.path))  # or the SDK joins it each time

    async def ask(self, body: Mapping[str, object], max_tokens: int) -> bytes:
        """Return the service's answer to one request; raises ProviderError.

        Uses the SDK's own request method, below its typed ones, which walk through all messages
        at a greater cost than that of the rest of the call.
        """
        import aiohttp  # noqa: PLC0415 - as slow to import as the SDKs
        import httpx2  # noqa: PLC0415 - comes with the SDKs

        try:
            content = json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RequestRejected(f"{self.url}: half a character in the text, which cannot be sent") from None
        timeout = TIMEOUT + max_tokens / SLOWEST if self.timeout is None else self.timeout
        options = {"timeout": timeout, **OPTIONS}
        try:
            response = await self.client.post(self._target, content=content, cast_to=httpx2.Response, options=options)
        except self.sdk.APIError as exc:
            if isinstance(exc, self.sdk.APIStatusError):
                self._show(exc.response.headers)
            raise translate(exc, self.sdk, self.model, self.url) from None
        except (httpx2.HTTPError, aiohttp.ClientError, zlib.error) as exc:
            raise unusable(self.url, f"the reply cannot be read ({type(exc).__name__})") from None
        self._show(response.headers)
        answer: bytes = response.content
        return answer

    def _show(self, headers: Any) -> None:
        if self.on_headers is None:
            return
        raw: list[tuple[bytes, bytes]] = headers.raw  # a lookup by name costs ten times as much
        told = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in raw
            if b"ratelimit" in name.lower()
        }
        if told:
            self.on_headers(told)


def _nobody_there(exc: BaseException) -> bool:
    """Tell an address where nothing listens from a connection that broke or was too slow."""
    names, cause = "", exc.__cause__ or exc.__context__
    while cause is not None:
        names += f" {type(cause).__name__} {cause}"
        cause = cause.__cause__ or cause.__context__
    return "ConnectionReset" not in names and bool(_NOBODY.search(names))


def _by_status(exc: Any, model: str, url: str) -> ProviderError:
    status, text = exc.status_code, mask(_message(exc))
    code = f"{getattr(exc, 'code', '')} {getattr(exc, 'type', '')} {text}".casefold()
    said = f"{url} said {status}: {text}"
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
    """Return at most 200 characters on one line, with keys made unreadable."""
    return _KEY.sub("[key]", " ".join(text.split()))[:200]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a service asks to wait, from its headers."""
    if (milliseconds := _float(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after") or ""
    if (seconds := _float(value.partition(",")[0])) is not None:  # a header that came twice is joined by a comma
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
