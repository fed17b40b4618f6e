"""The plan of a search (its numbers of steps, candidates and items), and the cost of confirmation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a search.

    Search: a method that is ``fitted`` to its budget spends ``search`` calls of task and optimizer model, in at most
    ``steps`` steps (0: as many as these calls can pay for) of ``rounds`` rounds, after ``probe`` calls that chose the
    method. In each round, each of ``branches`` draws ``proposals`` sets of edits from a pool of ``pool`` edits or more.
    A set has at most ``size`` edits at first, and is scored on ``look`` items. The seed prompt is scored on
    ``first_rung`` of the training items before the first round, and at most ``last_rung`` training items are used (the
    panel). A marker marks ``marks`` spans.

    Analysis: ``failures`` and ``passes`` are the numbers of examples that the critic sees and that influence is
    measured on. With ``measures``, the influence of at most ``probes`` phrases is measured before a prompt is marked.
    With ``reranks``, the spans that a model marked are measured, and the best of them are kept.

    End: ``finalists`` prompts are scored on dev. The worth of at most ``explained`` edits is measured on
    ``explained_on`` training items, by methods that do not know it from their search.

    Prompts have at most ``demos`` demonstrations. ``beam``: the size of the beam, for beam methods. ``chosen_on``: the
    split that the method selects prompts on. ``marker`` and ``proposer``: the names of those agents.
    """

    search: int = 0
    probe: int = 0
    fitted: bool = False
    branches: int = 4
    steps: int = 3
    rounds: int = 4
    proposals: int = 4
    pool: int = 24
    size: int = 3
    marks: int = 4
    look: int = 8
    first_rung: int = 8
    last_rung: int = 48
    failures: int = 3
    passes: int = 2
    probes: int = 3
    measures: bool = True
    reranks: bool = False
    finalists: int = 2
    explained: int = 8
    explained_on: int = 24
    demos: int = 0
    beam: int = 2
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

    def part(self, calls: int) -> EndCost:
        """Return the cost of some of these calls."""
        share = calls / self.calls if self.calls else 0.0
        return EndCost(calls, round(self.tokens * share), None if self.usd is None else self.usd * share)
