"""The plan of a pool search, its operators, and that its decisions do not depend on the order of replies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lpo_agent
from lpo_agent import Environment
from lpo_agent.core.budget import Budget
from lpo_agent.core.editpool import compose
from lpo_agent.core.messages import Row
from lpo_agent.core.task_facts import task_facts
from lpo_agent.core.text import MarkedPrompt, Prompt, is_local
from lpo_agent.data import Splits
from lpo_agent.models.base import Call, Completion, Usage
from lpo_agent.search.methods.pool import LOCAL_SEARCH, operators
from lpo_agent.search.task import Task, choosing_items, fit, shares

if TYPE_CHECKING:
    from pathlib import Path

SEED = Prompt(text="Have a look at it, and tell me what you think.\n\nNote: {input}")
ROWS = [Row(id=f"train:{n}", variables={"input": f"note {n}"}, target="good" if n % 2 else "bad") for n in range(24)]


def task(train: int, dev: int, test: int) -> Task:
    rows = [Row(id=str(n), variables={"input": str(n)}, target="x") for n in range(train + dev + test)]
    splits = Splits(tuple(rows[:train]), tuple(rows[train : train + dev]), tuple(rows[train + dev :]))
    return Task(SEED, splits, "exact", 8, ())


@given(st.integers(20, 5000), st.integers(1, 200), st.integers(1, 200), st.integers(0, 400))
def test_a_plan_divides_the_whole_budget_and_holds_nothing_twice(calls: int, train: int, dev: int, test: int) -> None:
    fitted, plan = fit(task(train, dev, test), LOCAL_SEARCH.numbers, Budget(calls=calls))
    rest = choosing_items(fitted, plan) + 2 * len(fitted.splits.test)
    assert plan.search + rest == calls
    assert plan.search >= calls / 4
    assert 2 * len(fitted.splits.test) <= calls / 2
    assert plan.steps >= 1
    assert shares(fitted, plan).startswith(f"of {calls} calls: {plan.search} search, ")


def test_without_a_budget_the_plan_has_a_sensible_total() -> None:
    whole, plan = fit(task(100, 40, 100), LOCAL_SEARCH.numbers, Budget())
    assert whole == task(100, 40, 100)
    assert 400 <= plan.search <= 800


def test_every_operator_changes_only_its_place_and_comes_from_train() -> None:
    rng = random.Random(0)
    facts = task_facts(ROWS, ("bad", "good"))
    found = [
        *operators.insertions(SEED, facts, 5),
        *operators.deletions(SEED),
        *operators.swaps(SEED, rng, 3),
        *operators.demonstrations(SEED, ROWS, 4, rng),
    ]
    assert {each.source for each in found} == {"fragment", "delete", "swap", "example"}
    assert [each.text.count("Example:") for each in found if each.source == "example"] == [2, 1, 4]
    for each in found:
        child = compose(SEED, [each])
        assert is_local(MarkedPrompt(prompt=SEED, spans=(each.span,)), child.text)
        assert child.placeholders == SEED.placeholders


def test_whole_sentences_of_a_long_prompt_are_left_out_and_a_short_one_has_phrases_only() -> None:
    long = Prompt(text="\n".join(f"Rule {n}: do a thing." for n in range(12)) + "\n{input}")
    found = operators.sentence_deletions(long)
    assert [each.span.of(long.text).strip() for each in found] == [f"Rule {n}: do a thing." for n in range(12)]
    for each in found:
        assert compose(long, [each]).placeholders == long.placeholders
    assert operators.sentence_deletions(SEED) == []


class Shuffled:
    """Answers after a random number of turns of the event loop, so that replies come in any order."""

    name = "shuffled"

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    async def complete(self, call: Call) -> Completion:
        for _ in range(self.rng.randrange(30)):
            await anyio.lowlevel.checkpoint()
        text = call.turns[-1].content
        number = text.rpartition("note ")[2].split("\n")[0].split()[0].strip()
        right = ("good" if int(number) % 2 else "bad") if "only" in text and int(number) % 5 else "hm"
        return Completion(right, Usage(len(text), 1))


@pytest.mark.anyio
async def test_a_search_is_the_same_whatever_the_order_of_the_replies(tmp_path: Path) -> None:
    found = []
    for seed in range(3):
        rows = [{"input": f"note {n}", "target": "good" if n % 2 else "bad"} for n in range(60)]
        given: dict[str, Any] = {"metric": "exact", "method": "local-search", "budget": {"calls": 200}, "cache": False}
        env = Environment(tmp_path / str(seed))
        found.append(await lpo_agent.optimize(SEED.text, rows, model=Shuffled(seed), env=env, concurrency=16, **given))
    one, *others = found
    assert one.usage.calls <= 200
    for other in others:
        assert (other.best, other.challenger, other.search, other.test_delta) == (
            one.best,
            one.challenger,
            one.search,
            one.test_delta,
        )
