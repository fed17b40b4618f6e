"""Functions of the user's own, from a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def load_function(place: str, name: str, *, what: str) -> Callable[..., Any]:
    """Return the function ``name`` of a Python file or module; raises ConfigError."""
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise ConfigError(f"{what}: there is no file {place}")
            spec = importlib.util.spec_from_file_location(f"lpo_user_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise ConfigError(f"{what}: {place} is no Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except (ImportError, SyntaxError, NameError, OSError, ValueError) as exc:
        raise ConfigError(f"{what}: {place} cannot be imported: {exc}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{what}: {place} has no function {name!r}")
    found: Callable[..., Any] = function
    return found
