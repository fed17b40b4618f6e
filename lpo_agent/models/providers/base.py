"""The interface of a provider, which opens models by name, and the values that it uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from lpo_agent import plugins
from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from lpo_agent.models.base import Model
    from lpo_agent.plugins import Table


def _silent(_: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The data that a provider may need to open a model.

    ``api_key`` and ``base_url`` come from the caller or from the environment variables ``NAME_API_KEY`` and
    ``NAME_BASE_URL``, where NAME is the name of the provider. ``timeout``: seconds for one answer, None: depends on its
    length. ``concurrency``: the highest number of calls at the same time. ``home``: the package's state folder.
    ``on_headers`` is called with the rate-limit headers of an answer, ``say`` with messages for the user.
    """

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    timeout: float | None = None
    concurrency: int = 128
    home: Path = Path()
    on_headers: Callable[[Mapping[str, str]], None] | None = None
    say: Callable[[str], None] = _silent


@dataclass(frozen=True, slots=True)
class Traits:
    """The properties of a provider that the package needs.

    ``remote``: it is a service with rate limits, so calls start slowly if no limit is known. ``free``: its calls cost
    no money. ``most_at_once``: the highest number of calls at the same time, None: no limit. ``address``: its address
    if no base URL is given. ``limit_headers``: headers of answers that contain a limit per minute, each with the kind
    of the limit: requests, tokens, input_tokens or output_tokens.
    """

    remote: bool = True
    free: bool = False
    most_at_once: int | None = None
    address: str | None = None
    limit_headers: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """Opens models by name. A provider may also have ``traits``, of type :class:`Traits`."""

    def open(self, name: str, connection: Connection) -> AbstractAsyncContextManager[Model]:
        """Return a context manager that opens the model ``name`` (without the name of the provider) and closes it.

        Raises ConfigError or AuthError before any call.
        """
        ...


PROVIDERS: Final[Table[Provider]] = plugins.PROVIDERS


def traits_of(provider: Provider) -> Traits:
    """Return a provider's traits, or the default ones if it has none."""
    traits = getattr(provider, "traits", None)
    return traits if isinstance(traits, Traits) else Traits()


def split_model(name: str) -> tuple[str, str]:
    """Split ``PROVIDER:NAME`` into provider and name; raises ConfigError."""
    provider, colon, rest = name.partition(":")
    if not colon or not provider or not rest:
        known = ", ".join(f"{known}:NAME" for known in PROVIDERS.names())
        raise ConfigError(f"unknown model {name!r}; write one of {known}")
    return provider, rest
