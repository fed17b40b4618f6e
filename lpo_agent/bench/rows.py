"""What a benchmark found: a row for each cell, comparisons between arms, and the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent.bench.grid import Cell
from lpo_agent.core.result import SCHEMA, RunResult, TestDelta, UsageResult

if TYPE_CHECKING:
    from lpo_agent.core.scores import Score


SEED_PROMPT: Final = "seed prompt"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CellRow(_Part):
    """What one cell gave; everything but ``cell``, ``run_id`` and ``status`` is None where it did not end.

    ``test`` is the score of the best prompt on dev, whether or not a verdict would keep it.
    ``best_step``: the step it came from, None if that is the seed prompt. ``malformed_share``: share
    of tagged or filled replies that could not be used; ``global_share``: share of proposals that
    should have been local and were made without tags for that. ``calls``: of the search, cached
    ones too; where searches have so many calls and no more, what was asked beside the test.
    """

    cell: Cell
    run_id: str
    status: Literal["completed", "stopped", "failed", "not run"]
    reason: str = ""
    seed_dev: float | None = None
    dev: float | None = None
    seed_test: float | None = None
    test: float | None = None
    test_n: int | None = None
    verdict: str | None = None
    prompt: str | None = None
    best_step: int | None = None
    seed_was_best: bool | None = None
    candidates: int | None = None
    proposals: int | None = None
    tags: float | None = None
    tag_words: float | None = None
    tagged_fraction: float | None = None
    leakage: float | None = None
    leakage_max: float | None = None
    violations: int | None = None
    changed: float | None = None
    length_ratio: float | None = None
    repetition: float | None = None
    tag_replies: int | None = None
    malformed: int | None = None
    malformed_share: float | None = None
    global_share: float | None = None
    lost: int | None = None
    calls: int | None = None
    calls_to_50: int | None = None
    calls_to_90: int | None = None
    calls_to_100: int | None = None
    usage: UsageResult | None = None
    curve: tuple[tuple[int, float], ...] = ()


class Comparison(_Part):
    """``arm`` of ``method`` minus ``base`` on the test items of ``task`` ("all": of all tasks).

    ``base`` is the seed prompt, or an arm: of the same method ("off"), or with its own ("pe2/off").
    Paired by item, means over seeds where there are several. ``p_holm``: adjusted for all
    comparisons that stand in the same list (Holm 1979).
    """

    method: str
    arm: str
    base: str
    task: str
    delta: TestDelta
    p_holm: float = Field(ge=0, le=1)


class BenchResult(_Part):
    """What `lpo bench --json` prints.

    ``comparisons``: between arms of the same method; ``gains``: each arm against the seed prompt; ``against``:
    the arm ``reference`` against all others and the seed prompt. ``search_calls``: what each search might ask,
    None without a cap. ``command``: the command line that made it, "" where there was none.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: Literal["completed", "stopped"]
    stop_reason: str
    name: str
    model: str
    optimizer_model: str
    rows: tuple[CellRow, ...]
    comparisons: tuple[Comparison, ...]
    gains: tuple[Comparison, ...] = ()
    against: tuple[Comparison, ...] = ()
    reference: str | None = None
    search_calls: int | None = None
    command: str = ""
    usage: UsageResult
    notes: tuple[str, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def row_of(cell: Cell, result: RunResult, *, whole: bool = False, calls: int | None = None) -> CellRow:
    """Return the row of a cell that ended with ``result``.

    ``whole``: it counts as completed though it was stopped. ``calls``: what was counted, where the search
    did not count for itself.
    """
    found, search, locality = result.challenger or result.best, result.search, result.locality
    gains = search.calls_to or {}
    wanted_local = result.locality.kind in {"nudge", "enforce"} and locality.proposals
    return CellRow(
        cell=cell,
        run_id=result.run_id,
        status="completed" if whole or result.status == "completed" else "stopped",
        reason=result.stop_reason,
        seed_dev=_mean(result.seed.dev),
        dev=_mean(found.dev),
        seed_test=_mean(result.seed.test),
        test=_mean(found.test),
        test_n=None if found.test is None else found.test.n,
        verdict=result.verdict,
        prompt=found.prompt,
        best_step=search.best_step,
        seed_was_best=search.seed_was_best,
        candidates=search.candidates,
        proposals=locality.proposals,
        tags=search.tags,
        tag_words=search.tag_words,
        tagged_fraction=locality.tagged_fraction,
        leakage=locality.leakage,
        leakage_max=locality.leakage_max,
        violations=locality.violations,
        changed=search.changed,
        length_ratio=search.length_ratio,
        repetition=search.repetition,
        tag_replies=locality.tag_replies,
        malformed=locality.malformed,
        malformed_share=locality.malformed / locality.tag_replies if locality.tag_replies else None,
        global_share=locality.global_fallbacks / locality.proposals if wanted_local else None,
        lost=locality.lost,
        calls=search.calls if calls is None else calls,
        calls_to_50=gains.get("50%"),
        calls_to_90=gains.get("90%"),
        calls_to_100=gains.get("100%"),
        usage=result.usage,
        curve=search.curve,
    )


def _mean(score: Score | None) -> float | None:
    return None if score is None else score.mean
