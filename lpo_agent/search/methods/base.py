"""What a search method is, and the table of those that are known by name.

A method of the caller's own needs one method, ``search``. The built-in ones also say how many calls they need, bring
agents of their own and choose their answer themselves (:class:`FullMethod`).
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

    It may also have ``name``, which results show (default: its class).
    """

    async def search(self, search: Search) -> Sequence[Candidate]:
        """Return the prompts that are worth choosing from, best first.

        What follows is not the method's: the first few are scored on the dev rows, the best of them is compared
        with the prompt at the start on the test rows, and what each of its edits is worth is measured.
        """
        ...


class PhasedSearch(Protocol):
    """A search under way. Each part may end early by RequestFailed when the budget is spent."""

    async def search(self) -> None:
        """Look for better prompts."""
        ...

    async def confirm(self) -> None:
        """Settle which one is the answer, on the dev split."""
        ...

    async def explain(self) -> None:
        """Find out why the answer is better, if the method can; after the test, so that it changes nothing."""
        ...


@runtime_checkable
class FullMethod(Protocol):
    """A method that also plans, counts, and brings its own agents. ``reads``: options that not all methods have."""

    @property
    def name(self) -> str:
        """What the method is called."""
        ...

    @property
    def reads(self) -> Collection[str]:
        """The fields of :data:`OPTIONAL` that the method reads."""
        ...

    def plan(self, spec: RunSpec) -> Plan:
        """Return the numbers of a search; raises ConfigError for options that make no sense."""
        ...

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:
        """Return the fewest and the most model calls of a run, its test included."""
        ...

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the agents that work on prompts, ``model`` being the optimizer model."""
        ...

    def start(self, search: Search) -> PhasedSearch:
        """Return a search that is ready to begin."""
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
"""Fields of a spec that only some methods read."""
