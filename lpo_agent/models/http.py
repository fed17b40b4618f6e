"""What both providers' adapters share: clients, bodies, and one translation of errors.

Both SDKs are built alike, so one translation by status and code serves both.
"""

from __future__ import annotations

import email.utils
import re
import time
from typing import TYPE_CHECKING, Any, Final

import sniffio

from lpo_agent.core.retry import Retry
from lpo_agent.errors import (
    AuthError,
    ProviderError,
    QuotaError,
    RateLimited,
    RequestRejected,
    TransientError,
    UnknownModelError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT: Final = 180.0
_KEY: Final = re.compile(r"\b(?:sk|key|pk)-[\w-]{6,}")
_NOBODY: Final = re.compile(
    r"ConnectError|ClientConnectorError|ConnectorDNS|ConnectionRefused|refused|gaierror|Name or service|No route"
)
_NO_CREDIT: Final = ("insufficient_quota", "billing", "credit balance")


def on_asyncio() -> bool:
    """Tell whether the fast aiohttp transport can be used, which needs asyncio."""
    return sniffio.current_async_library() == "asyncio"


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
        return TransientError(f"{url}: no answer in {TIMEOUT:g} s", retry=Retry())
    if isinstance(exc, sdk.APIResponseValidationError):
        return TransientError(f"{url}: the reply is not of the expected form", retry=Retry())
    if isinstance(exc, sdk.APIStatusError):
        return _by_status(exc, model, url)
    if isinstance(exc, sdk.APIConnectionError):
        return TransientError(f"{url}: the connection broke", retry=Retry())
    return TransientError(f"{url}: {type(exc).__name__}: {mask(str(exc))}", retry=Retry())


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
    value = headers.get("retry-after")
    if (seconds := _float(value)) is not None:
        return seconds
    date = email.utils.parsedate_to_datetime(value) if value and "," in value else None
    return None if date is None else max(0.0, date.timestamp() - time.time())


def _float(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if number >= 0 else None
