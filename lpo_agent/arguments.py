"""Types of the arguments that the library's functions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.bus.base import Bus
    from lpo_agent.data import Example
    from lpo_agent.metrics import Metric
    from lpo_agent.models.base import Model
    from lpo_agent.models.providers.base import Provider
    from lpo_agent.search.methods.base import Method

Rows = Sequence["Example | Mapping[str, Any]"]
"""Rows with ``input`` and ``target``, as examples or mappings."""
MetricLike: TypeAlias = "str | Metric | Callable[..., Any]"
"""A name, ``FILE.py:FUNCTION``, a function ``(output, target, row)``, or a Metric."""


class Parts(TypedDict, total=False):
    """Parts of a run that may be objects of the caller instead of names.

    Such objects must be passed again when the run is resumed.
    """

    model: str | Model
    """The model that answers the rows: ``PROVIDER:NAME`` or a Model."""
    optimizer_model: str | Model | None
    """The model that marks, proposes and judges (default: the model that answers)."""
    metric: MetricLike | None
    """How answers are scored: a name, ``FILE.py:FUNCTION``, a function ``(output, target, row)``, or a Metric."""
    method: str | Method
    """How to search: a name or a Method (default: auto, which tests what the optimizer model can do)."""
    marker: str | Marker | None
    """What chooses the words to edit: a name or a Marker (default: depends on the method)."""
    proposer: str | Proposer | None
    """What writes new words: a name or a Proposer (default: depends on the method)."""
    bus: str | Bus
    """What carries requests to agents: memory, nats://HOST:PORT for workers, or a Bus (default: memory)."""
    providers: Mapping[str, Provider]
    """Additional providers, by name (the part of a model's name before the colon)."""


def silent(_: str) -> None:
    """Ignore a message."""
