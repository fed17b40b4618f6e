"""Tests of scoring over the bus: if it ends early, finished scorings are kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.messages import SCORE, Row, ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.errors import BudgetExceeded, RequestFailed, TooManyUnscored
from lpo_agent.search.scoring import Scoring

if TYPE_CHECKING:
    from lpo_agent.core.scores import Outcome

pytestmark = pytest.mark.anyio

ROWS = [Row(id=f"dev:{n}", variables={"input": str(n)}, target=str(n)) for n in range(40)]


async def score(texts: list[str], *, budget: int = 10**6, bad: str = "") -> tuple[Scoring, int, Exception | None]:
    """Score all rows under the texts; return the scoring, the answers given, and what was raised."""
    asked = given = 0
    raised: Exception | None = None

    async def handler(ask: ScoreAsk) -> ScoreReply:
        nonlocal asked, given
        asked += 1
        if asked > budget:
            raise BudgetExceeded("used up")
        for _ in range(5 if ask.text == "slow" else 1):
            await anyio.lowlevel.checkpoint()
        given += 1
        outcome: Outcome = Unscored(reason="no") if ask.text == bad else Scored(value=1.0, output="x")
        return ScoreReply(outcome=outcome)

    async with MemoryBus(serialize=True) as bus, anyio.create_task_group() as tasks:
        await tasks.start(partial(bus.serve, SCORE, handler, concurrency=20))
        scoring = Scoring(bus, in_flight=10)
        try:
            await scoring.score_all(texts, ROWS)
        except (RequestFailed, TooManyUnscored) as exc:
            raised = exc
        tasks.cancel_scope.cancel()
    return scoring, given, raised


async def test_each_row_is_scored_once_under_each_text() -> None:
    scoring, given, raised = await score(["a", "b", "a"])
    assert raised is None
    assert given == 2 * len(ROWS)
    assert len(scoring.known("a", ROWS)) == len(ROWS)


async def test_a_spent_budget_keeps_all_finished_scorings_of_every_text() -> None:
    scoring, given, raised = await score(["fast", "slow"], budget=31)
    assert isinstance(raised, RequestFailed)
    assert given == 31
    assert len(scoring.known("fast", ROWS)) + len(scoring.known("slow", ROWS)) == 31


async def test_a_text_that_mostly_fails_stops_all_and_keeps_finished_answers() -> None:
    scoring, given, raised = await score(["good", "bad"], bad="bad")
    assert isinstance(raised, TooManyUnscored)
    assert given < 2 * len(ROWS)
    assert len(scoring.known("good", ROWS)) + len(scoring.known("bad", ROWS)) == given
