"""Turns a method of the caller into a full method, and checks the options of a method."""

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
    from lpo_agent.search.methods.base import Method, PhasedSearch
    from lpo_agent.search.plan import Plan
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


def full(method: Method | FullMethod) -> FullMethod:
    """Return the method itself if it is a full method, otherwise a wrapper that adds the missing parts."""
    return method if isinstance(method, FullMethod) else OwnMethod(method)


def check_options(method: FullMethod, spec: RunSpec) -> None:
    """Raise ConfigError for a given option that the method does not use."""
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
    """Wraps a method of the caller; the parts that it lacks are those of ``lpo``."""

    inner: Method

    @property
    def name(self) -> str:
        """The name of the method, or of its class."""
        return str(getattr(self.inner, "name", "") or f"own:{type(self.inner).__name__}")

    @property
    def reads(self) -> Collection[str]:
        """All fields, because the method can use any option in ``search.spec``."""
        return OPTIONAL

    def plan(self, spec: RunSpec) -> Plan:
        """Return the plan of ``lpo``."""
        return full(METHODS.load("lpo")).plan(spec)

    def calls(self, spec: RunSpec, task: Task, plan: Plan) -> tuple[int, int]:
        """Return the number of calls of ``lpo``, because the calls of the method are not known."""
        return full(METHODS.load("lpo")).calls(spec, task, plan)

    def writers(self, setting: AgentSetting, model: Model) -> Writers:
        """Return the agents of ``lpo``."""
        return full(METHODS.load("lpo")).writers(setting, model)

    def start(self, search: Search) -> PhasedSearch:
        """Return a search that asks the method for finalists and chooses among them as ``lpo`` does."""
        return OwnSearch(self.inner, search)
