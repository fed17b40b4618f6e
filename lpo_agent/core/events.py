"""The events of a run: one message for each thing that happened, in order.

Events are for observers only and never influence the search. The live view, the logs and the journal are
made from them; :mod:`lpo_agent.core.state` folds them into the state of a run. Events contain prompts,
because observers need them; telemetry leaves prompts out of the logs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.diff import Measures
from lpo_agent.core.result import FaultCounts
from lpo_agent.core.scores import Score


class Event(BaseModel):
    """Base of all events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def name(self) -> str:
        """The event's type, as in its JSON."""
        return str(type(self).model_fields["type"].default)


class RunStarted(Event):
    """The run is set up; no model has been called yet.

    ``why``: the reason why this method was chosen. ``chosen_on``: the split that the method selects prompts on.
    ``search_calls``: the calls of the search, for methods that are fitted to them instead of a number of steps.
    """

    type: Literal["run_started"] = "run_started"
    run_id: str
    method: str
    why: str
    model: str
    optimizer_model: str
    metric: str
    train: int
    dev: int
    test: int
    branches: int
    steps: int
    search_calls: int | None = None
    seed_prompt: str
    chosen_on: Literal["train", "dev"] = "train"


class PhaseStarted(Event):
    """The run enters a phase. ``total``: the number of scorings expected in it, 0 if not known."""

    type: Literal["phase_started"] = "phase_started"
    phase: Literal["look", "search", "confirm", "test", "explain"]
    total: int = 0


class SeedScored(Event):
    """The seed prompt's score on the dev split."""

    type: Literal["seed_scored"] = "seed_scored"
    score: Score


class FaultsCounted(Event):
    """What is wrong with the answers that the seed prompt got in a search's first look."""

    type: Literal["faults_counted"] = "faults_counted"
    faults: FaultCounts


class StepStarted(Event):
    """A branch begins a step from a parent prompt."""

    type: Literal["step_started"] = "step_started"
    branch: int
    step: int
    parent: str


class Marked(Event):
    """A branch marked spans of its parent; ``rendered`` is the parent with these spans in ``<edit>`` tags."""

    type: Literal["marked"] = "marked"
    branch: int
    step: int
    rendered: str
    spans: int
    tagged_fraction: float


class Proposed(Event):
    """A proposal was made and measured against its parent.

    ``candidate`` is None if nothing usable was proposed, and ``lost`` then says why. ``locality`` is the mode
    that was really used: "off" with ``fallback`` if tags were wanted and the model gave none that are valid.
    Of the ``replies`` with tags or filled slots, ``malformed`` could not be used.
    """

    type: Literal["proposed"] = "proposed"
    step: int
    branch: int
    parent: str
    candidate: str | None
    purpose: Literal["mend", "vary", "induce"]
    locality: LocalityMode
    fallback: bool
    replies: int
    malformed: int
    measures: Measures | None
    lost: str | None = None


class CandidateScored(Event):
    """A candidate's mean score over ``items`` items in a selection.

    ``calls``: model calls of the search up to here, counted as if they were made one after another.
    """

    type: Literal["candidate_scored"] = "candidate_scored"
    step: int
    candidate: str
    mean: float | None
    items: int
    calls: int


class BeamSelected(Event):
    """The ids of the candidates that a step keeps, best first."""

    type: Literal["beam_selected"] = "beam_selected"
    step: int
    candidates: tuple[str, ...]


class CandidateRaced(Event):
    """A candidate left its race with this mean score over ``items`` items; ``survived``: it became the new parent.

    ``fate``: "dropped" (shown to be worse than its parent), "outrun" (other candidates scored higher),
    "finished" (scored on all items), "promoted" (shown to be better before the last item). ``chance``: the posterior
    probability that it is better than its parent. It guides the search and is no proof: what is scored next depends
    on it. ``log_e``: only in runs of version 0.1, whose races gave an e-value. ``note``: how it was made.
    """

    type: Literal["candidate_raced"] = "candidate_raced"
    branch: int
    step: int
    candidate: str
    mean: float
    parent_mean: float
    items: int
    survived: bool
    parent: str = ""
    text: str = ""
    fate: Literal["dropped", "outrun", "finished", "promoted"] = "finished"
    log_e: float = 0.0
    chance: float | None = None
    note: str = ""


class StepFinished(Event):
    """A branch ended a step. ``accepted``: the id of its new parent, None if no candidate was better."""

    type: Literal["step_finished"] = "step_finished"
    branch: int
    step: int
    accepted: str | None
    text: str | None = None
    mean: float | None = None
    skipped: str | None = None


class FinalistScored(Event):
    """A finalist's score on the dev split."""

    type: Literal["finalist_scored"] = "finalist_scored"
    candidate: str
    score: Score


class SplitTested(Event):
    """The seed or the final prompt was scored on the test split."""

    type: Literal["split_tested"] = "split_tested"
    which: Literal["seed", "best"]
    score: Score


class RunFinished(Event):
    """The run is over."""

    type: Literal["run_finished"] = "run_finished"
    status: str
    stop_reason: str
    verdict: str


class BenchStarted(Event):
    """A benchmark is set up; ``done`` of its ``cells`` were finished before."""

    type: Literal["bench_started"] = "bench_started"
    run_id: str
    bench: str
    cells: int
    done: int
    model: str
    optimizer_model: str


class CellFinished(Event):
    """One search of a benchmark ended. Scores on test: of the seed prompt, and of the prompt that is best on dev."""

    type: Literal["cell_finished"] = "cell_finished"
    cell: str
    run_id: str
    status: str
    reason: str
    seed_test: float | None
    test: float | None


AnyEvent = Annotated[
    RunStarted
    | PhaseStarted
    | SeedScored
    | FaultsCounted
    | StepStarted
    | Marked
    | Proposed
    | CandidateScored
    | BeamSelected
    | CandidateRaced
    | StepFinished
    | FinalistScored
    | SplitTested
    | RunFinished
    | BenchStarted
    | CellFinished,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Event] = TypeAdapter(AnyEvent)


def read_event(text: str) -> Event:
    """Return an event from its JSON; raises ValueError."""
    return _ADAPTER.validate_json(text)
