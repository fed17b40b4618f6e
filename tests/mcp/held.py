"""A provider that answers only after the test releases it, so that a run is in progress as long as the test needs.

This replaces a slow model and assumptions about times. ``RUN`` is a search of about a hundred calls, which ends soon
after ``provider.release()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lpo_agent.environment import Environment
from tests.mcp.models import answer_text
from tests.models.fake_server import Asked, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.fake_server import FakeServer

MODEL: Final = "openai:held"
EXAMPLES: Final = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(100, 140)]
RUN: Final[dict[str, Any]] = {
    "prompt": "Say it.",
    "examples": EXAMPLES,
    "metric": "numeric",
    "method": "local-search",
    "steps": 1,
    "proposals": 2,
    "model": MODEL,
}


def hold(provider: FakeServer) -> None:
    """Let the provider answer like ``models.answer``, but only after ``provider.release()``."""
    provider.reply_with(_held)


def _held(asked: Asked) -> Reply:
    return Reply(answer_text(asked.text), held=True)


def environment(home: Path, provider: FakeServer) -> Environment:
    """Return an environment in which ``MODEL`` is a model of the provider."""
    return Environment(home, keys={"openai": "k"}, base_urls={"openai": f"{provider.url}/v1"})


def variables(provider: FakeServer) -> dict[str, str]:
    """Return the same as environment variables, for another process."""
    return {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{provider.url}/v1"}
