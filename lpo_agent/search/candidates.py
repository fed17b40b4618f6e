"""What moves through a search: candidates, reports of steps, and the checks of locality."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.text import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpo_agent.core.credit import Try
    from lpo_agent.core.messages import Reach
    from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement
    from lpo_agent.search.plan import Plan


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt with its origin; the seed prompt has step 0 and no marked parent.

    ``filled``: what was put into the parent's spans, where that is known.
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
    """Real checks of candidates against the spans that they were allowed to change.

    Branches have the candidates checked that they accept, hosts all that were made from tags.
    """

    checked: int = 0
    violations: int = 0
    fractions: list[float] = field(default_factory=list)

    def admits(self, candidate: Candidate) -> bool:
        """Check a candidate from its text alone, and count the check."""
        if candidate.marked is None:
            return True
        self.checked += 1
        self.fractions.append(candidate.marked.tagged_fraction)
        local = is_local(candidate.marked, candidate.prompt.text)
        self.violations += not local
        return local


Pairs = frozenset[tuple[str, str]]
"""Pairs of prompt text and row id that were scored."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step gave.

    ``mean``: of the accepted candidate over the whole panel. ``tried`` texts were raced, ``tries`` is what
    that told about places. ``pairs`` were scored and ``asked`` calls of the optimizer model made for it.
    """

    branch: int
    step: int
    accepted: Candidate | None = None
    mean: float = 0.0
    tried: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    pairs: Pairs = frozenset()
    asked: int = 0
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class SearchHistory:
    """What a step may know: all that any branch found up to its logical time.

    ``pool``: the seed prompt first, then what was accepted, each text once; all are scored on the panel.
    ``barren``: the branch's own steps since its last success, or since it began.
    """

    pool: tuple[Candidate, ...]
    tried: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    barren: int = 0

    def reach(self, plan: Plan) -> Reach:
        """Return how much of its parent the next step may take hold of."""
        stuck = self.barren % (plan.restarts + 1)
        if stuck == plan.restarts:
            return "all"
        return "wide" if stuck >= plan.widens else "near"


def history_of(seed: Candidate, reports: Iterable[StepReport], branch: int) -> SearchHistory:
    """Return what these reports, in logical order, tell a branch."""
    pool, own = {seed.prompt.text: seed}, []
    tried: dict[str, None] = {}
    tries: list[Try] = []
    for report in reports:
        if report.accepted is not None:
            pool.setdefault(report.accepted.prompt.text, report.accepted)
        tried |= dict.fromkeys(report.tried)
        tries += report.tries
        if report.branch == branch:
            own.append(report.accepted is not None)
    barren = own[::-1].index(True) if True in own else len(own)
    return SearchHistory(tuple(pool.values()), tuple(tried), tuple(tries), barren)


def seed_of(*parts: int | str) -> int:
    """Return a seed that follows from its parts alone, so that timing never changes what is drawn."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
