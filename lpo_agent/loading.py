"""Loads functions that a user names, from a Python file or an importable module."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def load_function(place: str, name: str, *, what: str) -> Callable[..., Any]:
    """Return the function ``name`` of ``place``, a path that ends in ``.py`` or the name of a module.

    ``what`` begins the error messages, such as "metric file.py:name". Raises ConfigError.
    """
    try:
        module = _from_file(Path(place), what) if place.endswith(".py") else importlib.import_module(place)
    except ConfigError:
        raise
    except Exception as exc:  # noqa: BLE001 - the user's own code runs here, and may raise anything
        raise ConfigError(f"{what}: {place} cannot be imported: {type(exc).__name__}: {exc}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{what}: {place} has no function {name!r}")
    found: Callable[..., Any] = function
    return found


def _from_file(path: Path, what: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{what}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"lpo_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{what}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
