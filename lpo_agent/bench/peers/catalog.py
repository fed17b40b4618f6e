"""The other optimizers that a benchmark can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PEER: Final = "peer"
"""The kind of a peer's searches in the journal."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An optimizer of another package.

    ``program``: the module in ``programs`` that runs it. ``modules``: what must be installed for it. ``answers``: the
    program also answers the test items, because its result is more than a template.
    """

    name: str
    program: str
    modules: tuple[str, ...]
    answers: bool = False


PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("gepa", "run_gepa", ("gepa", "litellm")),
        Peer("dspy-mipro", "run_dspy", ("dspy", "optuna"), answers=True),
        Peer("dspy-gepa", "run_dspy", ("dspy", "gepa"), answers=True),
        Peer("capo", "run_capo", ("promptolution",)),
    )
}
"""All peers, by the name of their arm."""
