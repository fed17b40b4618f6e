"""The results of runs. This module is part of the public API."""

from lpo_agent.bench.rows import BenchResult, CellRow
from lpo_agent.core.result import (
    SCHEMA,
    BestResult,
    CompareResult,
    EditResult,
    EvaluateResult,
    FrontPoint,
    LocalityResult,
    MarkResult,
    MarkSpan,
    PowerResult,
    RunResult,
    RunStatus,
    SearchResult,
    SeedResult,
    SpanResult,
    TestDelta,
    UsageResult,
)
from lpo_agent.core.scores import Score, Scored, Unscored
from lpo_agent.history import Result

__all__ = [
    "SCHEMA",
    "BenchResult",
    "BestResult",
    "CellRow",
    "CompareResult",
    "EditResult",
    "EvaluateResult",
    "FrontPoint",
    "LocalityResult",
    "MarkResult",
    "MarkSpan",
    "PowerResult",
    "Result",
    "RunResult",
    "RunStatus",
    "Score",
    "Scored",
    "SearchResult",
    "SeedResult",
    "SpanResult",
    "TestDelta",
    "Unscored",
    "UsageResult",
]
