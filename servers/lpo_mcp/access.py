"""Who is asking: the token's owner over HTTP, nobody in particular on stdio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier

if TYPE_CHECKING:
    from lpo_mcp.settings import Settings

SCOPE = "lpo"


def owner_of() -> str | None:
    """Return whose request this is, None without tokens."""
    token = get_access_token()
    return None if token is None else token.subject


class Verifier(TokenVerifier):
    """Knows the operator's tokens; ``url`` is the audience of those that name none."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings, self._url = settings, url

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose token it is, None for an unknown one."""
        found = self._settings.identify(token)
        if found is None:
            return None
        audience = found.audience or self._url
        return AccessToken(token=token, client_id=found.owner, subject=found.owner, scopes=[SCOPE], resource=audience)
