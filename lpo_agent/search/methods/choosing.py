"""From the name of a method, or the caller's own object, to a method with all that a run needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.errors import ConfigError
from lpo_agent.search.methods.base import METHODS, OPTIONAL, FullMethod
from lpo_agent.search.methods.own import OwnSearch

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lpo_agent.agents.base import AgentSetting, Writers
    from lpo_agent.models.base import Model
    from lpo_agent.search.context import Search
    from lpo_agent.search.methods.base import Method, Progress
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


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


def without_unread(spec: RunSpec) -> RunSpec:
    """Return the spec without the options that its method does not read; version 0.1 accepted and ignored them."""
    if spec.method not in METHODS:
        return spec
    reads = full(METHODS.load(spec.method)).reads
    given = {name: getattr(spec, name) for name in spec.model_fields_set - (set(OPTIONAL) - set(reads))}
    return type(spec).model_construct(**given)


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
        return OwnSearch(self.inner, search)
