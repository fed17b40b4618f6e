"""Checks the options of a single method (``--set NAME=VALUE``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], given: Mapping[str, Any], method: str) -> M:
    """Return the options as a ``model``; raises ConfigError that names the invalid option."""
    if unknown := sorted(given.keys() - model.model_fields.keys()):
        known = ", ".join(model.model_fields)
        raise ConfigError(f"--set: {unknown[0]!r} is no option of method {method}; it has {known}")
    try:
        return model.model_validate(dict(given))
    except ValidationError as exc:
        error = exc.errors()[0]
        name, text = error["loc"][0], error["msg"]
        raise ConfigError(f"--set {name}: {text[:1].lower()}{text[1:]} (got {given[str(name)]!r})") from None
