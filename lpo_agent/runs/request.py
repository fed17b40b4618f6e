"""The request of a run as the journal stores it, and the objects of the caller, which cannot be stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from lpo_agent.agents.team import OwnAgents
from lpo_agent.errors import ConfigError
from lpo_agent.metrics import as_metric
from lpo_agent.models.pool import OwnModel
from lpo_agent.plugins import OWN, PROVIDERS
from lpo_agent.search.methods.base import METHODS, FullMethod
from lpo_agent.search.methods.choosing import full, without_unread
from lpo_agent.spec import RunSpec, make_spec

if TYPE_CHECKING:
    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.bus.base import Bus
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model
    from lpo_agent.models.providers.base import Provider
    from lpo_agent.search.methods.base import Method
    from lpo_agent.search.task import Task

Kind = Literal["optimize", "evaluate", "compare", "mark", "headroom"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The request of a run: everything that is needed to resume it.

    ``rows``: the key of the rows in the journal, so a resume needs no files. ``own``: the names of the parts that were
    objects of the caller, which must be passed again. ``owner``: the user of a server with several users.
    """

    kind: Kind
    spec: RunSpec
    rows: str
    other_prompt: str | None = None
    custom_metric: bool = False
    owner: str | None = None
    own: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the request as text."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        spec = self.spec.model_copy(update={"examples": ()})
        return json.dumps(content | {"spec": spec.model_dump(mode="json")})


def read_request(text: str) -> RunRequest:
    """Return the request that :meth:`RunRequest.to_json` wrote, in this version or an earlier one.

    Raises ConfigError if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        spec = make_spec(content["spec"])
        if "own" not in content:  # version 0.1
            own = ("metric",) if content.get("custom_metric") else ()
            return RunRequest(**content | {"spec": without_unread(spec), "own": own})
        return RunRequest(**content | {"spec": spec, "own": tuple(content["own"])})
    except ConfigError as exc:
        raise ConfigError(f"the run was written by another version of lpo-agent: {exc}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(f"the run was written by another version of lpo-agent ({type(exc).__name__})") from None


@dataclass(frozen=True, slots=True)
class OwnParts:
    """Objects of the caller; None for parts that the spec names.

    ``providers``: additional providers, by name (the part of a model's name before the colon).
    """

    model: Model | None = None
    optimizer_model: Model | None = None
    metric: Metric | None = None
    method: Method | None = None
    marker: Marker | None = None
    proposer: Proposer | None = None
    bus: Bus | None = None
    providers: Mapping[str, Provider] = field(default_factory=dict)

    def given(self) -> tuple[str, ...]:
        """Return the names of the parts that are objects of the caller."""
        found = [
            each.name for each in fields(self) if each.name != "providers" and getattr(self, each.name) is not None
        ]
        return (*found, *(f"providers[{name!r}]" for name in self.providers))

    def agents(self) -> OwnAgents:
        """Return the objects that the agents use."""
        return OwnAgents(self.metric, self.marker, self.proposer)

    def check_against(self, request: RunRequest, run_id: str) -> None:
        """Raise ConfigError if the resumed run used an object that is missing now."""
        if missing := [name for name in request.own if name not in self.given()]:
            raise ConfigError(f"run {run_id} uses objects of the caller's; pass them again: {', '.join(missing)}")


def split_parts(
    *,
    model: str | Model | None = None,
    optimizer_model: str | Model | None = None,
    metric: object = None,
    method: str | Method | None = None,
    marker: str | Marker | None = None,
    proposer: str | Proposer | None = None,
    bus: str | Bus | None = None,
    providers: Mapping[str, Provider] | None = None,
) -> tuple[dict[str, str], OwnParts]:
    """Split arguments into fields of a spec and objects; the spec has a name for each object too."""
    names: dict[str, str] = {}
    objects: dict[str, Any] = {}
    given: dict[str, Any] = {"model": model, "optimizer_model": optimizer_model, "metric": metric}
    for name, value in (given | {"method": method, "marker": marker, "proposer": proposer, "bus": bus}).items():
        if isinstance(value, str):
            names[name] = value
        elif value is not None:
            check_part(name, value)
            objects[name] = as_metric(value) if name == "metric" else value
            if shown := _name_of(name, objects[name]):
                names[name] = shown
    return names, OwnParts(**objects, providers=checked_providers(providers))


METHODS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("complete",),
    "optimizer_model": ("complete",),
    "method": ("search",),
    "marker": ("mark",),
    "proposer": ("propose",),
    "bus": ("request", "serve"),
    "provider": ("open",),
}
"""The methods that an object of the caller's own must have, by the part that it is."""


def check_part(name: str, value: object) -> None:
    """Raise ConfigError for an object that cannot be this part of a run."""
    if isinstance(value, type) and name != "metric":
        raise ConfigError(f"{name}: {value.__name__} is a class; give an object of it")
    missing = [each for each in METHODS_OF.get(name, ()) if not callable(getattr(value, each, None))]
    if missing and not (name == "method" and isinstance(value, FullMethod)):
        wanted = f"{'' if name == 'provider' else 'a name or '}an object with async {' and '.join(METHODS_OF[name])}"
        raise ConfigError(
            f"{name}: a {type(value).__name__} has no method {missing[0]}; give {wanted.replace('async open', 'open')}"
        )
    if name in {"model", "optimizer_model"}:
        _check_identity(name, value)


def _check_identity(name: str, model: object) -> None:
    try:
        dict(json.loads(json.dumps(getattr(model, "identity", None))) or {})
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: the identity of a model is a mapping of JSON values, or None") from None


def checked_providers(given: Mapping[str, Provider] | None) -> Mapping[str, Provider]:
    """Return the caller's providers; raises ConfigError for what is none, or has a name of the package's own."""
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError("providers: give a mapping of names to providers")
    for name, provider in (given or {}).items():
        if name in PROVIDERS.built_in:
            raise ConfigError(f"providers: {name!r} is a provider of the package itself; choose another name")
        check_part("provider", provider)
    return given or {}


def _name_of(part: str, value: Any) -> str | None:
    """Return the name of an object in a spec, None if it has no field there."""
    if part in {"model", "optimizer_model"}:
        return OwnModel(value).name
    return {"method": OWN, "marker": OWN, "proposer": OWN}.get(part)


def method_of(own: OwnParts, settled: str) -> FullMethod:
    """Return the method of a run; ``settled`` is its name, which is not "auto". Raises ConfigError."""
    return full(own.method if own.method is not None else METHODS.load(settled))


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run whose input was checked and stored in the journal, ready to be carried out."""

    run_id: str
    request: RunRequest
    task: Task
    own: OwnParts = OwnParts()

    def with_spec(self, **changes: Any) -> PreparedRun:
        """Return the run with these options changed."""
        return replace(self, request=replace(self.request, spec=self.request.spec.model_copy(update=changes)))
