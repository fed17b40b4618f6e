"""Tests of selecting a beam by bandits: pulls, survivors and budgets, against the published schedules.

Arms have the same score on every item, so that what is chosen does not depend on the items drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from lpo_agent.bus.memory import MemoryBus
from lpo_agent.core.beam_options import beam_options_for
from lpo_agent.core.messages import SCORE, Row, ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.search.methods.beam.bandits import Arms, choose
from lpo_agent.search.scoring import Scoring
from tests.search.beam_stage import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

ROWS = tuple(Row(id=f"dev:{n}", variables={"input": str(n)}, target="x") for n in range(40))


@dataclass
class Judge:
    """Scores the prompt "3" with the third mean, on every item; ``asked`` keeps prompt and item, in order."""

    means: Sequence[float]
    missing: frozenset[tuple[str, str]] = frozenset()
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        await anyio.lowlevel.checkpoint()
        self.asked.append((ask.text, ask.row.id))
        if (ask.text, ask.row.id) in self.missing:
            return ScoreReply(outcome=Unscored(reason="lost"))
        return ScoreReply(outcome=Scored(value=self.means[int(ask.text)], output=""))


@asynccontextmanager
async def served(judge: Judge) -> AsyncIterator[Scoring]:
    async with MemoryBus() as bus, anyio.create_task_group() as tasks:
        await tasks.start(partial(bus.serve, SCORE, judge.score, concurrency=8))
        yield Scoring(bus, in_flight=8)
        tasks.cancel_scope.cancel()


async def chosen(judge: Judge, seed: int = 7, rows: Sequence[Row] = ROWS, **numbers: Any) -> tuple[list[int], Arms]:
    """Choose among the judge's prompts; return their order and what was pulled."""
    async with served(judge) as scoring:
        texts = [str(n) for n in range(len(judge.means))]
        arms = Arms(texts, scoring, rows, random.Random(seed))
        return await choose(arms, beam_options_for("apo", {"beam": 2, **numbers})), arms


def check_asked_once(judge: Judge, arms: Arms) -> None:
    """Check that no item was asked for twice, and that what the arms noted is what was asked."""
    assert len(set(judge.asked)) == len(judge.asked)
    assert {(str(arm), row) for arm, row in arms.asked} == set(judge.asked)


async def test_bf_gives_every_prompt_the_same_random_items_and_an_equal_part_of_the_budget() -> None:
    judge = Judge([0.2, 0.9, 0.4, 0.9])
    order, arms = await chosen(judge, selection="bf", eval_budget=22)
    assert order == [1, 3, 2, 0]  # of equals the first
    assert arms.count == [5, 5, 5, 5]  # 22 // 4
    drawn = {text: frozenset(row for other, row in judge.asked if other == text) for text, _ in judge.asked}
    assert len(set(drawn.values())) == 1
    assert len(judge.asked) == 20
    check_asked_once(judge, arms)
    others = Judge(judge.means)
    await chosen(others, seed=8, selection="bf", eval_budget=22)
    assert set(others.asked) != set(judge.asked)


@pytest.mark.parametrize(("budget", "each"), [(1, 1), (3, 1), (400, 40)])
async def test_bf_uses_one_item_at_least_and_all_at_most(budget: int, each: int) -> None:
    judge = Judge([0.5, 0.6, 0.1])
    order, arms = await chosen(judge, selection="bf", eval_budget=budget)
    assert (order, arms.count) == ([1, 0, 2], [each] * 3)


@pytest.mark.parametrize("seed", range(6))
async def test_ucb_pulls_at_random_then_greedily_then_what_was_never_pulled_then_the_best(seed: int) -> None:
    # c = 1, 2 prompts and 4 items a round. Round 0: two at random. Round 1: ln 1 = 0, so the same two, as
    # others have mean 0. Round 2: sqrt(ln 2 / 0.001) = 26 for the two never pulled. Round 3, with 8 and 4
    # items: the bonus is 0.37 or 0.52, which no other prompt's mean can make up for: 0 and 1.
    judge = Judge([0.9, 0.8, 0.2, 0.1])
    order, arms = await chosen(judge, seed, selection="ucb", eval_rounds=4, eval_prompts=2, eval_items=4)
    first = {int(text) for text, _ in judge.asked[:8]}
    assert len(first) == 2
    assert arms.count == [(8 if arm in first else 4) + (4 if arm < 2 else 0) for arm in range(4)]
    assert sum(arms.count) == 4 * 2 * 4
    assert order == [0, 1, 2, 3]


