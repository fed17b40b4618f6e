"""The interface of search methods, and the table of methods by name.

A method of the caller only needs the method ``search``. The built-in methods also estimate their calls, create their
own agents, and choose the best prompt themselves (:class:`FullMethod`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from lpo_agent import plugins

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lpo_agent.agents.base import AgentSetting, Writers
    from lpo_agent.models.base import Model
    from lpo_agent.plugins import Table
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.context import Search
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


class Method(Protocol):
    """A way to search for a better prompt. One object serves any number of runs at the same time.

    It may also have a ``name``, which results show (default: the name of its class).
    """

    async def search(self, search: Search) -> Sequence[Candidate]:
        """Return the finalists: the best prompts that were found, best first.

        The package does the rest: it scores the first few on the dev rows, compares the best of these with the seed
        prompt on the test rows, and measures the worth of each edit.
        """
        ...


class PhasedSearch(Protocol):
    """A search in three phases. Each phase may raise RequestFailed when the budget is spent."""

    async def search(self) -> None:
        """Search for better prompts."""
        ...

    async def confirm(self) -> None:
        """Choose the best prompt on the dev split."""
        ...

    async def explain(self) -> None:
        """Measure why the best prompt is better, if the method can; runs after the test and does not affect it."""
        ...


@runtime_checkable
class FullMethod(Protocol):
    """A method with everything that a run needs: plan, number of calls, agents, and search."""

    @property
    def name(self) -> str:
        """The name of the method."""
        ...

    @property
    def reads(self) -> Collection[str]:
        """The fields of :data:`OPTIONAL` that the method uses."""
        ...

    def plan(self, spec: RunSpec) -> Plan:
        """Return the numbers of a search; raises ConfigError for invalid options."""
        ...

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:
        """Return the lowest and the highest number of model calls of a run, including its test."""
        ...

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the agents that work on prompts; ``model`` is the optimizer model."""
        ...

    def start(self, search: Search) -> PhasedSearch:
        """Return the search, which has not begun yet."""
        ...


METHODS: Final[Table[Method | FullMethod]] = plugins.METHODS
OPTIONAL: Final = (
    "branches",
    "steps",
    "proposals",
    "race_items",
    "demos",
    "must_pass",
    "class_gate",
    "proposer",
    "locality",
    "method_options",
)
"""The fields of a spec that only some methods use."""
