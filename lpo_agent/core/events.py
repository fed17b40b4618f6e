"""Facts about a run, in the order they happened. Events never steer; anyone may listen.

The stream drives the live view, the logs and the journal; :mod:`lpo_agent.core.state` folds it
into the state of a run. Prompts stand in events because observers need them; telemetry leaves
them out of the logs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.diff import Measures
from lpo_agent.core.scores import Score


class Event(BaseModel):
    """Base of all events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def name(self) -> str:
        """The event's type, as in its JSON."""
        return str(type(self).model_fields["type"].default)


class RunStarted(Event):
    """The run is set up; nothing has been asked yet. ``why`` says why this method was chosen."""

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
    seed_prompt: str


class PhaseStarted(Event):
    """The run enters a phase; ``total`` scorings are expected in it (0: not known)."""

    type: Literal["phase_started"] = "phase_started"
    phase: Literal["search", "confirm", "test", "explain"]
    total: int = 0


class SeedScored(Event):
    """The seed prompt's score on the dev split."""

    type: Literal["seed_scored"] = "seed_scored"
    score: Score


class StepStarted(Event):
    """A branch begins a step from a parent prompt."""

    type: Literal["step_started"] = "step_started"
    branch: int
    step: int
    parent: str


class Marked(Event):
    """A branch marked spans of its parent; ``rendered`` shows them as ``<edit>`` tags."""

    type: Literal["marked"] = "marked"
    branch: int
    step: int
    rendered: str
    spans: int
    tagged_fraction: float


class Proposed(Event):
    """A proposal was made (``candidate`` None: nothing usable came) and measured against its parent.

    ``locality`` is what was really done: "off" with ``fallback`` where tags were wanted and could
    not be had. ``malformed`` counts tagged or filled replies that could not be used, of ``replies``.
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
    """A candidate's mean in selection over ``items`` items; ``calls``: all calls up to it, one after another."""

    type: Literal["candidate_scored"] = "candidate_scored"
    step: int
    candidate: str
    mean: float | None
    items: int
    calls: int


class BeamSelected(Event):
    """The prompts that a step keeps, best first."""

    type: Literal["beam_selected"] = "beam_selected"
    step: int
    candidates: tuple[str, ...]


class CandidateRaced(Event):
    """A candidate left its race: with what mean over how many items, and whether it won.

    ``fate``: "dropped" (shown to be worse than its parent), "outrun" (others came first), "finished" (all
    items), "promoted" (shown to be better before the end). ``log_e``: log of the evidence that it is better
    than its parent, or worse where negative. ``note``: how it was made.
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
    note: str = ""


class StepFinished(Event):
    """A branch ended a step; ``accepted`` is the id of its new parent, None if none was better."""

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
    """A search of a benchmark ended: scores on test of the seed prompt and of the best one on dev."""

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
