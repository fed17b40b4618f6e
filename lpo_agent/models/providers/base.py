"""What a provider is: it opens models by name."""

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
    """What a provider may need to open a model.

    ``api_key`` and ``base_url`` come from the caller or from ``NAME_API_KEY`` and ``NAME_BASE_URL`` of the
    environment, NAME being the provider's. ``timeout`` is in seconds for one answer, None: by its length.
    ``concurrency``: calls that are made at the same time at most. ``home``: the package's state folder.
    ``on_headers`` is told the headers about limits that came with an answer; ``say`` is told what a user should
    know, such as a download.
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
    """What the package has to know about a provider's service.

    ``remote``: it is a service that limits its callers, so calls start gently where no limit is known.
    ``free``: its calls cost no money. ``most_at_once``: calls that it takes at the same time, None: any number.
    ``address``: where it answers if no base URL is given. ``limit_headers``: headers of answers that tell a limit
    a minute, with its kind: requests, tokens, input_tokens or output_tokens.
    """

    remote: bool = True
    free: bool = False
    most_at_once: int | None = None
    address: str | None = None
    limit_headers: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """Opens models by name. A provider may also have ``traits``, of type :class:`Traits`."""

    def open(self, name: str, connection: Connection) -> AbstractAsyncContextManager[Model]:
        """Return a block in which the model ``name`` (without the provider's) can be called.

        Raises ConfigError or AuthError for what is wrong before any call.
        """
        ...


PROVIDERS: Final[Table[Provider]] = plugins.PROVIDERS


def traits_of(provider: Provider) -> Traits:
    """Return a provider's traits, the usual ones if it tells none."""
    traits = getattr(provider, "traits", None)
    return traits if isinstance(traits, Traits) else Traits()


def split_model(name: str) -> tuple[str, str]:
    """Return provider and name of ``PROVIDER:NAME``; raises ConfigError."""
    provider, colon, rest = name.partition(":")
    if not colon or not provider or not rest:
        known = ", ".join(f"{known}:NAME" for known in PROVIDERS.names())
        raise ConfigError(f"unknown model {name!r}; write one of {known}")
    return provider, rest
