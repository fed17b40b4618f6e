"""The context of a run: its request, models and budget, and the functions for its events and messages."""

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
    """The run's two models, including retry, rate limit, budget and journal."""

    task: RunModel
    optimizer: RunModel


@dataclass(frozen=True, slots=True)
class RunContext:
    """The context of a run, for the function that carries it out.

    ``ledger``: the run's budget, in which the cost of the end of a search is reserved. ``stop`` is set to ask for an
    early end; ``say`` is called with messages for the user. ``search_calls``: a cap on the calls of search and choice.
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
    search_calls: int | None = None

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
        """Return an object that scores prompts on rows with requests over the bus."""
        return Scoring(bus, in_flight=self.spec.concurrency, store=self.outcomes)
