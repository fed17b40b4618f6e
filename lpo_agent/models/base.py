"""What a model is to the rest of the package."""

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
    """Tokens that the service counted."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model.

    ``max_tokens`` bounds the answer. ``temperature`` None leaves the service's default (models
    that reason refuse any other). ``replicate`` tells apart repeated draws of the same request.
    """

    turns: tuple[Turn, ...]
    max_tokens: int = 256
    temperature: float | None = 0.0
    replicate: int = 0

    def key(self, model: str) -> bytes:
        """Return 16 bytes that stand for the content: ``model``, messages, parameters, replicate.

        ``model`` is a text that identifies the model: name, service, address, weights.
        """
        parts = [model, f"{self.max_tokens} {self.temperature} {self.replicate}"]
        for turn in self.turns:
            parts += turn
        content = "\0".join(f"{len(part)} {part}" for part in parts)  # with lengths, no two calls read alike
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @property
    def input_estimate(self) -> float:
        """Likely size of the input in tokens (4 characters a token, and some for each message)."""
        return sum(len(turn.content) for turn in self.turns) / 4 + 8 * len(self.turns)

    @property
    def most_usage(self) -> Usage:
        """The most that the call can use: a token is at least one byte, and templates add some."""
        size = sum(len(turn.content.encode("utf-8", "surrogatepass")) + 32 for turn in self.turns)
        return Usage(size + 64, self.max_tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer. ``cached``: it was in the journal and cost nothing now."""

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
        """Answer the call, once; raises :class:`lpo_agent.errors.ProviderError` where there is no answer."""
        ...
