"""What a search method is, and the table of those that are known by name.

A method of the caller's own needs one method, ``search``. The built-in ones also say how many calls they need, bring
agents of their own and choose their answer themselves (:class:`FullMethod`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from lpo_agent import plugins
from lpo_agent.errors import ConfigError
from lpo_agent.search.candidates import Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lpo_agent.agents.base import AgentSetting, Writers
    from lpo_agent.models.base import Model
    from lpo_agent.plugins import Table
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


class Progress(Protocol):
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

    def start(self, search: Search) -> Progress:
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


def full(method: Method | FullMethod) -> FullMethod:
    """Return a method with all that a run needs of it."""
    return method if isinstance(method, FullMethod) else OwnMethod(method)


def check_options(method: FullMethod, spec: RunSpec) -> None:
    """Raise ConfigError for an option that was given and that the method does not read."""
    for name in OPTIONAL:
        if name in method.reads or name not in spec.model_fields_set:
            continue
        if getattr(spec, name) != type(spec).model_fields[name].get_default(call_default_factory=True):
            others = [known for known in METHODS.built_in if name in full(METHODS.load(known)).reads]
            option = "--set" if name == "method_options" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for --method {_listed(others)}, not {method.name}")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


@dataclass(frozen=True, slots=True)
class OwnMethod:
    """A method of the caller's own, with the rest as ``lpo`` has it."""

    inner: Method

    @property
    def name(self) -> str:
        """Its own name, or its class's."""
        return str(getattr(self.inner, "name", "") or f"own:{type(self.inner).__name__}")

    @property
    def reads(self) -> Collection[str]:
        """All of them: a method may look at any option in ``search.spec``."""
        return OPTIONAL

    def plan(self, spec: RunSpec) -> Plan:
        """Return the numbers of ``lpo``."""
        return full(METHODS.load("lpo")).plan(spec)

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:
        """Return what ``lpo`` would take: what the method itself will ask is not known."""
        return full(METHODS.load("lpo")).calls(spec, task, plan)

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the agents of ``lpo``."""
        return full(METHODS.load("lpo")).writers(setting, model)

    def start(self, search: Search) -> Progress:
        """Return a search that asks the method for finalists and chooses among them as ``lpo`` does."""
        from lpo_agent.search.methods.own import OwnSearch  # noqa: PLC0415 - only where a caller brings a method

        return OwnSearch(self.inner, search)


def as_candidates(found: Any, name: str) -> list[Candidate]:
    """Return what a caller's method returned, checked; raises ConfigError."""
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, Candidate) for each in found):
        raise ConfigError(f"method {name}: search must return a list of Candidate (see Search.edit)")
    return list(found)
