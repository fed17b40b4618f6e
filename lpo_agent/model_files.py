"""Downloads the files of models that run on this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.models.providers.weights import SMOLLM2, pull_smollm2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lpo_agent.environment import Environment
    from lpo_agent.models.providers.weights import Source

SOURCES: Final[Mapping[str, Source]] = {"smollm2": SMOLLM2}
LOCAL_MODELS: Final = tuple(SOURCES)
"""The models that :func:`pull_model` can download, by their names after ``local:``."""


async def pull_model(
    name: str,
    *,
    env: Environment | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Path:
    """Download and check the file of one of :data:`LOCAL_MODELS`, and return its path.

    An existing file is kept if it is not damaged. ``say`` is called with messages for the user; ``progress`` shows a
    bar on standard error. Raises ConfigError.
    """
    if name not in SOURCES:
        raise ConfigError(f"there is no model {name!r} to fetch; known are {', '.join(LOCAL_MODELS)}")
    home = (env or read_environment()).home
    pull = partial(pull_smollm2, home, say=say, progress=progress, verify=True, source=SOURCES[name])
    return await to_thread.run_sync(pull)
