"""Builds the result of an optimization from the outcome of its search."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from lpo_agent.search.attribution import unmeasured
from lpo_agent.search.task import calls_each, plan_of, power_of

if TYPE_CHECKING:
    from lpo_agent.core.result import UsageResult
    from lpo_agent.core.scores import Score
    from lpo_agent.core.tally import Tally
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.context import Search
    from lpo_agent.search.outcome import SearchOutcome


def build_result(search: Search, tally: Tally, *, run_id: str, method: str, usage: UsageResult) -> RunResult:
    """Return the result; ``best`` is the found prompt only if the test shows that it is better than the seed."""
    task, found = search.task, search.outcome
    tested = delta(found.differences)
    judged = verdict(tested, has_test=bool(task.splits.test) and (tested is not None or found.best is found.seed))
    edits = unmeasured(task.prompt, found.best.prompt.text) if found.edits is None else found.edits
    found_part = _best(found.best, found.best_dev, found.best_test, edits)
    keep_seed = judged == "no_significant_improvement"
    best = _best(found.seed, found.seed_dev, found.seed_test) if keep_seed else found_part
    return RunResult(
        run_id=run_id,
        status=_status(found),
        stop_reason=found.stopped_by or found.ended or "all steps done",
        verdict=judged,
        seed=SeedResult(prompt=found.seed.prompt.text, dev=found.seed_dev, test=found.seed_test),
        best=best,
        challenger=found_part if keep_seed and found.best is not found.seed else None,
        test_delta=tested,
        confirmation=delta(found.confirmation),
        plan=plan_of(task, search.plan) if search.plan.fitted else None,
        faults=found.faults,
        front=found.front,
        power=power_of(task, search.spec.gain, found.tested),
        locality=_locality(search, tally, best.prompt),
        search=_search(search, tally),
        usage=usage,
        method=method,
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


def _locality(search: Search, tally: Tally, best: str) -> LocalityResult:
    checks, words = search.checks, len(search.task.prompt.text.split())
    fractions = checks.fractions
    return LocalityResult(
        kind=search.spec.locality,
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


def _search(search: Search, tally: Tally) -> SearchResult:
    task, found = search.task, search.outcome
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
        curve_on=search.plan.chosen_on,
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
