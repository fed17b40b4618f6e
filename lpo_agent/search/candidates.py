"""The values that a search passes around: candidates, and counts of locality checks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.text import is_local

if TYPE_CHECKING:
    from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt and how it was made; the seed prompt has step 0 and no marked parent.

    ``marked``: the parent with the spans that were allowed to change. ``filled``: the texts that were put into
    these spans, empty if they are not known. ``note``: how it was made, in words.
    """

    prompt: Prompt
    step: int = 0
    branch: int = 0
    marked: MarkedPrompt | None = None
    note: str = ""
    filled: tuple[Replacement, ...] = ()

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.prompt.id


@dataclass(slots=True)
class LocalityChecks:
    """Checks that candidates changed only the spans that they were allowed to change, and counts the checks.

    The local search checks the candidates that it accepts, the beam methods all that were made from tags.
    ``fractions``: for each check, the share of the parent's words that were inside spans.
    """

    checked: int = 0
    violations: int = 0
    fractions: list[float] = field(default_factory=list)

    def admits(self, candidate: Candidate) -> bool:
        """Return whether the candidate is local, judged from its text alone; candidates without spans always are."""
        if candidate.marked is None:
            return True
        self.checked += 1
        self.fractions.append(candidate.marked.tagged_fraction)
        local = is_local(candidate.marked, candidate.prompt.text)
        self.violations += not local
        return local


def seed_of(*parts: int | str) -> int:
    """Return a random seed made from the parts alone, so that draws do not depend on the timing of replies."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
