"""From a task to a search that is ready to run, and from what it found to the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.core import demos
from lpo_agent.core.beam_options import BEAM_METHODS, beam_options_for
from lpo_agent.core.guards import Guards
from lpo_agent.core.result import (
    BestResult,
    EditResult,
    EndStatus,
    LocalityResult,
    RunResult,
    SearchResult,
    SeedResult,
    SpanResult,
    delta,
    verdict,
)
from lpo_agent.core.tally import calls_to
from lpo_agent.models.base import Usage
from lpo_agent.runs.task import call_tokens, calls_each, need, panel_of, power_of
from lpo_agent.runs.wiring import marker_kind
from lpo_agent.search.attribution import unmeasured
from lpo_agent.search.coordinator import Coordinator
from lpo_agent.search.finalists import Finals
from lpo_agent.search.methods.beam.expanding import Expander
from lpo_agent.search.methods.beam.proposing import Editor
from lpo_agent.search.methods.beam.search import Beam
from lpo_agent.search.methods.local.analysis import PromptAnalyzer
from lpo_agent.search.methods.local.branch import Branch
from lpo_agent.search.methods.local.branches import Branches
from lpo_agent.search.methods.local.building import CandidateBuilder
from lpo_agent.search.outcome import SearchOutcome, SearchTask
from lpo_agent.search.scoring import Scoring

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.events import Event
    from lpo_agent.core.scores import Score
    from lpo_agent.core.tally import Tally
    from lpo_agent.runs.kinds import Context
    from lpo_agent.runs.task import Task
    from lpo_agent.search.candidates import Candidate, LocalityChecks
    from lpo_agent.search.outcome import Method
    from lpo_agent.search.plan import Plan


@dataclass(frozen=True, slots=True)
class Setup:
    """What a search is made of: the method's name, its material, and its numbers."""

    context: Context
    method: str
    task: Task
    plan: Plan


@dataclass(frozen=True, slots=True)
class SearchRecords:
    """What is noted about a search while it runs."""

    checks: LocalityChecks
    tally: Tally
    tell: Callable[[Event], None]

    def emit(self, event: Event) -> None:
        """Note an event, and tell it."""
        self.tally.note(event)
        self.tell(event)


def build_search(setup: Setup, bus: Bus, books: SearchRecords) -> Coordinator:
    """Return a coordinator over the method's search."""
    context, task, plan = setup.context, setup.task, setup.plan
    scoring = Scoring(bus, in_flight=context.spec.concurrency, memory=context.memory)
    seed = task.seed
    findings, ground = SearchOutcome(seed, seed), _ground(setup)
    chosen: Method
    if setup.method in BEAM_METHODS:
        numbers, expander = _host(setup, bus, scoring, books)
        chosen = Beam(numbers, plan.steps, expander, scoring, bus, ground, findings, books.emit)
    else:
        chosen = _branches(setup, bus, scoring, books, ground=ground, findings=findings)
    return Coordinator(chosen, findings, scoring, task=ground, emit=books.emit)


def _branches(
    setup: Setup, bus: Bus, scoring: Scoring, books: SearchRecords, *, ground: SearchTask, findings: SearchOutcome
) -> Branches:
    task, plan, seed = setup.task, setup.plan, findings.seed
    panel, shown = panel_of(task, plan)
    shown = demos.usable(shown)
    guards = Guards.of(task.prompt, panel)
    branches = []
    for number in range(plan.branches):
        looker = PromptAnalyzer(number, bus, scoring, seed, panel, plan)
        nursery = CandidateBuilder(number, seed, shown, guards, plan, books.emit)
        branches.append(Branch(number, bus, scoring, looker, nursery, plan, books.checks, books.emit))
    finals = Finals(scoring, ground, findings, panel, books.emit)
    return Branches(
        branches,
        scoring,
        finals,
        panel=panel,
        plan=plan,
        task=ground,
        outcome=findings,
        locality=books.checks,
        emit=books.emit,
    )


def _ground(setup: Setup) -> SearchTask:
    context, task = setup.context, setup.task
    tokens, splits = call_tokens(task), task.splits
    price = context.prices.cost(context.spec.model, Usage(tokens - task.max_tokens, task.max_tokens))
    end = need(task, setup.plan, price)
    gate = context.spec.class_gate
    return SearchTask(splits.train, splits.dev, splits.test, context.ledger, end, calls_each(task), splits.must, gate)


