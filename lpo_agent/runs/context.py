"""What a run of any kind works with: its request, its models, its budget, and whom it tells what happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.search.scoring import Scoring

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.core.result import UsageResult
    from lpo_agent.journal import Journal
    from lpo_agent.models.middleware import RunModel
    from lpo_agent.models.prices import Prices
    from lpo_agent.runs.request import PreparedRun
    from lpo_agent.search.scoring import OutcomeStore
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


@dataclass(frozen=True, slots=True)
class RunModels:
    """The run's two models, under all that its calls go through."""

    task: RunModel
    optimizer: RunModel


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a kind of run works with.

    ``ledger`` is what the search's end is kept aside in. ``stop`` asks for an early end; ``say`` is told what a user
    should know now.
    """

    prepared: PreparedRun
    models: RunModels
    ledger: Ledger
    prices: Prices
    outcomes: OutcomeStore
    journal: Journal
    emit: Callable[[Event], None]
    usage: Callable[[], UsageResult]
    stop: anyio.Event
    say: Callable[[str], None]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.prepared.run_id

    @property
    def spec(self) -> RunSpec:
        """The run's options."""
        return self.prepared.request.spec

    @property
    def task(self) -> Task:
        """The run's prompt and rows."""
        return self.prepared.task

    def scoring(self, bus: Bus) -> Scoring:
        """Return what scores rows over the bus."""
        return Scoring(bus, in_flight=self.spec.concurrency, store=self.outcomes)
