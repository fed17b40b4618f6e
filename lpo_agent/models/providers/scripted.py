"""A model whose answers come from a Python function, for tests and for trying the package without a real model."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from lpo_agent.loading import load_function
from lpo_agent.models.base import Completion, Usage
from lpo_agent.models.providers.base import Connection, Traits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lpo_agent.models.base import Call


@dataclass(slots=True)
class ScriptedModel:
    """Answers a call with the text that ``function`` returns for it; ``function`` may also raise ProviderError.

    Each word counts as one token. ``calls`` lists all calls, in order.
    """

    function: Callable[[Call], str]
    name: str = "scripted:function"
    calls: list[Call] = field(default_factory=list)

    @property
    def identity(self) -> dict[str, object]:
        """Empty: the function is assumed to give the same answer to the same call."""
        return {}

    async def complete(self, call: Call) -> Completion:
        """Return the function's answer to the call."""
        await anyio.lowlevel.checkpoint()
        self.calls.append(call)
        text = self.function(call)
        words = sum(len(turn.content.split()) for turn in call.turns)
        return Completion(text, Usage(words, len(text.split())))


def load_scripted(name: str) -> ScriptedModel:
    """Return the model for ``scripted:path/to/file.py:function``; raises ConfigError."""
    place, _, function = name.removeprefix("scripted:").rpartition(":")
    return ScriptedModel(load_function(place, function, what=f"model {name}"), name)


TRAITS: Final = Traits(remote=False, free=True)


@dataclass(frozen=True, slots=True)
class Scripted:
    """Functions in files: ``scripted:path/to/file.py:function``."""

    traits: Traits = TRAITS

    @asynccontextmanager
    async def open(self, name: str, connection: Connection) -> AsyncIterator[ScriptedModel]:  # noqa: ARG002 - a provider's
        """Load the function; raises ConfigError."""
        yield load_scripted(f"scripted:{name}")


PROVIDER: Final = Scripted()
