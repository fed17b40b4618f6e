"""The plan of a pool search, its operators, and that its decisions do not depend on the order of replies."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lpo_agent
from lpo_agent import Environment
from lpo_agent.core.budget import Budget
from lpo_agent.core.editpool import PoolEdit, compose
from lpo_agent.core.factorial import Factorial
from lpo_agent.core.messages import Row
from lpo_agent.core.task_facts import task_facts
from lpo_agent.core.text import MarkedPrompt, Prompt, Span, is_local
from lpo_agent.data import Splits
from lpo_agent.models.base import Call, Completion, Usage
from lpo_agent.search.methods.pool import LOCAL_SEARCH, ending, operators
from lpo_agent.search.task import Task, choosing_items, end_cost, fit, plan_of, shares

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lpo_agent import RunResult

SEED = Prompt(text="Have a look at it, and tell me what you think.\n\nNote: {input}")
ROWS = [Row(id=f"train:{n}", variables={"input": f"note {n}"}, target="good" if n % 2 else "bad") for n in range(24)]


def task(train: int, dev: int, test: int, *, must: int = 0, metric: str = "exact", extracts: bool = False) -> Task:
    rows = tuple(Row(id=str(n), variables={"input": str(n)}, target="x") for n in range(train + dev + test + must))
    ends = list(accumulate((train, dev, test, must)))
    parts = [rows[low:high] for low, high in pairwise([0, *ends])]
    splits = Splits(parts[0], parts[1], parts[2], must=parts[3])
    return Task(SEED, splits, metric, 8, (), extracts=extracts)


@given(st.integers(20, 5000), st.integers(1, 200), st.integers(1, 200), st.integers(0, 400))
def test_a_plan_divides_the_whole_budget_and_holds_nothing_twice(calls: int, train: int, dev: int, test: int) -> None:
    fitted, plan = fit(task(train, dev, test), LOCAL_SEARCH.numbers, Budget(calls=calls))
    rest = choosing_items(fitted, plan) + 2 * len(fitted.splits.test)
    assert plan.search + rest == calls
    assert plan.search >= calls / 4
    assert 2 * len(fitted.splits.test) <= calls / 2
    assert plan.steps >= 1
    assert shares(fitted, plan).startswith(f"of {calls} calls: {plan.search} search, ")


@given(
    st.integers(400, 3000),
    st.integers(0, 40),
    st.sampled_from([0, 12, 100]),
    st.sampled_from([("exact", False), ("judge", False), ("exact", True), ("judge", True)]),
    st.sampled_from([0, 4]),
)
def test_a_plan_is_right_with_must_pass_rows_several_calls_a_row_and_a_probe(
    calls: int, must: int, test: int, kind: tuple[str, bool], probe: int
) -> None:
    metric, extracts = kind
    given = task(60, 30, test, must=must, metric=metric, extracts=extracts)
    fitted, plan = fit(given, LOCAL_SEARCH.numbers, Budget(calls=calls), probe=probe)
    found, each = plan_of(fitted, plan), 1 + extracts + (metric == "judge")
    assert found.search + found.choose + found.test + found.probe == calls
    assert found.choose == each * (len(fitted.splits.dev) * (1 + plan.finalists) + must * (1 + plan.finalists))
    assert found.test == each * 2 * len(fitted.splits.test)
    assert end_cost(fitted, plan, None).calls == found.choose + found.test - each * len(fitted.splits.dev)
    assert f"{found.search} search, {found.choose} choice, {found.test or 'no'} test" in shares(fitted, plan)
    assert ("to choose the method" in shares(fitted, plan)) == (probe > 0)
    if must == 0:
        assert found.search >= calls / 5
    assert fitted.splits.must == given.splits.must


def test_a_budget_that_does_not_pay_for_the_must_pass_rows_is_noted() -> None:
    fitted, _ = fit(task(60, 30, 40, must=90), LOCAL_SEARCH.numbers, Budget(calls=120))
    assert fitted.splits.test == ()
    assert any("do not pay for this plan" in note for note in fitted.notes)


@given(st.integers(60, 2000), st.integers(0, 200), st.integers(1, 200))
def test_a_cap_on_search_calls_is_divided_and_leaves_the_test_whole(calls: int, test: int, dev: int) -> None:
    fitted, plan = fit(task(60, dev, test), LOCAL_SEARCH.numbers, Budget(), search_calls=calls)
    assert plan.search + choosing_items(fitted, plan) == calls
    assert len(fitted.splits.test) == test
    assert plan.search >= calls / 2


def test_rows_that_a_budget_leaves_out_are_in_no_split() -> None:
    given = task(60, 40, 100)
    small, _ = fit(given, LOCAL_SEARCH.numbers, Budget(calls=200))
    assert len(small.splits.test) < 100
    assert small.splits.train == given.splits.train
    assert small.splits.dev == given.splits.dev[: len(small.splits.dev)]
    assert any("the others are not used" in note for note in small.notes)


def test_what_an_earlier_session_paid_for_is_not_put_aside_again() -> None:
    fitted, plan = fit(task(60, 30, 40), LOCAL_SEARCH.numbers, Budget(calls=400))
    whole = end_cost(fitted, plan, 0.5)
    assert end_cost(fitted, plan, 0.5, paid=30).calls == whole.calls - 30
    assert end_cost(fitted, plan, None, paid=10_000).calls == 0
    assert whole.part(whole.calls // 2).usd == pytest.approx(0.5 * (whole.calls // 2))


def test_without_a_budget_the_plan_has_a_sensible_total() -> None:
    whole, plan = fit(task(100, 40, 100), LOCAL_SEARCH.numbers, Budget())
    assert whole == task(100, 40, 100)
    assert 400 <= plan.search <= 800


def test_every_operator_changes_only_its_place_and_comes_from_train() -> None:
    rng = random.Random(0)
    facts = task_facts(ROWS, ("bad", "good"))
    found = [
        *operators.insertions(SEED, facts, 5),
        *operators.deletions(SEED, rng),
        *operators.swaps(SEED, rng, 3),
        *operators.demonstrations(SEED, ROWS, 4, rng),
    ]
    assert {each.source for each in found} == {"fragment", "delete", "swap", "example"}
    assert [each.text.count("Example:") for each in found if each.source == "example"] == [2, 1, 4]
    for each in found:
        child = compose(SEED, [each])
        assert is_local(MarkedPrompt(prompt=SEED, spans=(each.span,)), child.text)
        assert child.placeholders == SEED.placeholders


def test_operators_do_not_flood_the_pool_of_a_long_prompt() -> None:
    long = Prompt(text=" ".join(f"Rule {n} says that you check it first, and then decide." for n in range(800)))
    found = operators.deletions(long, random.Random(0))
    assert len(found) == 24
    assert all(each.span.of(long.text).strip().endswith("decide.") for each in found)


def factorial(scores: dict[frozenset[int], list[float]], edits: int) -> Factorial:
    """Return a model that knows these scores, each set's on items 0, 1, ..., of a pool of edits."""
    model = Factorial()
    model.add([PoolEdit(Span(n, n), f"edit {n}. ", "test") for n in range(edits)])
    for chosen, found in scores.items():
        model.note(chosen, {str(item): score for item, score in enumerate(found)})
    for _ in range(3):  # the variances are those of the fit before
        model.refit()
    return model


