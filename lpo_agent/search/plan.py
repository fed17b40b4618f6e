"""The numbers of a search, and the things that move through it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpo_agent.core.text import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpo_agent.core.text import MarkedPrompt, Prompt


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what a search does.

    ``branches`` run ``steps`` steps each, with ``proposals`` candidates a step and ``marks`` spans
    a marking. A race is judged first after ``first_rung`` training items and ends after
    ``last_rung``. ``failures`` and ``passes`` are the examples shown to the critic and used to
    measure influence; ``measures`` turns that measuring on, for at most ``probes`` phrases a step. With
    ``reranks`` a model marks, and what it marked is measured.
    Branches draw their parents from the ``beam`` best prompts. ``finalists`` prompts go to the dev
    split. A branch may be ``lag`` steps ahead of the slowest one before it waits for news.
    """

    branches: int = 4
    steps: int = 3
    proposals: int = 4
    marks: int = 4
    first_rung: int = 8
    last_rung: int = 48
    failures: int = 3
    passes: int = 3
    probes: int = 4
    finalists: int = 2
    beam: int = 2
    measures: bool = True
    reranks: bool = False
    lag: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What the end of a run will cost at most: confirmation on dev and the test."""

    calls: int
    tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt with its origin; the seed prompt has step 0 and no marked parent."""

    prompt: Prompt
    step: int = 0
    branch: int = 0
    marked: MarkedPrompt | None = None
    note: str = ""

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.prompt.id


@dataclass(slots=True)
class Locality:
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


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step gave. ``mean`` and ``parent_mean`` are over the same ``items`` training items."""

    branch: int
    step: int
    accepted: Candidate | None = None
    mean: float = 0.0
    parent_mean: float = 0.0
    items: int = 0
    tried: tuple[str, ...] = ()
    skipped: str | None = None


def ranked(reports: Iterable[StepReport]) -> list[StepReport]:
    """Return the successful reports, best first, one for each text.

    By the mean over the race's items, which are the same for all; among equals the shorter prompt.
    """
    best: dict[str, tuple[tuple[float, int, int, int], StepReport]] = {}
    for report in reports:
        if report.accepted is not None:
            text = report.accepted.prompt.text
            best.setdefault(text, ((-report.mean, len(text), report.step, report.branch), report))
    return [report for _, report in sorted(best.values(), key=lambda pair: pair[0])]
