"""The numbers of a search: how much of what it does, and what its end may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what a search does.

    ``branches`` run ``steps`` steps each, with ``proposals`` candidates a step and ``marks`` spans
    a marking. Candidates are raced on at most ``last_rung`` training items, the panel, ``look`` at a
    time; the field is halved first after ``first_rung``. ``failures`` and ``passes`` are the examples shown
    to the critic and used to measure influence; ``measures`` turns that measuring on, for at most
    ``probes`` phrases a step. With ``reranks`` a model marks, and what it marked is measured.
    Prompts hold at most ``demos`` demonstrations. ``finalists`` prompts go to the dev split, a part of which
    is kept to confirm the choice if ``confirms``; ``beam`` is the hosts'. A branch may be ``lag`` steps ahead
    of the slowest one before it waits for news. After ``widens`` steps without success a branch marks more,
    after ``restarts`` it takes hold of all that may change of another prompt, and then begins anew.
    The worth of at most ``explained`` edits is measured, on ``explained_on`` training items. ``marker`` and
    ``proposer`` name who marks and who writes. ``chosen_on``: the split that the method selects prompts on.
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
class Need:
    """What the end of a run will cost at most: confirmation on dev and the test."""

    calls: int
    tokens: int
    usd: float | None
