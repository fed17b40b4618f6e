"""A model that answers by a Python function: for tests, and to try things without any model."""

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
    """Answers with what ``function`` returns for a call, which may also raise ProviderError.

    Tokens are counted as words. ``calls`` keeps what was asked, in order.
    """

    function: Callable[[Call], str]
    name: str = "scripted:function"
    calls: list[Call] = field(default_factory=list)

    @property
    def identity(self) -> dict[str, object]:
        """Nothing beside the name: a function is taken to answer the same way always."""
        return {}

    async def complete(self, call: Call) -> Completion:
        """Answer the call."""
        await anyio.lowlevel.checkpoint()
        self.calls.append(call)
        text = self.function(call)
        words = sum(len(turn.content.split()) for turn in call.turns)
        return Completion(text, Usage(words, len(text.split())))


def load_scripted(name: str) -> ScriptedModel:
    """Return the model for ``scripted:path/to/file.py:function``; raises ConfigError."""
    place, _, function = name.removeprefix("scripted:").rpartition(":")
    return ScriptedModel(load_function(place, function, what=f"model {name}"), name)


@dataclass(frozen=True, slots=True)
class Scripted:
    """Functions in files: ``scripted:path/to/file.py:function``."""

    traits: Traits = Traits(remote=False, free=True)

    @asynccontextmanager
    async def open(self, name: str, connection: Connection) -> AsyncIterator[ScriptedModel]:  # noqa: ARG002 - a provider's
        """Load the function; raises ConfigError."""
        yield load_scripted(f"scripted:{name}")


PROVIDER: Final = Scripted()
