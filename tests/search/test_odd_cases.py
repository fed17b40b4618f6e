"""Regression tests of the beam methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lpo_agent.agents.parsing import ruled_spans
from lpo_agent.agents.rewriting import tag_instruction
from lpo_agent.core.beam_options import beam_options_for
from lpo_agent.core.messages import Row, ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import Prompt
from lpo_agent.errors import ReplyError
from lpo_agent.search.methods.beam.bandits import phase_sizes
from tests.search.beam_stage import Stage
from tests.search.test_bandits import Judge, chosen

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ROWS = [Row(id=f"dev:{n}", variables={"input": str(n)}, target="x") for n in range(400)]


class OneOfNine(Judge):
    """Finds the first row right, whatever the prompt."""

    async def score(self, ask: ScoreAsk) -> ScoreReply:
        await super().score(ask)
        return ScoreReply(outcome=Scored(value=float(ask.row.id == "dev:0"), output=""))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


async def test_halving_keeps_equal_arms_despite_rounding_of_their_mean() -> None:
    order, _ = await chosen(OneOfNine([0.0] * 5), rows=ROWS[:9], selection="sh", eval_budget=2048)
    assert order == [0, 1, 2, 3, 4]


async def test_rejects_ask_for_no_more_than_their_phases_say() -> None:
    judge = Judge([n / 20 for n in range(12)])
    numbers = beam_options_for("apo", {"selection": "sr", "eval_budget": 600})
    await chosen(judge, rows=ROWS, beam=4, selection="sr", eval_budget=600)
    sizes = phase_sizes(numbers, 12)
    assert len(sizes) == 8
    assert len(judge.asked) <= sum(size * (12 - n) for n, size in enumerate(sizes))


async def test_what_the_seed_was_scored_on_counts_where_train_selects(stage: Stage) -> None:
    played = await stage.play("pe2", host={"beam": 2, "select_on": "train"}, steps=1, proposals=2)
    tested = sum(entry["kind"] == "task" and entry["split"] == "test" for entry in played.log)
    assert played.result.search.calls == len(played.log) - tested


def test_tags_around_all_that_may_change_are_malformed() -> None:
    reply = "<edit>Name the class</edit> <edit>of this, please, now:</edit> {input}"
    prompt = Prompt(text="Name the class of this, please, now: {input}")
    with pytest.raises(ReplyError, match="every word"):
        ruled_spans(reply, prompt, count=4, words=5, check="strict")


def test_one_pair_of_tags_is_asked_for_in_words() -> None:
    assert "Use at most one pair of tags." in tag_instruction(Prompt(text="Name it."), "mend", (1, 5))


async def test_a_dropped_proposal_is_lost_and_nothing_else(stage: Stage) -> None:
    host = {"beam": 1, "tag_fallback": "drop", "tag_check": "strict"}
    played = await stage.play("pe2", model="untaggable", locality="nudge", host=host, steps=1, proposals=1)
    assert (played.result.locality.lost, played.result.locality.global_fallbacks) == (1, 0)


async def test_tags_that_cannot_be_placed_are_quoted_as_they_came(stage: Stage) -> None:
    host = {"beam": 1, "tag_check": "off", "tag_conversation": "separate"}
    played = await stage.play("pe2", model="careless", locality="nudge", host=host, steps=1, proposals=1)
    assert "<edit>kind" in played.optimizer()[-1]["last"]


async def test_a_parent_is_tagged_once_for_its_paraphrases_too(stage: Stage) -> None:
    host = {"beam": 1, "tag_per": "parent"}
    played = await stage.play("apo", locality="nudge", host=host, steps=1, proposals=2)
    tagged = [entry["parent"] for entry in played.optimizer() if entry["kind"] == "tag"]
    assert tagged.count("seed") == 1


async def test_apo_asks_for_reasons_even_where_nothing_is_wrong(stage: Stage) -> None:
    host = {"beam": 1, "paraphrases": 0}
    played = await stage.play("apo", {"train": {"seed": 20}}, host=host, steps=1, proposals=1)
    assert "Examples that it gets wrong" not in played.optimizer()[0]["last"]
    assert played.result.search.candidates == 1


@pytest.mark.parametrize("marker", ["random", "influence"])
async def test_markers_without_a_model_mark_something_without_a_cap(stage: Stage, marker: str) -> None:
    prompt = "Name the class of it, please, and be brief (seed).\n\nItem: {input}"
    host = {"beam": 1, "tags": 0}
    played = await stage.play("pe2", locality="enforce", marker=marker, prompt=prompt, host=host, steps=1, proposals=1)
    assert played.result.locality.global_fallbacks == 0
    assert played.result.search.tags is not None
    assert played.result.search.tags > 0


async def test_proposals_made_before_the_budget_ended_are_not_lost(stage: Stage) -> None:
    """The budget ends while the children are scored: those that were scored in full may still be the answer."""
    levels = {"dev": {"seed": 0, "else": 9}, "test": {"seed": 0, "else": 9}, "train": {"else": 0}}
    options: dict[str, Any] = {"host": {"beam": 1}, "steps": 1, "proposals": 2, "concurrency": 1}
    sizes = {"train": 10, "dev": 10, "test": 2}
    whole = await stage.play("pe2", levels, sizes=sizes, **options)
    spent, dev, test = whole.result.search.calls, 10, 2
    assert spent is not None
    put_aside = 2 * test  # the seed's dev rows are paid by the search itself
    cut = await stage.play("pe2", levels, sizes=sizes, budget={"calls": spent - dev // 2 + put_aside}, **options)
    assert cut.result.status == "stopped"
    assert cut.result.search.candidates == 2
    assert cut.result.search.optimizer_calls == 4  # two proposals, each with its critique
