"""The settings of the server's operator: models, folders, caps, tokens. No tool can change them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lpo_agent import plugins
from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent import Environment

GUIDED: Final = ("start_guided_run", "submit_marks", "submit_candidates", "next_inputs", "submit_outputs")
TOOLS: Final = (
    *("optimize_prompt", "mark_prompt", "evaluate_prompt", "compare_prompts"),
    *("get_run", "list_runs", "cancel_run", "resume_run", "estimate_cost"),
    *GUIDED,
)
SPENDING: Final = frozenset(
    ("optimize_prompt", "mark_prompt", "evaluate_prompt", "compare_prompts", "resume_run", *GUIDED),
)
"""Tools that call models or start runs that do. `--read-only` leaves them out, and cancel_run too."""
WITHHELD: Final = "regex"
"""The metric that tools may not use, because a client's pattern could keep the server busy forever."""
METRICS: Final = tuple(name for name in plugins.METRICS.built_in if name != WITHHELD)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, with its owner; ``audience`` is the URL of the server that it was made for, None for this one."""

    secret: str = field(repr=False)
    owner: str
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings. Caps are per run: calls, US dollars, rows, bytes.

    ``models``: names that tools may use, such as "openai:gpt-5.4-mini", or "openai:*"; the first name without a star
    is the default. ``metrics``: further metrics, the name and FILE.py:FUNCTION of each. ``roots``: folders whose files
    may be datasets. Runs above ``approve_calls`` or ``approve_usd`` need the user's approval. ``server_calls`` and
    ``server_usd`` cap all runs of this process together. ``bus``: what carries requests to agents, "memory" or
    nats://HOST:PORT. ``wait``: seconds that a tool waits by default. ``heartbeat``: most seconds between two progress
    messages.
    """

    models: tuple[str, ...] = ()
    optimizer_model: str | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[Path, ...] = ()
    default_calls: int = 2_000
    max_calls: int = 20_000
    max_usd: float = 20.0
    approve_calls: int = 5_000
    approve_usd: float = 2.0
    server_calls: int | None = None
    server_usd: float | None = None
    max_rows: int = 5_000
    max_row_chars: int = 50_000
    max_prompt_chars: int = 200_000
    max_file_bytes: int = 20_000_000
    max_runs: int = 50
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int = 64
    bus: str = "memory"
    wait: float = 45.0
    read_only: bool = False
    tools: tuple[str, ...] = TOOLS
    tokens: tuple[Token, ...] = ()
    heartbeat: float = 10.0

    def offered(self) -> tuple[str, ...]:
        """Return the names of the tools that are offered."""
        hidden = SPENDING | {"cancel_run"} if self.read_only else frozenset()
        return tuple(name for name in TOOLS if name in self.tools and name not in hidden)

    def default_model(self) -> str | None:
        """Return the default model."""
        return next((name for name in self.models if not name.endswith("*")), None)

    def allows(self, model: str) -> bool:
        """Return whether a tool may use this model."""
        if "/" in model.partition(":")[2] and model.startswith("local:"):
            return model in self.models  # a path must be named by the operator as it is
        return any(model == name or (name.endswith("*") and model.startswith(name[:-1])) for name in self.models)

    def identify(self, secret: str) -> Token | None:
        """Return the token with this secret, compared in constant time."""
        found = [token for token in self.tokens if hmac.compare_digest(token.secret.encode(), secret.encode())]
        return found[0] if found else None


def default_models(env: Environment) -> tuple[str, ...]:
    """Return the models to allow if no option names any: those of LPO_MCP_MODELS, or those of available providers.

    A provider is available if its key or base URL is in the environment; the embedded model, if its package is
    installed.
    """
    named = tuple(name.strip() for name in env.mcp_models.split(",") if name.strip())
    if named:
        return named
    found = [
        f"{provider}:*" for provider in ("openai", "anthropic") if env.keys.get(provider) or env.base_urls.get(provider)
    ]
    from importlib.util import find_spec  # noqa: PLC0415 - beside its only use

    return (*found, "local:smollm2") if find_spec("xllamacpp") else tuple(found)


def read_tokens(text: str) -> tuple[Token, ...]:
    """Read ``OWNER=SECRET`` or ``OWNER=SECRET@AUDIENCE``, separated by commas; raises ConfigError."""
    tokens = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        owner, equals, rest = part.partition("=")
        secret, _, audience = rest.partition("@")
        if not equals or not owner.strip() or len(secret) < 16:
            raise ConfigError(
                "LPO_MCP_TOKENS: write OWNER=SECRET, separated by commas, secrets of 16 characters or more"
            )
        tokens.append(Token(secret, owner.strip(), audience or None))
    return tuple(tokens)
