"""Computes the state of a run from its events; used by the live view, `lpo show` and when a run is resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpo_agent.core.events import (
    BenchStarted,
    CandidateRaced,
    CandidateScored,
    CellFinished,
    FinalistScored,
    PhaseStarted,
    RunFinished,
    RunStarted,
    SeedScored,
    SplitTested,
    StepFinished,
    StepStarted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lpo_agent.core.events import Event
    from lpo_agent.core.scores import Score


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run after some of its events.

    ``best_text`` and ``best_mean``: the accepted candidate with the highest mean score on training items.
    ``branch_steps``: pairs of a branch and its current step. ``cells``: finished and total cells of a benchmark.
    """

    started: RunStarted | None = None
    phase: str = "setup"
    seed_dev: Score | None = None
    branch_steps: tuple[tuple[int, int], ...] = ()
    steps_done: int = 0
    skipped: int = 0
    candidates: int = 0
    best_text: str | None = None
    best_mean: float | None = None
    finalists: tuple[Score, ...] = ()
    tested: tuple[tuple[str, Score], ...] = ()
    finished: RunFinished | None = None
    cells: tuple[int, int] | None = None


def fold(events: Iterable[Event], state: RunState | None = None) -> RunState:
    """Return ``state`` (default: the state before any event) after ``events``."""
    state = state or RunState()
    for event in events:
        state = advance(state, event)
    return state


def advance(state: RunState, event: Event) -> RunState:  # noqa: C901, PLR0911 - one line an event
    """Return the state after one event."""
    match event:
        case RunStarted():
            return replace(state, started=event)
        case PhaseStarted():
            return replace(state, phase=event.phase)
        case SeedScored():
            return replace(state, seed_dev=event.score)
        case StepStarted():
            steps = dict(state.branch_steps) | {event.branch: event.step}
            return replace(state, branch_steps=tuple(sorted(steps.items())))
        case CandidateRaced() | CandidateScored():
            return replace(state, candidates=state.candidates + 1)
        case StepFinished():
            return _after_step(state, event)
        case FinalistScored():
            return replace(state, finalists=(*state.finalists, event.score))
        case SplitTested():
            return replace(state, tested=(*state.tested, (event.which, event.score)))
        case RunFinished():
            return replace(state, finished=event, phase="finished")
        case BenchStarted():
            return replace(state, cells=(event.done, event.cells), phase="bench")
        case CellFinished():
            done, total = state.cells or (0, 0)
            return replace(state, cells=(done + 1, total))
        case _:
            return state


def _after_step(state: RunState, event: StepFinished) -> RunState:
    state = replace(state, steps_done=state.steps_done + 1, skipped=state.skipped + (event.skipped is not None))
    better = event.mean is not None and (state.best_mean is None or event.mean > state.best_mean)
    return replace(state, best_text=event.text, best_mean=event.mean) if better else state
