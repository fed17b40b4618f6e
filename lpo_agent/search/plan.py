"""The plan of a search (its numbers of steps, candidates and items), and the cost of confirmation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a search.

    Steps: ``branches`` run ``steps`` steps each. A step marks ``marks`` spans and makes ``proposals`` candidates.
    A branch may be ``lag`` steps ahead of the slowest one before it waits. After ``widens`` steps without
    success a branch marks twice as many spans; after ``restarts`` of them it may change all of another prompt,
    and then starts again with few spans.

    Races: candidates are raced on at most ``last_rung`` training items (the panel), ``look`` at a time, and are
    halved for the first time after ``first_rung`` items.

    Analysis: ``failures`` and ``passes`` are the numbers of examples that the critic sees and that influence is
    measured on. With ``measures``, the influence of at most ``probes`` phrases is measured in each step. With
    ``reranks``, the spans that a model marked are measured, and the best of them are kept.

    End: ``finalists`` prompts are scored on dev, of which a part is kept to confirm the choice if ``confirms``.
    The worth of at most ``explained`` edits is measured on ``explained_on`` training items.

    Prompts have at most ``demos`` demonstrations. ``beam``: the size of the beam, for beam methods.
    ``chosen_on``: the split that the method selects prompts on. ``marker`` and ``proposer``: the names of those
    agents.
    """

    branches: int = 4
    steps: int = 3
    proposals: int = 4
    marks: int = 4
    look: int = 8
    first_rung: int = 8
    last_rung: int = 48
    failures: int = 3
    passes: int = 2
    probes: int = 3
    finalists: int = 2
    confirms: bool = True
    beam: int = 2
    measures: bool = True
    reranks: bool = False
    lag: int = 2
    widens: int = 1
    restarts: int = 2
    demos: int = 0
    explained: int = 8
    explained_on: int = 24
    marker: str = "llm"
    proposer: str = "llm"
    chosen_on: Literal["train", "dev"] = "train"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EndCost:
    """The highest possible cost of the end of a run: confirmation on dev, and test. ``usd`` None: price not known."""

    calls: int
    tokens: int
    usd: float | None
