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
    """Calls of one role, and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class Meter:
    """Counts calls by role. ``spent`` is set when a call beyond ``cap`` is asked for."""

    cap: int
    roles: dict[str, Counts] = field(default_factory=dict)
    spent: anyio.Event = field(default_factory=anyio.Event)

    @property
    def calls(self) -> int:
        """The number of calls so far."""
        return sum(each.calls for each in self.roles.values())

    def take(self, role: str) -> None:
        """Count one call; raises BudgetExceeded if none is left."""
        if self.calls >= self.cap:
            self.spent.set()
            raise BudgetExceeded(f"its {self.cap} search calls are used up")
        self.roles.setdefault(role, Counts()).calls += 1

    def add(self, role: str, usage: Usage) -> None:
        """Count the tokens of a call."""
        counts = self.roles[role]
        counts.input_tokens += usage.input_tokens
        counts.output_tokens += usage.output_tokens


@dataclass(frozen=True, slots=True)
class Metered:
    """A model whose calls count for a role of a meter."""

    model: Model
    meter: Meter
    role: str

    async def complete(self, call: Call) -> Completion:
        """Answer the call; raises BudgetExceeded if none is left, and ProviderError."""
        self.meter.take(self.role)
        reply = await self.model.complete(call)
        self.meter.add(self.role, reply.usage)
        return reply
