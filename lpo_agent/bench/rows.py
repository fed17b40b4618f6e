"""The result of a benchmark: one row per cell, the comparisons between arms, and the result as a whole."""

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


class RoleUsage(_Part):
    """The calls and tokens of one role of a search: "task", "optimizer" or "judge"."""

    calls: int
    input_tokens: int
    output_tokens: int


class CellRow(_Part):
    """The result of one cell. If the cell has no result, only the first five fields have values.

    ``error``: the last line of what another optimizer's process wrote to standard error, if it failed.
    ``seed_dev``, ``seed_test``: scores of the seed prompt. ``dev``, ``test``: scores of the prompt that
    was best on dev, even if the verdict prefers the seed prompt. ``best_step``: the step that this prompt
    was made in, None for the seed prompt. ``malformed_share``: share of replies with tags or filled slots
    that could not be used. ``global_share``: share of proposals that were made without tags although they
    should have been local. ``calls``: of the search, cached ones included; with ``search_calls``, all
    calls but those of the test. ``optimizer_calls``: how many of them the optimizer model answered. ``words``: the
    length of ``prompt``. ``roles``: answered calls and their tokens in the search, by role, for other
    optimizers only; ``dev`` and ``curve`` are what these reported. ``calls_to_50``, ``_90``, ``_100``: calls after
    which the search had reached 50, 90 and 100 % of its gain.
    """

    cell: Cell
    run_id: str
    status: Literal["completed", "stopped", "failed", "not run"]
    reason: str = ""
    error: str = ""
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
    words: int | None = None
    calls: int | None = None
    optimizer_calls: int | None = None
    roles: dict[str, RoleUsage] | None = None
    calls_to_50: int | None = None
    calls_to_90: int | None = None
    calls_to_100: int | None = None
    usage: UsageResult | None = None
    curve: tuple[tuple[int, float], ...] = ()


class Comparison(_Part):
    """A paired comparison: the scores of an arm minus those of ``base``, on the test items of ``task``.

    ``task``: "all" for the items of all tasks. ``base``: "seed prompt", an arm of the same method
    ("off"), or method and arm ("pe2/off"). An item's scores are averaged over seeds first. ``p_holm``:
    the p-value adjusted for all comparisons in the same list (Holm 1979).
    """

    method: str
    arm: str
    base: str
    task: str
    delta: TestDelta
    p_holm: float = Field(ge=0, le=1)


class BenchResult(_Part):
    """The result of a benchmark, as `lpo bench --json` prints it.

    ``comparisons``: between arms of the same method. ``gains``: of each arm over the seed prompt.
    ``against``: the arm ``reference`` compared with all others and the seed prompt. ``search_calls``: the
    most calls of each search, None for no limit. ``command``: the command line of the benchmark, or "".
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
    """Return the row of a cell from the result of its run.

    ``whole``: report the cell as completed even if its run was stopped. ``calls``: the number of calls to
    report, None for the search's own count.
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
        words=len(found.prompt.split()),
        calls=search.calls if calls is None else calls,
        optimizer_calls=search.optimizer_calls,
        calls_to_50=gains.get("50%"),
        calls_to_90=gains.get("90%"),
        calls_to_100=gains.get("100%"),
        usage=result.usage,
        curve=search.curve,
    )


def _mean(score: Score | None) -> float | None:
    return None if score is None else score.mean
