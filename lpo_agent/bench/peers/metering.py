"""Counts the calls and tokens of a search by role, and caps the calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from lpo_agent.errors import BudgetExceeded

if TYPE_CHECKING:
    from lpo_agent.models.base import Call, Completion, Model, Usage


@dataclass(slots=True)
class Counts:
    """Answered calls of one role, and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, usage: Usage) -> None:
        """Count one answer."""
        self.calls += 1
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens


@dataclass(slots=True)
class Meter:
    """Counts calls by role. ``spent`` is set when a call beyond ``cap`` is asked for.

    ``taken``: the calls that were asked for, those in progress and those without an answer included; ``roles``: the
    answered ones.
    """

    cap: int
    taken: int = 0
    roles: dict[str, Counts] = field(default_factory=dict)
    spent: anyio.Event = field(default_factory=anyio.Event)

    def take(self) -> None:
        """Count one call; raises BudgetExceeded if none is left."""
        if self.taken >= self.cap:
            self.spent.set()
            raise BudgetExceeded(f"its {self.cap} search calls are used up")
        self.taken += 1

    def add(self, role: str, usage: Usage) -> None:
        """Count an answer."""
        self.roles.setdefault(role, Counts()).add(usage)


@dataclass(frozen=True, slots=True)
class Metered:
    """A model whose calls count for a role of a meter."""

    model: Model
    meter: Meter
    role: str

    async def complete(self, call: Call) -> Completion:
        """Answer the call; raises BudgetExceeded if none is left, and ProviderError."""
        self.meter.take()
        reply = await self.model.complete(call)
        self.meter.add(self.role, reply.usage)
        return reply
