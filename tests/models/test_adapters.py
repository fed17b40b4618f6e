"""What every adapter must do, against a real HTTP server on loopback."""

from __future__ import annotations

import email.utils
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from lpo_agent.core.retry import Retry
from lpo_agent.errors import (
    AuthError,
    QuotaError,
    RateLimited,
    RequestRejected,
    TransientError,
    UnknownModelError,
    UnreachableError,
)
from lpo_agent.models.anthropic import AnthropicModel
from lpo_agent.models.base import Call, Turn, Usage
from lpo_agent.models.openai import OpenAIModel
from tests.models.fake_server import Reply, failure, fake_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.errors import ProviderError

pytestmark = pytest.mark.anyio

Adapter = type[OpenAIModel] | type[AnthropicModel]
BOTH: list[Adapter] = [OpenAIModel, AnthropicModel]
SECRET = "the secret word is swordfish"


@pytest.fixture(params=BOTH, ids=["openai", "anthropic"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    found: Adapter = request.param
    return found


def call(text: str = SECRET, **options: Any) -> Call:
    return Call((Turn("user", text),), **options)


async def failure_of(adapter: Adapter, reply: Reply) -> ProviderError:
    """Return the error for a reply; one call must be one request, as retries are owned elsewhere."""
    with fake_server() as server:
        server.reply_with(reply)
        async with adapter("m", base_url=f"{server.url}/v1") as model:
            with pytest.raises((AuthError, QuotaError, RateLimited, RequestRejected, TransientError, UnknownModelError, UnreachableError)) as caught:
                await model.complete(call())
    assert len(server.calls) == 1
    return caught.value
