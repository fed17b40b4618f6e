"""Calls a marker or a proposer of the caller's own, and checks what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from lpo_agent.errors import ConfigError, LpoError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


def checked(
    call: Callable[[Ask], Awaitable[Answer]], wanted: type[Answer], what: str
) -> Callable[[Ask], Awaitable[Answer]]:
    """Return ``call`` such that it raises ConfigError, which names the object, where the object has a bug.

    ``what``: such as "marker MyMarker". Errors of the package itself pass through.
    """

    async def handler(ask: Ask) -> Answer:
        try:
            found: object = await call(ask)
        except LpoError:
            raise
        except Exception as exc:
            raise ConfigError(f"{what} raised {type(exc).__name__}: {exc}") from exc
        if not isinstance(found, wanted):
            raise ConfigError(f"{what} returned a value of type {type(found).__name__}; return {wanted.__name__}")
        return found

    return handler