async def test_ucb_begins_at_different_prompts_for_different_seeds() -> None:
    begun = set()
    for seed in range(6):
        judge = Judge([0.9, 0.8, 0.2, 0.1])
        await chosen(judge, seed, selection="ucb", eval_rounds=1, eval_prompts=2, eval_items=4)
        begun.add(frozenset(text for text, _ in judge.asked))
    assert len(begun) > 1


@pytest.mark.parametrize("seed", range(6))
async def test_ucb_e_pulls_what_was_never_pulled_at_once(seed: int) -> None:
    # The bonus is sqrt(1 / n): 32 for n = 0.001, so round 1 takes the other two; then 0.5 for all, so 0
    # and 1 by their means; then 0.35 for these and 0.5 for the others, so 0 and 1 again.
    judge = Judge([0.9, 0.8, 0.2, 0.1])
    order, arms = await chosen(judge, seed, selection="ucb-e", eval_rounds=4, eval_prompts=2, eval_items=4)
    assert (order, arms.count) == ([0, 1, 2, 3], [12, 12, 4, 4])


async def test_ucb_explores_more_with_a_larger_weight() -> None:
    judge = Judge([0.9, 0.8, 0.2, 0.1])
    # c = 100: the bonus is 100 x sqrt(ln t / n), so that the least pulled are always next.
    _, arms = await chosen(judge, selection="ucb", eval_rounds=6, eval_prompts=2, eval_items=4, ucb_c=100.0)
    # Rounds 0 and 1 take the first two, 2 and 3 the others, 4 the better ones of equals, 5 the rest.
    assert arms.count == [12, 12, 12, 12]
    _, greedy = await chosen(judge, selection="ucb", eval_rounds=6, eval_prompts=2, eval_items=4, ucb_c=0.0)
    pulled = {arm for arm in range(4) if greedy.count[arm]}
    assert sorted(greedy.count) == [0, 0, 24, 24]
    assert len(pulled) == 2


async def test_sr_rejects_the_worst_of_each_phase_by_the_growing_schedule() -> None:
    # Audibert and Bubeck 2010, Figure 3, for the K = 3 prompts outside the beam: log(K) = 1/2 + 1/2 + 1/3
    # = 4/3, n_k = (60 - 3) / (4/3 x (4 - k)) = 14.25, 21.375, 42.75; drawn anew: 14, 7 and 21.
    judge = Judge([0.1, 0.5, 0.3, 0.9, 0.7])
    order, arms = await chosen(judge, selection="sr", eval_budget=60)
    assert arms.count == [14, 14 + 7 + 21, 14 + 7, 14 + 7 + 21, 14 + 7 + 21]
    assert arms.rank[:3] == [1, 3, 2]
    assert order == [3, 4, 1, 2, 0]
    check_asked_once(judge, arms)


@pytest.mark.parametrize("budget", [1, 10])
async def test_sr_uses_four_items_of_a_phase_at_least(budget: int) -> None:
    judge = Judge([0.1, 0.5, 0.3, 0.9, 0.7])
    order, arms = await chosen(judge, selection="sr", eval_budget=budget)
    assert arms.count == [4, 12, 8, 12, 12]
    assert order == [3, 4, 1, 2, 0]


async def test_sr_rejects_the_youngest_of_equals() -> None:
    order, arms = await chosen(Judge([0.5] * 5), selection="sr", eval_budget=20)
    assert order == [0, 1, 2, 3, 4]
    assert arms.rank[2:] == [3, 2, 1]


