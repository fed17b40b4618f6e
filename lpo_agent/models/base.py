"""The interface of a model: a ``Call`` is sent to a ``Model``, and a ``Completion`` comes back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class Turn(NamedTuple):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as counted by the service."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model.

    ``max_tokens``: the most tokens of the answer. ``temperature``: None for the service's default, since
    reasoning models accept no other. ``replicate``: a number that makes repeated samples of the same
    request different calls.
    """

    turns: tuple[Turn, ...]
    max_tokens: int = 256
    temperature: float | None = 0.0
    replicate: int = 0

    def key(self, model: str) -> bytes:
        """Return a hash (16 bytes) of the call and the ``model`` that it is for.

        ``model``: a text that identifies the model by its name and its service, address or weights.
        """
        parts = [model, f"{self.max_tokens} {self.temperature} {self.replicate}"]
        for turn in self.turns:
            parts += turn
        content = "\0".join(f"{len(part)} {part}" for part in parts)  # lengths make it unambiguous
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @property
    def input_estimate(self) -> float:
        """The likely number of input tokens: one for 4 characters, and 8 for each message."""
        return sum(len(turn.content) for turn in self.turns) / 4 + 8 * len(self.turns)

    @property
    def max_usage(self) -> Usage:
        """The most tokens that the call can use: a token is at least one byte, and chat templates add some."""
        size = sum(len(turn.content.encode("utf-8", "surrogatepass")) + 32 for turn in self.turns)
        return Usage(size + 64, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer.

    ``truncated``: it was cut off at ``max_tokens``. ``cached``: it comes from the journal and cost nothing.
    """

    text: str
    usage: Usage = Usage()
    truncated: bool = False
    cached: bool = False


class Model(Protocol):
    """Anything that answers a :class:`Call`: a built-in provider's model, or the caller's own object.

    An object of the caller's may also have ``name`` (what reports call it; default: its class) and ``identity``
    (a mapping of JSON values that differs between models which may answer differently). Answers of a model
    without an identity are never reused by another run.
    """

    async def complete(self, call: Call) -> Completion:
        """Answer the call, without retries; raises :class:`lpo_agent.errors.ProviderError` if there is no answer."""
        ...
