"""The caller's own marker and proposer: what they raise or return is checked, and reported with their name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from lpo_agent.core.messages import Marks, Message, Proposals
from lpo_agent.errors import ConfigError, LpoError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.core.messages import MarkAsk, ProposeAsk

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class OwnMarker:
    """Calls the caller's marker; raises ConfigError, which ends the run, if it has a bug."""

    inner: Marker

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return its marks, which lie in the parts of the prompt that may change."""
        name = f"marker {type(self.inner).__name__}"
        marks = await _checked(name, self.inner.mark, ask, Marks)
        try:
            marks.on(ask.prompt)
        except ValidationError as exc:
            reason = exc.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{name} returned marks that do not fit the prompt: {reason}") from exc
        return marks


@dataclass(frozen=True, slots=True)
class OwnProposer:
    """Calls the caller's proposer; raises ConfigError, which ends the run, if it has a bug."""

    inner: Proposer

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return its proposals."""
        return await _checked(f"proposer {type(self.inner).__name__}", self.inner.propose, ask, Proposals)


async def _checked(name: str, function: Callable[[Q], Awaitable[R]], ask: Q, wanted: type[R]) -> R:
    try:
        found = await function(ask)
    except LpoError:
        raise
    except Exception as exc:
        raise ConfigError(f"{name} raised {type(exc).__name__}: {exc}") from exc
    if not isinstance(found, wanted):
        raise ConfigError(f"{name} returned a value of type {type(found).__name__}; return {wanted.__name__}")
    return found