@pytest.mark.parametrize("seed", range(6))
async def test_s_sr_spends_equal_parts_on_random_prompts_and_keeps_the_two_best(seed: int) -> None:
    # 4 rejections, 3 prompts each: 60 / (4 x 3) = 5 items. Among any three there is one that is worse
    # than the second best of all, so the two best stay.
    judge = Judge([0.3, 0.8, 0.1, 0.9, 0.5, 0.2])
    order, arms = await chosen(judge, seed, selection="s-sr", eval_budget=60, eval_prompts=3)
    assert sum(arms.count) == 60
    assert all(count % 5 == 0 for count in arms.count)
    assert order[:2] == [3, 1]
    assert sorted(arms.rank[arm] for arm in order[2:]) == [1, 2, 3, 4]


async def test_sh_spends_equal_parts_of_the_budget_on_ever_fewer_prompts() -> None:
    # Three rounds for 8 prompts, 96 / 3 = 32 scorings each: 8 x 4, then 4 x 8, then 2 x 16 items. Those
    # below the mean of the round leave: 0.45, 0.65, 0.75.
    judge = Judge([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    order, arms = await chosen(judge, selection="sh", eval_budget=96)
    assert arms.count == [4, 4, 4, 4, 12, 12, 28, 28]
    assert sum(arms.count) == 96
    assert order == [7, 6, 5, 4, 3, 2, 1, 0]
    check_asked_once(judge, arms)


async def test_sh_never_passes_its_budget_where_that_pays_for_an_item_each_round() -> None:
    for n in range(3, 9):
        means = [(arm + 1) / 10 for arm in range(n)]
        order, arms = await chosen(Judge(means), selection="sh", eval_budget=50)
        assert sum(arms.count) <= 50
        assert order == list(range(n))[::-1]


@pytest.mark.parametrize("selection", ["bf", "ucb", "ucb-e", "sr", "s-sr", "sh"])
async def test_what_was_scored_before_is_not_asked_for_again(selection: str) -> None:
    judge = Judge([0.1, 0.5, 0.3, 0.9, 0.7])
    async with served(judge) as scoring:
        texts = [str(n) for n in range(5)]
        await scoring.score_all(texts, ROWS)
        asked = len(judge.asked)
        arms = Arms(texts, scoring, ROWS, random.Random(1))
        order = await choose(arms, beam_options_for("apo", {"beam": 2, "selection": selection}))
    assert asked == len(judge.asked) == 5 * 40
    assert order[:2] == [3, 4]
    assert sum(arms.count) > 0  # they are pulled all the same


async def test_items_without_a_judgement_leave_the_mean() -> None:
    judge = Judge([0.5, 0.6], missing=frozenset({("1", "dev:0"), ("1", "dev:1")}))
    order, arms = await chosen(judge, rows=ROWS[:8], selection="bf", eval_budget=16)
    assert (order, arms.count) == ([1, 0], [8, 6])
    assert arms.mean(1) == pytest.approx(0.6)


@pytest.mark.parametrize("selection", ["bf", "ucb", "ucb-e", "sr", "s-sr", "sh"])
async def test_a_search_with_a_bandit_keeps_the_perfect_prompt_and_confirms_it_on_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    host = {"beam": 2, "paraphrases": 0, "selection": selection, "eval_budget": 30}
    host |= {"eval_rounds": 6, "eval_prompts": 3, "eval_items": 4}
    levels = {"dev": {"1.0.2.0": 10}, "test": {"1.0.2.0": 12}}
    stage = Stage(tmp_path, monkeypatch)
    played = await stage.play("apo", levels, host=host, steps=2, proposals=4)
    beams = [line.split()[2:] for line in played.told() if "beam" in line]
    assert [beam[0] for beam in beams] == ["seed", "1.0.2.0", "1.0.2.0"]
    assert played.result.best.prompt == "Name the class (1.0.2.0)."
    assert played.result.best.dev is not None
    assert (played.result.best.dev.mean, played.result.best.dev.n) == (1.0, 10)
    counted = played.result.search
    assert counted.optimizer_calls == 4 * 2 + 2 * 4 * 2
    assert counted.scorings is not None
    asked = Counter(entry["split"] for entry in played.log if entry["kind"] == "task")
    assert counted.scorings == asked["dev"] + asked["train"]
    assert played.result.usage.calls == counted.scorings + counted.optimizer_calls + 24
