"""The models of a session: each is opened once, when a run first needs it, and is shared by all runs."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent.errors import ConfigError, LpoError, RequestRejected
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.middleware import SharedModel
from lpo_agent.models.providers.base import PROVIDERS, Connection, split_model, traits_of
from lpo_agent.models.ratelimit.limiter import Limiter, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from lpo_agent.environment import Environment
    from lpo_agent.models.base import Call, Model
    from lpo_agent.models.providers.base import Provider, Traits

    OpenLimiter = Callable[..., Awaitable[Limiter]]


MOST_TOKENS: Final = 10**12
"""No call uses more."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits for each model of a session: per minute, calls at the same time, and seconds for an answer."""

    limits: Limits = field(default_factory=Limits)
    concurrency: int = 128
    timeout: float | None = None


@dataclass(slots=True)
class ModelPool:
    """The open models of a session. Use :func:`open_pool`.

    ``providers``: additional providers of the caller, by name. ``open_limiter`` makes the limiter of a model if
    processes share the rate limits; None if they do not.
    """

    stack: AsyncExitStack
    env: Environment
    rates: Rates
    say: Callable[[str], None]
    providers: Mapping[str, Provider] = field(default_factory=dict)
    open_limiter: OpenLimiter | None = None
    _opened: dict[object, SharedModel] = field(init=False, default_factory=dict)
    _lock: anyio.Lock = field(init=False, default_factory=anyio.Lock)

    async def named(self, name: str, base_url: str | None) -> SharedModel:
        """Return the model ``PROVIDER:NAME``; raises ConfigError or AuthError before any call."""
        async with self._lock:
            if (key := (name, base_url)) not in self._opened:
                self._opened[key] = await self._open(name, base_url)
            return self._opened[key]

    async def own(self, model: Model) -> SharedModel:
        """Return the model for an object of the caller, with its own limiter."""
        async with self._lock:
            if (key := id(model)) not in self._opened:
                adapter = OwnModel(model)
                limiter = await self._limiter(adapter.name, None, traits_of(PROVIDERS.load("scripted")))
                self._opened[key] = SharedModel(adapter, limiter)
            return self._opened[key]

    async def _open(self, name: str, base_url: str | None) -> SharedModel:
        provider_name, rest = split_model(name)
        provider = PROVIDERS.load(provider_name, self.providers)
        traits = traits_of(provider)
        key, url = self.env.keys.get(provider_name), base_url or self.env.base_urls.get(provider_name)
        limiter = await self._limiter(name, url, traits, key)
        limits = self.rates.limits
        learns = not (limits.rpm and limits.tpm)  # otherwise nothing is left to learn from headers
        connection = Connection(
            api_key=key,
            base_url=url,
            timeout=self.rates.timeout,
            concurrency=self.rates.concurrency,
            home=self.env.home,
            on_headers=(lambda headers: limiter.observe(headers, traits.limit_headers)) if learns else None,
            say=self.say,
        )
        try:
            model = await self.stack.enter_async_context(provider.open(rest, connection))
        except LpoError:
            raise
        except Exception as exc:
            raise ConfigError(f"{name}: provider {provider_name!r} raised {type(exc).__name__}: {exc}") from exc
        if not callable(getattr(model, "complete", None)):
            raise ConfigError(
                f"{name}: provider {provider_name!r} opened a {type(model).__name__}, which has no method complete; "
                "open must yield a Model"
            )
        named = hasattr(model, "name") and hasattr(model, "identity")
        adapter: Any = model if provider_name in PROVIDERS.built_in and named else OwnModel(model, name)
        return SharedModel(adapter, limiter)

    async def _limiter(self, name: str, base_url: str | None, traits: Traits, key: str | None = None) -> Limiter:
        most = min(self.rates.concurrency, traits.most_at_once or self.rates.concurrency)

        def say(text: str) -> None:
            self.say(f"{name}: {text}")

        if self.open_limiter is None:
            return Limiter(self.rates.limits, concurrency=most, slow_start=traits.remote, say=say)
        account = account_of(name, base_url, key)
        return await self.open_limiter(
            self.stack, account, self.rates.limits, concurrency=most, slow_start=traits.remote, say=say
        )


@asynccontextmanager
async def open_pool(
    env: Environment,
    rates: Rates,
    *,
    say: Callable[[str], None],
    providers: Mapping[str, Provider] | None = None,
    open_limiter: OpenLimiter | None = None,
) -> AsyncIterator[ModelPool]:
    """Yield a pool; its models are closed at the end of the block."""
    async with AsyncExitStack() as stack:
        yield ModelPool(stack, env, rates, say, providers or {}, open_limiter)


def account_of(name: str, base_url: str | None, key: str | None) -> str:
    """Return a name for the calls that a service limits together; the key cannot be derived from it."""
    digest = hashlib.blake2b((key or "").encode(), digest_size=8).hexdigest()
    return f"{name} {base_url or ''} {digest}"


@dataclass(frozen=True, slots=True)
class OwnModel:
    """Wraps a model of the caller or of an installed package, and adds a name and an identity if they are missing."""

    inner: Model
    known_as: str = ""

    @property
    def name(self) -> str:
        """The name that it was opened by or has, else that of its class; without a provider it begins with "own:"."""
        name = self.known_as or str(getattr(self.inner, "name", "") or type(self.inner).__name__)
        return name if all(name.partition(":")) else f"own:{name}"

    @property
    def identity(self) -> Mapping[str, object] | None:
        """The identity of the model, None if it has none."""
        found: Mapping[str, object] | None = getattr(self.inner, "identity", None)
        return found

    async def complete(self, call: Call) -> Completion:
        """Answer the call; an exception of the caller's code becomes RequestRejected, so that other calls continue."""
        try:
            found: object = await self.inner.complete(call)
        except LpoError:
            raise
        except (Exception, SystemExit) as exc:
            raise RequestRejected(f"{self.name} raised {type(exc).__name__}: {exc}", unsure=True) from exc
        if not isinstance(found, Completion):
            kind = type(found).__name__
            raise RequestRejected(f"{self.name}: complete returned a value of type {kind}; return a Completion")
        if problem := problem_of(found):
            raise RequestRejected(f"{self.name}: complete returned a Completion whose {problem}", unsure=True)
        return found


def problem_of(found: Completion) -> str | None:
    """Return what is wrong with a completion, None if nothing is."""
    text, used = found.text, found.usage
    if not isinstance(text, str):
        return f"text is a {type(text).__name__}; it must be a str"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "text is not valid Unicode (it has a lone surrogate)"
    counts = (used.input_tokens, used.output_tokens) if isinstance(used, Usage) else ()
    if not counts or not all(isinstance(count, int) and 0 <= count <= MOST_TOKENS for count in counts):
        return "usage is not a Usage with two counts of tokens"
    return None if isinstance(found.truncated, bool) else "truncated is not a bool"