def _host(setup: Setup, bus: Bus, scoring: Scoring, books: SearchRecords) -> tuple[BeamOptions, Expander]:
    """Return a host's numbers, and what expands its parents."""
    spec, task, plan = setup.context.spec, setup.task, setup.plan
    numbers = beam_options_for(setup.method, spec.host)
    editor = Editor(
        bus=bus,
        scoring=scoring,
        locality=spec.locality,
        marker=marker_kind(spec, setup.method),
        checks=books.checks,
        emit=books.emit,
        max_words=numbers.word_cap(len(task.prompt.text.split())),
    )
    return numbers, Expander(setup.method, plan.proposals, plan.seed, task.splits.train, bus, scoring, editor)


def build_result(setup: Setup, found: SearchOutcome, books: SearchRecords) -> RunResult:
    """Return the contract's result object: the found prompt only if it was shown to be better."""
    context, task = setup.context, setup.task
    tested = delta(found.differences)
    judged = verdict(tested, has_test=bool(task.splits.test) and (tested is not None or found.best is found.seed))
    edits = unmeasured(task.prompt, found.best.prompt.text) if found.edits is None else found.edits
    found_part = _best(found.best, found.best_dev, found.best_test, edits)
    keep_seed = judged == "no_significant_improvement"
    best = _best(found.seed, found.seed_dev, found.seed_test) if keep_seed else found_part
    return RunResult(
        run_id=context.run_id,
        status=_status(found),
        stop_reason=found.stopped_by or "all steps done",
        verdict=judged,
        seed=SeedResult(prompt=found.seed.prompt.text, dev=found.seed_dev, test=found.seed_test),
        best=best,
        challenger=found_part if keep_seed and found.best is not found.seed else None,
        test_delta=tested,
        confirmation=delta(found.confirmation),
        front=found.front,
        power=power_of(task, context.spec.gain),
        locality=_locality(setup, books, best.prompt),
        search=_search(task, found, books.tally),
        usage=context.usage(),
        method=setup.method,
        notes=(*task.notes, *found.remarks, *_skips(found)),
    )


def _status(found: SearchOutcome) -> EndStatus:
    return "stopped" if found.stopped_by else "completed"


def _best(
    candidate: Candidate, dev: Score | None, test: Score | None, edits: tuple[EditResult, ...] = ()
) -> BestResult:
    return BestResult(
        prompt=candidate.prompt.text,
        dev=dev,
        test=test,
        marked_parent=candidate.marked.render() if candidate.marked else None,
        step=candidate.step,
        edits=edits,
    )


def _locality(setup: Setup, books: SearchRecords, best: str) -> LocalityResult:
    checks, tally, words = books.checks, books.tally, len(setup.task.prompt.text.split())
    fractions = checks.fractions
    return LocalityResult(
        kind=setup.context.spec.locality,
        checked=checks.checked,
        violations=checks.violations,
        tagged_fraction=sum(fractions) / len(fractions) if fractions else None,
        length_ratio=len(best.split()) / words if words else 1.0,
        proposals=len(tally.made) + tally.lost,
        global_fallbacks=tally.fallbacks,
        lost=tally.lost,
        tag_replies=tally.replies,
        malformed=tally.malformed,
        leakage=tally.mean("leakage"),
        leakage_max=tally.most_leakage(),
    )


def _search(task: Task, found: SearchOutcome, tally: Tally) -> SearchResult:
    at_seed, scorings = found.best is found.seed, found.scorings
    return SearchResult(
        candidates=found.candidates,
        best_step=None if at_seed else found.best.step,
        seed_was_best=at_seed,
        scorings=found.scorings,
        optimizer_calls=found.optimizer_calls,
        calls=None if scorings is None else scorings * calls_each(task) + (found.optimizer_calls or 0),
        calls_to=calls_to(found.curve),
        curve=tuple(found.curve),
        curve_on=found.curve_on,
        spans=tuple(
            SpanResult(start=r.place.start, end=r.place.end, tried=r.tried, paid=r.paid, gain=r.gain)
            for r in found.records
        ),
        tags=tally.mean("tags"),
        tag_words=tally.mean("tag_words"),
        changed=tally.mean("changed"),
        length_ratio=tally.mean("length_ratio"),
        repetition=tally.mean("repetition"),
    )


def _skips(found: SearchOutcome) -> list[str]:
    if not found.skipped:
        return []
    return [f"{len(found.skipped)} steps were skipped for unusable replies (last: {found.skipped[-1]})"]