def test_there_is_nothing_to_gain_once_all_edits_are_known_to_be_useless() -> None:
    none, one = frozenset[int](), frozenset({0})
    same = [float(n % 2) for n in range(300)]
    assert ending.nothing_to_gain(factorial({none: same, one: same}, 1))
    assert not ending.nothing_to_gain(factorial({none: same[:6], one: same[:6]}, 1))
    assert not ending.nothing_to_gain(factorial({none: same, one: same}, 2))  # one was never scored
    better = [1.0] * 300
    good = factorial({none: same, one: better}, 1)
    assert good.incumbent == one
    assert ending.nothing_to_gain(good)  # it is in the incumbent already


def test_the_chance_that_a_set_is_better_follows_its_scores() -> None:
    none, one = frozenset[int](), frozenset({0})
    old = [float(n % 2) for n in range(40)]
    for new, low, high in [([1.0] * 40, 0.95, 1.0), ([0.0] * 40, 0.0, 0.05), (old, 0.2, 0.8)]:
        chance = ending.chance_over(factorial({none: old, one: new}, 1), one, none)
        assert chance is not None
        assert low <= chance <= high
    assert ending.chance_over(factorial({none: old, one: old}, 1), one, one) is None


def test_a_search_stalls_after_as_many_calls_as_its_best_prompt_took() -> None:
    assert not ending.is_stalled(599, 0)
    assert ending.is_stalled(600, 0)
    assert not ending.is_stalled(1300, 700)
    assert ending.is_stalled(1400, 700)


class Fixed:
    """Answers by a rule on the prompt and the number of the note."""

    def __init__(self, rule: Callable[[str, int], str]) -> None:
        self.rule, self.calls = rule, 0

    async def complete(self, call: Call) -> Completion:
        self.calls += 1
        text = call.turns[-1].content
        number = int(text.rpartition("note ")[2].split("\n")[0].split()[0].strip())
        return Completion(self.rule(text, number), Usage(1, 1))


def right(number: int) -> str:
    return "good" if number % 2 else "bad"


async def searched(home: Path, rule: Callable[[str, int], str], calls: int | None, **changes: Any) -> RunResult:
    rows = [{"input": f"note {n}", "target": right(n)} for n in range(120)]
    given: dict[str, Any] = {"metric": "exact", "method": "local-search", "cache": False}
    given |= {} if calls is None else {"budget": {"calls": calls}}
    return await lpo_agent.optimize(SEED.text, rows, model=Fixed(rule), env=Environment(home), **(given | changes))


@pytest.mark.anyio
async def test_a_perfect_prompt_ends_the_search_and_the_result_says_so(tmp_path: Path) -> None:
    result = await searched(tmp_path, lambda text, n: right(n) if "only" in text else "hm", 2000)
    assert result.stop_reason.startswith("a prompt is right on all ")
    assert (result.status, result.verdict) == ("completed", "improved")
    assert result.usage.calls < 1000


@pytest.mark.anyio
async def test_a_search_without_progress_ends(tmp_path: Path) -> None:
    result = await searched(tmp_path, lambda _, n: right(n) if n % 3 else "hm", 3000)
    assert result.stop_reason in {ending.CERTAIN, ending.EXHAUSTED} or "has not changed for" in result.stop_reason
    assert (result.status, result.best.prompt) == ("completed", SEED.text)
    assert result.usage.calls < 2000


@pytest.mark.anyio
async def test_calls_kept_for_a_test_that_would_compare_nothing_go_to_the_search(tmp_path: Path) -> None:
    result = await searched(tmp_path, lambda _, n: right(n) if n % 3 else "hm", 300)
    assert result.plan is not None
    assert result.plan.search + result.plan.choose + result.plan.test == 300
    assert result.usage.calls <= 300
    assert result.search.calls is not None
    assert result.search.calls > result.plan.search + result.plan.test / 4
    assert "calls of the search are spent" in result.stop_reason
    assert result.seed.test is not None
    assert result.seed.test.n == result.plan.test // 4
    assert any("24 test items are unused" in note for note in result.notes)
    assert result.power is not None
    assert result.power.test_n == result.seed.test.n


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
