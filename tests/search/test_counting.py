"""Tests of counting calls: the computed number is the actual one if every reply is usable and new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from lpo_agent.core.beam_options import beam_options_for
from lpo_agent.runs.estimate import plan_run
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.beam import BeamMethod
from lpo_agent.search.methods.beam.counting import most_calls
from lpo_agent.search.plan import Plan
from lpo_agent.spec import make_spec
from tests.search.beam_stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent.search.methods.beam.expanding import Rules

pytestmark = pytest.mark.anyio

SIZES = {"train": 8, "dev": 6, "test": 4}

# By hand, with D = 6 dev and 8 training items, for the host alone, and with tags or thoughts.
#
# pe2, the released scripts' shape: 1 + 4 + 16 + 16 = 37 prompts; 9 parents (1 + 4 + 4), 8 items each,
# 4 proposals of 2 or 3 calls each: 37 x 6 + 9 x 8 + 36 x 2 = 366, or 402.
# ape: 6 instructions, then 2 parents with 2 paraphrases in each step: 1 + 6 + 4 + 4 = 15 prompts:
# 15 x 6 + 6 + 8 x 1 = 104, or 112.
# apo: 3 gradients, 2 prompts each, 2 paraphrases of each, 2 critiques, 2 paraphrases of the parent:
# 2 x 3 x 2 x 3 + 2 = 38 successors; 3 parents: 1 + 38 + 76 = 115 prompts, 4 items looked at for each;
# calls: 2 x (1 + 3 x (1 + 2 x 2)) + 2 = 34, or 2 x (1 + 3 x 2 x 5) + 2 x 2 = 66 each:
# 115 x 6 + 12 + 102 = 804, or 900.
# apo as in PE2: 1 + 2 + 4 = 7 prompts, 3 parents with 8 items, 2 x 2 or 2 x 3 calls: 42 + 24 + 12 = 78, or 84.


def rules_of(method: str) -> Rules:
    found = METHODS.load(method)
    assert isinstance(found, BeamMethod)
    return found.rules


class Shape(NamedTuple):
    """A search, and what it shall come to. ``counts``: calls of the host alone, and with tags or thoughts."""

    method: str
    host: dict[str, Any]
    steps: int
    proposals: int
    candidates: int
    counts: tuple[int, int]


ALL: dict[str, Any] = {"beam": 2, "selection": "all"}
FULL = ALL | {"reasons": 3, "edits": 2, "expansion": 0, "minibatch": 4}
AS_IN_PE2 = ALL | {"reasons": 5, "split_reasons": False, "paraphrases": 0, "minibatch": 0}
SHAPES = {
    "pe2-37-prompts": Shape("pe2", {}, 3, 4, 36, (366, 402)),
    "ape": Shape("ape", {"beam": 2, "induce": 2, "induce_each": 3}, 2, 2, 14, (104, 112)),
    "apo-in-full": Shape("apo", FULL, 2, 2, 114, (804, 900)),
    "apo-in-pe2": Shape("apo", AS_IN_PE2, 2, 2, 6, (78, 84)),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("locality", ["off", "think", "nudge", "enforce"])
async def test_the_count_before_a_run_is_the_count_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locality: str, shape: Shape
) -> None:
    method, host, steps, proposals, candidates, counts = shape
    # Each step is better than the one before, so that all parents are new. No training item is wrong
    # where rows are looked at until there are enough errors, so that all are looked at.
    levels = {
        "train": {"else": 0 if host.get("minibatch") else 8},
        "dev": {"seed": 1, "i0": 2, "i1": 2, "i2": 2, "step 1": 3, "step 2": 4, "step 3": 5},
        "test": {"else": 4, "seed": 0},
    }
    numbers, plan, tagged = beam_options_for(method, host), Plan(steps=steps, proposals=proposals), locality != "off"
    most = most_calls(rules_of(method), numbers, plan, tagged=tagged, train=8, rows=6, calls_each=1)
    assert most == counts[tagged]
    stage = Stage(tmp_path, monkeypatch)
    more: dict[str, Any] = {"host": host, "steps": steps, "proposals": proposals, "locality": locality}
    played = await stage.play(method, levels, sizes=SIZES, **more)
    assert played.result.search.calls == most
    assert played.result.search.candidates == candidates
    spec = make_spec(stage.options(method, sizes=SIZES) | more)
    assert plan_run(spec).calls_high == played.result.usage.calls == most + 2 * 4


def test_scoring_a_row_in_two_calls_doubles_the_scorings_and_nothing_else() -> None:
    numbers, plan = beam_options_for("pe2", {}), Plan(steps=3, proposals=4)
    one = most_calls(rules_of("pe2"), numbers, plan, tagged=True, train=100, rows=100, calls_each=1)
    two = most_calls(rules_of("pe2"), numbers, plan, tagged=True, train=100, rows=100, calls_each=2)
    # The paper's size: 37 prompts on 100 dev items, 9 parents on up to 100 training items, 36 x 3 calls.
    assert one == 3700 + 900 + 108
    assert two == 2 * 4600 + 108


@pytest.mark.parametrize(
    ("method", "host", "most"),
    [
        ("ape", {}, 4),
        ("pe2", {}, 4),
        ("apo", {}, 8),  # its max_expansion_factor
        ("apo", {"expansion": 0}, 4 * 3 + 2),  # ProTeGi: four sections, each said otherwise twice, and the parent
        ("apo", {"expansion": 0, "reasons": 2, "paraphrases": 0}, 8),
        ("apo", {"expansion": 0, "reasons": 5, "split_reasons": False, "paraphrases": 0}, 4),
    ],
)
def test_a_parent_has_so_many_successors(method: str, host: dict[str, Any], most: int) -> None:
    assert rules_of(method).successors(beam_options_for(method, host), 4) == most


@pytest.mark.parametrize("selection", ["bf", "ucb", "ucb-e", "s-sr", "sh"])
async def test_a_search_by_parts_asks_no_more_than_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    stage = Stage(tmp_path, monkeypatch)
    host = {"beam": 2, "selection": selection, "eval_budget": 60, "eval_rounds": 4, "eval_prompts": 3, "eval_items": 5}
    sizes = {"train": 8, "dev": 12, "test": 4}
    more: dict[str, Any] = {"host": host, "steps": 2, "proposals": 3}
    played = await stage.play("apo", {"dev": {"1.0.0.0": 9, "else": 3}, "test": {"else": 4}}, sizes=sizes, **more)
    estimate = plan_run(make_spec(stage.options("apo", sizes=sizes) | more))
    assert estimate.calls_low <= played.result.usage.calls <= estimate.calls_high
