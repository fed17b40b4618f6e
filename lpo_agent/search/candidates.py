"""The values that a search passes around: candidates, reports of steps, the history, and counts of locality checks."""

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


Pairs = frozenset[tuple[str, str]]
"""Pairs of prompt text and row id that were scored."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """The result of one step of a branch.

    ``accepted``: the candidate that replaces its parent, None if there is none; ``mean``: its mean score over
    the panel. ``tried``: the texts that were raced; ``tries``: the gains of their edits by place. ``pairs``: the
    scored pairs; ``asked``: calls of the optimizer model. ``skipped``: why the step ended without a race.
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
    """What a step may use: the results of all branches up to its logical time.

    ``pool``: the seed prompt, then the accepted candidates, each text once; all are scored on the panel.
    ``tried``: all texts that were raced; ``tries``: the gains of their edits by place. ``failed_steps``: the number
    of the branch's own steps without success since its last success, or since its start.
    """

    pool: tuple[Candidate, ...]
    tried: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    failed_steps: int = 0

    def reach(self, plan: Plan) -> Reach:
        """Return how much of its parent the next step may change; more after steps without success."""
        stuck = self.failed_steps % (plan.restarts + 1)
        if stuck == plan.restarts:
            return "all"
        return "wide" if stuck >= plan.widens else "near"


def history_of(seed: Candidate, reports: Iterable[StepReport], branch: int) -> SearchHistory:
    """Return the history that a branch gets from these reports, which are in logical order."""
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
    failed_steps = own[::-1].index(True) if True in own else len(own)
    return SearchHistory(tuple(pool.values()), tuple(tried), tuple(tries), failed_steps)


def seed_of(*parts: int | str) -> int:
    """Return a random seed made from the parts alone, so that draws do not depend on the timing of replies."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
