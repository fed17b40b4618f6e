"""Checks bearer tokens, which determine the owner of a request. On stdio, or without tokens, there is no owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier

if TYPE_CHECKING:
    from lpo_mcp.settings import Settings

SCOPE = "lpo"


def owner_of() -> str | None:
    """Return the owner of the request's token, None without tokens."""
    token = get_access_token()
    return None if token is None else token.subject


class SettingsVerifier(TokenVerifier):
    """Checks tokens against the settings; ``url`` is the audience of tokens without one."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings, self._url = settings, url

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the token's owner and audience, None for an unknown token."""
        found = self._settings.identify(token)
        if found is None:
            return None
        audience = found.audience or self._url
        return AccessToken(token=token, client_id=found.owner, subject=found.owner, scopes=[SCOPE], resource=audience)
