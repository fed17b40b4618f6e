"""Subscriptions to runs, in both versions of the protocol: subscribers get a notification when a run has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from lpo_agent.errors import LpoError
from lpo_mcp.authorization import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server import MCPServer
    from mcp.server.context import ServerRequestContext

    from lpo_mcp.manager import RunManager

PARTS = ("", "/report", "/prompt")


@dataclass(slots=True)
class Subscriptions:
    """Notifies subscribers of a changed run: over ``bus`` in protocol 2026-07-28, over their sessions before that."""

    manager: Callable[[], RunManager]
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    sessions: dict[str, list[Any]] = field(default_factory=dict)

    async def changed(self, run_id: str) -> None:
        """Notify the subscribers of a run, and remove those whose connection is closed."""
        for part in PARTS:
            uri = f"lpo://runs/{run_id}{part}"
            await self.bus.publish(ResourceUpdated(uri=uri))
            for session in list(self.sessions.get(uri, ())):
                try:
                    await session.send_resource_updated(uri)
                except (anyio.ClosedResourceError, anyio.BrokenResourceError, MCPError):
                    self._forget(uri, session)

    def add_to(self, mcp: MCPServer[RunManager]) -> None:
        """Register the requests to subscribe and unsubscribe of the older protocol."""
        server = mcp._lowlevel_server  # noqa: SLF001 - the SDK has these requests at this level only
        server.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    async def _subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        uri = str(params.uri)
        try:
            await self.manager().read(uri.removeprefix("lpo://runs/").partition("/")[0], owner_of())
        except LpoError:
            raise MCPError(INVALID_PARAMS, "there is no such run") from None
        if ctx.session not in self.sessions.setdefault(uri, []):
            self.sessions[uri].append(ctx.session)
        return EmptyResult()

    async def _unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._forget(str(params.uri), ctx.session)
        return EmptyResult()

    def _forget(self, uri: str, session: Any) -> None:
        left = [each for each in self.sessions.get(uri, []) if each is not session]
        if left:
            self.sessions[uri] = left
        else:
            self.sessions.pop(uri, None)
