"""Tests of the end of a search: choice, gates, and Pareto front."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.messages import SCORE, Row, ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import Prompt
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.finalists import Finals
from lpo_agent.search.outcome import SearchOutcome, SearchTask
from lpo_agent.search.plan import EndCost
from lpo_agent.search.scoring import Scoring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio


def rows(name: str, count: int) -> tuple[Row, ...]:
    return tuple(
        Row(id=f"{name}:{n}", variables={"input": str(n)}, target="even" if n % 2 == 0 else "odd") for n in range(count)
    )


SEED = Candidate(Prompt(text="seed prompt"))
LONG = Candidate(Prompt(text="a candidate with very many words in it"))
SHORT = Candidate(Prompt(text="short one"))


@asynccontextmanager
async def served(right: Callable[[str, int], bool], asked: list[tuple[str, str]]) -> AsyncIterator[Scoring]:
    async def score(ask: ScoreAsk) -> ScoreReply:
        await anyio.lowlevel.checkpoint()
        asked.append((ask.text, ask.row.id))
        value = float(right(ask.text, int(ask.row.variables["input"])))
        return ScoreReply(outcome=Scored(value=value, output="x" * len(ask.text)))

    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(partial(bus.serve, SCORE, score, concurrency=8))
        yield Scoring(bus, in_flight=8)
        tasks.cancel_scope.cancel()


async def settled(
    right: Callable[[str, int], bool], *finalists: Candidate, dev: int = 20, **limits: Any
) -> tuple[SearchOutcome, list[tuple[str, str]]]:
    asked: list[tuple[str, str]] = []
    outcome = SearchOutcome(SEED, SEED)
    task = SearchTask((), rows("dev", dev), (), Ledger(Budget()), EndCost(0, 0, None), **limits)
    async with served(right, asked) as scoring:
        await Finals(scoring, task, outcome, (), lambda _: None).settle(finalists)
    return outcome, asked


async def test_the_whole_dev_split_chooses() -> None:
    outcome, asked = await settled(
        lambda text, n: text != "seed prompt" and (text == SHORT.prompt.text or n < 5), LONG, SHORT
    )
    assert outcome.best is SHORT
    assert outcome.best_dev is not None
    assert outcome.best_dev.n == 20
    assert len(asked) == len(set(asked)) == 3 * 20


async def test_one_that_does_worse_than_the_seed_is_not_the_answer() -> None:
    outcome, _ = await settled(lambda text, n: (n < 9) == (text != "seed prompt"), SHORT)
    assert outcome.best is SEED


async def test_a_prompt_holds_on_dev_if_it_is_not_worse_there_than_the_seed_prompt() -> None:
    outcome = SearchOutcome(SEED, SEED)
    task = SearchTask((), rows("dev", 20), (), Ledger(Budget()), EndCost(0, 0, None))
    right = {SEED.prompt.text: 10, SHORT.prompt.text: 10, LONG.prompt.text: 9}
    async with served(lambda text, n: n < right[text], []) as scoring:
        await scoring.score_all(right, task.dev)
        finals = Finals(scoring, task, outcome, (), lambda _: None)
        assert finals.holds_on_dev(SHORT)
        assert not finals.holds_on_dev(LONG)


async def test_a_search_may_choose_by_all_that_it_knows() -> None:
    asked: list[tuple[str, str]] = []
    outcome = SearchOutcome(SEED, SEED)
    task = SearchTask((), rows("dev", 6), (), Ledger(Budget()), EndCost(0, 0, None))
    async with served(lambda text, _: text == LONG.prompt.text, asked) as scoring:
        finals = Finals(scoring, task, outcome, (), lambda _: None)
        await finals.settle([LONG, SHORT], lambda admitted: admitted[-1])
    assert outcome.best is SHORT


async def test_a_tiny_dev_split_chooses_with_all_of_it() -> None:
    outcome, _ = await settled(lambda text, _: text != "seed prompt", SHORT, dev=6)
    assert outcome.best is SHORT
    assert outcome.confirmation == []


async def test_must_pass_examples_keep_a_better_prompt_out() -> None:
    def right(text: str, n: int) -> bool:
        return n == 2 if text == "seed prompt" else n != 2

    outcome, _ = await settled(right, SHORT, must_pass=rows("must", 4)[2:3])
    assert outcome.best is SEED
    assert outcome.remarks == ["a finalist is out: it did worse on 1 must-pass examples"]
    assert (await settled(right, SHORT, must_pass=rows("must", 4)[3:]))[0].best is SHORT


async def test_a_class_that_loses_too_much_keeps_a_better_prompt_out() -> None:
    def right(text: str, n: int) -> bool:
        return n in {1, 3} if text == "seed prompt" else n % 2 == 0

    assert (await settled(right, SHORT, class_gate=0.5))[0].best is SHORT
    outcome, _ = await settled(right, SHORT, class_gate=0.1)
    assert outcome.best is SEED
    assert "lost 0.20 in one class" in outcome.remarks[0]


async def test_the_front_has_the_pareto_optimal_prompts() -> None:
    def right(text: str, n: int) -> bool:
        return text == LONG.prompt.text or (text == SHORT.prompt.text and n != 1)

    outcome, _ = await settled(right, LONG, SHORT)
    assert [point.prompt for point in outcome.front] == [LONG.prompt.text, SHORT.prompt.text]
    best, other = outcome.front
    assert (best.words, other.words) == (8, 2)
    assert (best.dev.mean, other.dev.mean) == (1.0, 0.95)
    assert best.tokens == pytest.approx((2 * len(LONG.prompt.text) + 1.5) / 4, abs=0.1)


async def test_without_finalists_the_seed_is_still_scored() -> None:
    outcome, _ = await settled(lambda *_: True)
    assert outcome.best is SEED
    assert outcome.seed_dev is not None
    assert outcome.seed_dev.mean == 1.0
