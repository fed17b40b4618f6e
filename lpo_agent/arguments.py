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
    """Parts of a run that may be the caller's own objects in place of names.

    What must be given again when a run with such objects is resumed.
    """

    model: str | Model
    """Answers the rows: ``PROVIDER:NAME`` or a Model."""
    optimizer_model: str | Model | None
    """Marks, proposes and judges (default: the model that answers)."""
    metric: MetricLike | None
    """How answers are scored: a name, ``FILE.py:FUNCTION``, a function ``(output, target, row)``, or a Metric."""
    method: str | Method
    """How to search: a name or a Method (default: auto, which tests what the optimizer model can do)."""
    marker: str | Marker | None
    """Who chooses the words to edit: a name or a Marker (default: the method's own)."""
    proposer: str | Proposer | None
    """Who writes new words: a name or a Proposer (default: the method's own)."""
    bus: str | Bus
    """What carries requests to agents: memory, nats://HOST:PORT for workers, or a Bus (default: memory)."""
    providers: Mapping[str, Provider]
    """Providers of the caller's own, by the name before the colon of a model's."""


def silent(_: str) -> None:
    """Tell nobody."""
