"""Tests of the kinds of locality in complete runs: what each of them accepts, counts and refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lpo_agent.core.events import Marked
from lpo_agent.errors import ConfigError
from tests.search.beam_stage import Played, Stage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LONG = "Name the class of this one (seed).\n\nItem: {input}\n\nBe brief."
KEPT = "<keep>Classes are red and blue.</keep> Name the class (seed).\n\nItem: {input}"
ONE: dict[str, Any] = {"steps": 1, "proposals": 1}
BEAM_METHODS = pytest.mark.parametrize("method", ["ape", "apo", "pe2"])
LOCALITIES = pytest.mark.parametrize("locality", ["off", "think", "nudge", "enforce"])
TAGGED = pytest.mark.parametrize("locality", ["nudge", "enforce"])


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def plain(method: str, **numbers: Any) -> dict[str, Any]:
    """Return numbers that leave a host's proposals alone: no induction, no paraphrases, all of them scored on dev."""
    own: dict[str, dict[str, Any]] = {
        "ape": {"induce": 0},
        "apo": {"paraphrases": 0, "selection": "all", "expansion": 0},
        "pe2": {},
    }
    return {"beam": 1, **own[method], **numbers}


def at_the_end(played: Played) -> int:
    return sum(entry["kind"] == "task" and entry["split"] == "test" for entry in played.log)


def check_counted(played: Played) -> None:
    """Check that every call that was asked is in the result, and no other."""
    search, usage = played.result.search, played.result.usage
    assert search.scorings is not None
    assert search.optimizer_calls == len(played.optimizer())
    assert search.calls == search.scorings + search.optimizer_calls
    assert usage.calls + usage.cached_calls == search.calls + at_the_end(played)


def tries(played: Played) -> tuple[int, int, int, int, int]:
    """Return proposals, global fallbacks, lost ones, tagged replies, malformed ones."""
    told = played.result.locality
    events = played.proposed()
    assert told.tag_replies == sum(event.replies for event in events)
    assert told.malformed == sum(event.malformed for event in events)
    assert told.lost == sum(event.candidate is None for event in events)
    return told.proposals, told.global_fallbacks, told.lost, told.tag_replies, told.malformed


def prompts(played: Played) -> set[str]:
    """Return all prompts that dev items were answered by, "{input}" standing where the item stood."""
    tasks = (entry for entry in played.log if entry["kind"] == "task" and entry["split"] == "dev")
    return {re.sub(r"dev \d+;", "{input}", entry["text"]) for entry in tasks}


# malformed replies


@BEAM_METHODS
@TAGGED
async def test_tags_that_stay_malformed_lead_to_a_global_proposal_and_are_counted(
    stage: Stage, method: str, locality: str
) -> None:
    host = plain(method, tag_check="strict")
    played = await stage.play(method, model="untaggable", locality=locality, host=host, **ONE)
    (event,) = played.proposed()
    assert (event.locality, event.fallback, event.lost) == ("off", True, None)
    assert event.measures is not None
    assert (event.measures.tags, event.measures.leakage, event.measures.local) == (None, None, None)
    assert tries(played) == (1, 1, 0, 2, 2)
    asked = [(entry["kind"], entry["reask"]) for entry in played.optimizer()]
    first = {"ape": [], "apo": [("reasons", False)], "pe2": [("inspect", False)]}[method]
    assert asked == [*first, ("tag", False), ("tag", True), ("write", False)]
    assert "edit" not in played.optimizer()[-1]["text"]
    assert played.result.search.candidates == 1
    assert played.result.locality.checked == 0
    check_counted(played)


async def test_a_reply_that_is_correct_on_the_second_request_counts_once_as_malformed(stage: Stage) -> None:
    strict = plain("pe2", tag_check="strict")
    nudged = await stage.play("pe2", model="hasty", locality="nudge", host=strict, **ONE)
    assert nudged.chains() == {
        "1.0.0": "inspect seed 2 > tag seed 2 > tag again seed 2 > write seed 2 > write again seed 2"
    }
    assert tries(nudged) == (1, 0, 0, 2, 1)  # new prompts are no tagged replies
    enforced = await stage.play("pe2", model="hasty", locality="enforce", host=plain("pe2"), **ONE)
    assert enforced.chains() == {
        "1.0.0": "inspect seed 2 > tag seed 2 > tag again seed 2 > fill seed 2 > fill again seed 2"
    }
    assert tries(enforced) == (1, 0, 0, 4, 2)
    for played in (nudged, enforced):
        check_counted(played)
        assert "it holds" not in played.optimizer()[2]["last"]
        assert "Reply again, in the form asked for." in played.optimizer()[2]["last"]
        # Who writes in the same conversation is shown the good reply only, not the malformed one.
        assert "Name <edit>it." not in played.optimizer()[3]["text"]


async def test_slots_that_stay_malformed_lead_to_a_global_proposal_too(stage: Stage) -> None:
    played = await stage.play("pe2", model="unfillable", locality="enforce", host=plain("pe2"), **ONE)
    assert played.chains() == {"1.0.0": "inspect seed 2 > tag seed 2 > fill seed 2 > fill again seed 2 > write seed 2"}
    assert tries(played) == (1, 1, 0, 3, 2)
    assert played.proposed()[0].locality == "off"
    check_counted(played)


@TAGGED
async def test_malformed_tags_can_end_a_proposal_instead(stage: Stage, locality: str) -> None:
    host = plain("pe2", tag_fallback="drop", tag_check="strict")
    played = await stage.play("pe2", model="untaggable", locality=locality, host=host, **ONE)
    (event,) = played.proposed()
    assert (event.candidate, event.measures) == (None, None)
    assert event.lost is not None
    assert "character for character" in event.lost
    assert tries(played)[0::2] == (1, 1, 2)
    assert played.result.search.candidates == 0
    assert prompts(played) == {"Name the class (seed).\n\n{input}"}
    check_counted(played)


@pytest.mark.parametrize(("reasks", "tags"), [(0, 1), (3, 4)])
async def test_re_asks_have_a_number(stage: Stage, reasks: int, tags: int) -> None:
    host = plain("pe2", tag_reasks=reasks, tag_check="strict")
    played = await stage.play("pe2", model="untaggable", locality="nudge", host=host, **ONE)
    assert [entry["kind"] for entry in played.optimizer()] == ["inspect", *["tag"] * tags, "write"]
    assert tries(played) == (1, 1, 0, tags, tags)
    check_counted(played)


async def test_all_ways_to_tag_wrongly_are_seen_and_some_that_are_right(stage: Stage) -> None:
    more: dict[str, Any] = {"steps": 1, "proposals": 12, "prompt": LONG}
    played = await stage.play("pe2", model="mistagger", locality="enforce", host=plain("pe2"), **more)
    # 0 to 7 are wrong: no tags, one not closed, too many words, nested, a word changed, words added, a
    # misspelt tag, nothing. Right are places at the start and the end, a fenced reply, neighbours.
    assert tries(played) == (12, 8, 0, 8 * 2 + 4 * 2, 8 * 2)
    local = [event.measures for event in played.proposed() if not event.fallback]
    assert [(m.tags, m.leakage, m.local) for m in local if m is not None] == [(1, 0.0, True)] * 4
    assert sorted(event.rendered for event in played.events if isinstance(event, Marked)) == sorted(
        [
            f"<edit></edit>{LONG}",
            f"{LONG}<edit></edit>",
            f"<edit>Name</edit>{LONG.removeprefix('Name')}",
            f"<edit>Name the class</edit>{LONG.removeprefix('Name the class')}",
        ]
    )
    check_counted(played)


# what enforce guarantees, and what nudge measures


@BEAM_METHODS
async def test_enforce_changes_nothing_outside_tags_whatever_the_model_replies(stage: Stage, method: str) -> None:
    more: dict[str, Any] = {"steps": 1, "proposals": 14, "prompt": LONG}
    played = await stage.play(method, model="adversary", locality="enforce", host=plain(method), **more)
    told = played.result.locality
    assert (told.violations, told.leakage, told.leakage_max) == (0, 0.0, 0.0)
    for event in played.proposed():
        assert event.measures is not None
        assert (event.measures.leakage, event.measures.local) == ((None, None) if event.fallback else (0.0, True))
    # Unusable: three with tags, two with placeholders, one with a slot that is not there. They are
    # written anew, without tags, and counted apart.
    assert (told.proposals, told.global_fallbacks, told.checked, told.lost) == (14, 6, 8, 0)
    head, tail = "Name the class of this one (", ").\n\nItem: {input}\n\nBe brief."
    kept = {text for text in prompts(played) if text.startswith(head) and text.endswith(tail)}
    assert len(kept) == 1 + 8
    assert all(re.fullmatch(r"All new \(1\.0\.\d+[.\d]*\) \{input\}", text) for text in prompts(played) - kept)
    assert len(prompts(played)) == 1 + 14
    check_counted(played)


async def test_nudge_measures_what_changes_outside_tags_and_lets_it_pass(stage: Stage) -> None:
    levels = {"dev": {"1.0.1": 9}, "test": {"1.0.1": 12}}
    more: dict[str, Any] = {"steps": 1, "proposals": 2}
    played = await stage.play("pe2", levels, model="rewriter", locality="nudge", host=plain("pe2"), **more)
    told = played.result.locality
    # Not a word outside the tag is left: "Name", "the" and "class" are gone, and more is there.
    assert (told.checked, told.violations, told.leakage, told.leakage_max) == (2, 2, 1.0, 1.0)
    for event in played.proposed():
        assert event.measures is not None
        assert (event.measures.local, event.measures.leakage, event.fallback) == (False, 1.0, False)
    assert played.result.best.prompt == "Something else, all of it, by (1.0.1) alone."
    assert played.result.best.marked_parent == "Name the class (<edit>seed</edit>)."
    enforced = await stage.play("pe2", levels, model="rewriter", locality="enforce", host=plain("pe2"), **more)
    assert enforced.result.best.prompt == "Name the class (1.0.1)."
    assert (enforced.result.locality.violations, enforced.result.locality.leakage_max) == (0, 0.0)
    free = await stage.play("pe2", levels, model="rewriter", locality="off", host=plain("pe2"), **more)
    assert (free.result.locality.checked, free.result.locality.leakage) == (0, None)


@BEAM_METHODS
@LOCALITIES
async def test_kept_text_survives_a_rewrite_in_every_locality(stage: Stage, method: str, locality: str) -> None:
    more: dict[str, Any] = {"steps": 2, "proposals": 2, "prompt": KEPT}
    played = await stage.play(method, locality=locality, host=plain(method), **more)
    assert played.result.locality.lost == 0
    assert len(prompts(played)) == 1 + 2 + 2
    for text in prompts(played):
        assert text.startswith("Classes are red and blue. Name the class (")
        assert text.endswith(").\n\nItem: {input}")
    check_counted(played)


@BEAM_METHODS
@LOCALITIES
async def test_a_proposal_that_loses_kept_text_is_counted_as_lost_and_never_scored(
    stage: Stage, method: str, locality: str
) -> None:
    more: dict[str, Any] = {"steps": 1, "proposals": 2, "prompt": KEPT}
    played = await stage.play(method, model="forgetful", locality=locality, host=plain(method), **more)
    assert tries(played)[0:3:2] == (2, 2)
    assert [(event.candidate, event.measures) for event in played.proposed()] == [(None, None)] * 2
    assert all("must be kept" in str(event.lost) for event in played.proposed())
    assert played.result.search.candidates == 0
    assert prompts(played) == {"Classes are red and blue. Name the class (seed).\n\nItem: {input}"}
    assert played.result.best.prompt == "Classes are red and blue. Name the class (seed).\n\nItem: {input}"
    writes = [entry["reask"] for entry in played.optimizer() if entry["kind"] == "write"]
    assert sorted(writes) == [False, False, True, True]
    check_counted(played)


# what Local Prompt Optimization leaves open


@pytest.mark.parametrize(("locality", "last", "replies"), [("nudge", "write", 1), ("enforce", "fill", 1 + 3)])
async def test_a_parent_can_be_tagged_once_for_all_its_proposals(
    stage: Stage, locality: str, last: str, replies: int
) -> None:
    host = plain("pe2", tag_per="parent")
    played = await stage.play("pe2", locality=locality, host=host, steps=1, proposals=3)
    assert played.chains() == {
        "1.0.tags": "tag seed 2",
        **{f"1.0.{n}": f"inspect seed 2 > {last} seed 2" for n in range(3)},
    }
    assert played.optimizer()[0]["kind"] == "tag"
    assert tries(played) == (3, 0, 0, replies, 0)
    check_counted(played)
    for entry in played.optimizer():
        if entry["kind"] == "write":
            assert (
                "tagged with <edit> in this copy of the prompt:\n~~~~\nName the class (<edit>seed</edit>).\n~~~~"
                in (entry["last"])
            )


async def test_tags_once_for_a_parent_that_fail_are_counted_once(stage: Stage) -> None:
    host = plain("pe2", tag_per="parent", tag_check="strict")
    played = await stage.play("pe2", model="untaggable", locality="nudge", host=host, steps=1, proposals=3)
    assert tries(played) == (3, 3, 0, 2, 2)
    check_counted(played)


@pytest.mark.parametrize(("method", "first"), [("pe2", "inspect"), ("apo", "reasons")])
async def test_tags_can_be_placed_before_the_critique_is_known(stage: Stage, method: str, first: str) -> None:
    host = plain(method, tag_when="before")
    played = await stage.play(method, locality="nudge", host=host, **ONE)
    assert [entry["kind"] for entry in played.optimizer()] == ["tag", first, "write"]
    tag, _, write = played.optimizer()
    assert "SearchOutcome of" not in tag["text"]
    assert "Reason 0" not in tag["text"]
    assert tag["roles"] == "u"
    assert "<edit>seed</edit>" in write["last"]
    assert ("SearchOutcome of 1.0.0." if method == "pe2" else "Reason 0 of 1.0.0.") in write["text"]
    check_counted(played)


async def test_a_proposal_goes_on_in_the_conversation_that_tagged_or_quotes_the_tags(stage: Stage) -> None:
    shared = await stage.play("pe2", locality="nudge", host=plain("pe2"), **ONE)
    write = shared.optimizer()[-1]
    assert write["roles"] == "uauau"
    assert "choose the scope of the edit" in write["text"]
    assert write["text"].count("<edit>seed</edit>") == 1
    assert "edit it at the tagged places, and leave the tags themselves away" in write["last"]
    host = plain("pe2", tag_conversation="separate")
    separate = await stage.play("pe2", locality="nudge", host=host, **ONE)
    write = separate.optimizer()[-1]
    assert write["roles"] == "uau"
    assert "choose the scope of the edit" not in write["text"]
    assert "in this copy of the prompt:\n~~~~\nName the class (<edit>seed</edit>).\n~~~~" in write["last"]
    enforced = await stage.play("pe2", locality="enforce", host=host, **ONE)
    fill = enforced.optimizer()[-1]
    assert (fill["kind"], fill["roles"]) == ("fill", "uau")
    assert '~~~~\nName the class (<slot number="1">seed</slot>).\n~~~~' in fill["last"]


async def test_think_thinks_in_the_conversation_and_tags_nothing(stage: Stage) -> None:
    played = await stage.play("pe2", locality="think", host=plain("pe2"), **ONE)
    think, write = played.optimizer()[1:]
    assert (think["roles"], write["roles"]) == ("uau", "uauau")
    assert "Thought for 1.0.0" in write["text"]
    assert "edit" not in write["text"]
    assert played.result.locality.tag_replies == 0
    measures = played.proposed()[0].measures
    assert measures is not None
    assert (measures.tags, measures.leakage) == (None, None)


@pytest.mark.parametrize(("check", "counts"), [("strict", (1, 1, 0, 2, 2)), ("text", (1, 0, 0, 1, 0))])
async def test_a_tag_of_six_words_is_too_long_unless_only_the_text_is_checked(
    stage: Stage, check: str, counts: tuple[int, ...]
) -> None:
    host = plain("pe2", tag_check=check)
    played = await stage.play("pe2", model="lavish", locality="nudge", host=host, prompt=LONG, **ONE)
    assert tries(played) == counts
    measures = played.proposed()[0].measures
    assert measures is not None
    assert (measures.tags, measures.tag_words) == ((None, None) if check == "strict" else (1, 6.0))


async def test_more_words_in_a_tag_can_be_allowed(stage: Stage) -> None:
    host = plain("pe2", tag_words=6)
    played = await stage.play("pe2", model="lavish", locality="nudge", host=host, prompt=LONG, **ONE)
    assert tries(played) == (1, 0, 0, 1, 0)
    assert "Each pair of tags holds at most 6 words." in played.optimizer()[1]["last"]


async def test_an_unchecked_reply_that_is_not_the_prompt_is_advice_without_spans(stage: Stage) -> None:
    """This is so with nudge unless another check is asked for, as in the paper."""
    played = await stage.play("pe2", model="careless", locality="nudge", host=plain("pe2"), **ONE)
    (event,) = played.proposed()
    assert (event.locality, event.fallback) == ("nudge", False)
    assert event.measures is not None
    assert (event.measures.tags, event.measures.leakage) == (None, None)
    assert tries(played) == (1, 0, 0, 1, 0)
    assert "Label the <edit>kind</edit> of it." in played.optimizer()[-1]["text"]
    host = plain("pe2", tag_check="strict")
    strict = await stage.play("pe2", model="careless", locality="nudge", host=host, **ONE)
    assert tries(strict) == (1, 1, 0, 2, 2)
    with pytest.raises(ConfigError, match="cannot be enforced"):
        await stage.play("pe2", locality="enforce", host=plain("pe2", tag_check="off"), **ONE)


async def test_enforce_checks_replies_strictly_unless_told_otherwise(stage: Stage) -> None:
    played = await stage.play("pe2", model="careless", locality="enforce", host=plain("pe2"), **ONE)
    assert tries(played) == (1, 1, 0, 2, 2)


async def test_a_cap_on_growth_is_kept_by_enforce_and_only_said_by_nudge(stage: Stage) -> None:
    host = plain("pe2", tag_growth=3, tag_check="text")
    enforced = await stage.play("pe2", model="lavish", locality="enforce", host=host, prompt=LONG, **ONE)
    assert tries(enforced) == (1, 1, 0, 1 + 2, 2)
    said = "Replace what a tag holds by at most 3 words."
    kinds = [entry["kind"] for entry in enforced.optimizer()]
    assert kinds == ["inspect", "tag", "fill", "fill", "write"]
    assert said in enforced.optimizer()[2]["last"]
    assert "a slot is filled with 9 words; at most 3 are allowed" in enforced.optimizer()[3]["last"]
    assert said not in enforced.optimizer()[4]["last"]
    nudged = await stage.play("pe2", model="lavish", locality="nudge", host=host, prompt=LONG, **ONE)
    assert said in nudged.optimizer()[-1]["last"]
    assert tries(nudged) == (1, 0, 0, 1, 0)
    roomy = plain("pe2", tag_growth=9, tag_check="text")
    played = await stage.play("pe2", model="lavish", locality="enforce", host=roomy, prompt=LONG, **ONE)
    assert tries(played) == (1, 0, 0, 2, 0)


@pytest.mark.parametrize(
    ("schedule", "allowed"),
    # The share left is 0.2 + 0.8 x (1 + cos(pi x done)) / 2, or 0.2 + 0.8 x (1 - done), done = 0, 1/4, ... 1.
    [("cosine", [10, 9, 6, 3, 2]), ("linear", [10, 8, 6, 4, 2]), ("constant", [10] * 5)],
)
async def test_a_schedule_shrinks_the_tags_that_are_allowed_from_step_to_step(
    stage: Stage, schedule: str, allowed: list[int]
) -> None:
    host = plain("pe2", tags=10, tag_growth=10, tag_schedule=schedule, tag_floor=0.2)
    played = await stage.play("pe2", locality="enforce", host=host, steps=5, proposals=1)
    tags = [entry["last"] for entry in played.optimizer() if entry["kind"] == "tag"]
    fills = [entry["last"] for entry in played.optimizer() if entry["kind"] == "fill"]
    assert [re.findall(r"Use at most (\d+) pairs of tags", text) for text in tags] == [[str(n)] for n in allowed]
    assert [re.findall(r"by at most (\d+) words", text) for text in fills] == [[str(n)] for n in allowed]


# other markers


@BEAM_METHODS
@TAGGED
@pytest.mark.parametrize("marker", ["random", "influence"])
async def test_markers_without_a_model_need_no_tagging_turn(
    stage: Stage, method: str, locality: str, marker: str
) -> None:
    levels = {"train": {"seed": 9, "else": 5}, "dev": {"seed": 2}}
    more: dict[str, Any] = {"steps": 2, "proposals": 3, "marker": marker, "prompt": LONG}
    played = await stage.play(method, levels, locality=locality, host=plain(method, tags=2), **more)
    assert "tag" not in {entry["kind"] for entry in played.optimizer()}
    last = "fill" if locality == "enforce" else "write"
    assert sum(entry["kind"] == last for entry in played.optimizer()) == 6
    marked = [event for event in played.events if isinstance(event, Marked)]
    assert len(marked) == 6
    assert {event.spans for event in marked} <= {1, 2}
    assert len({event.rendered for event in marked}) > 1  # each proposal looks elsewhere
    if locality == "enforce":
        assert (played.result.locality.violations, played.result.locality.leakage) == (0, 0.0)
        assert played.result.locality.checked == 6
        assert played.result.locality.tag_replies == 6  # filled slots
    else:
        assert all("in this copy of the prompt" in e["last"] for e in played.optimizer() if e["kind"] == last)
    check_counted(played)


async def test_the_influence_marker_scores_what_it_measures_and_the_result_counts_it(stage: Stage) -> None:
    levels = {"train": {"seed": 9, "else": 5}}
    more: dict[str, Any] = {"steps": 1, "proposals": 1, "locality": "nudge"}
    plainly = await stage.play("pe2", levels, host=plain("pe2"), marker="random", **more)
    measured = await stage.play("pe2", levels, host=plain("pe2"), marker="influence", **more)
    # The prompt is one phrase, and a prompt without it would be empty: nothing can be measured.
    assert measured.result.search.scorings == plainly.result.search.scorings
    measured = await stage.play("pe2", levels, host=plain("pe2"), marker="influence", prompt=LONG, **more)
    ablated = {entry["parent"] + entry["text"][:20] for entry in measured.log if entry.get("split") == "train"}
    assert len(ablated) > 1
    trained = sum(entry.get("split") == "train" for entry in measured.log)
    # Errors are looked for first; then up to 4 phrases are left out on at most 3 wrong and 3 right items.
    assert 10 < trained <= 20 + 4 * 6
    check_counted(measured)


async def test_the_manual_marker_edits_what_the_author_marked_and_nothing_else(stage: Stage) -> None:
    prompt = "Name the class (<edit>seed</edit>). Be brief, <edit>please</edit>.\n\nItem: {input}"
    more: dict[str, Any] = {"steps": 2, "proposals": 2, "marker": "manual", "prompt": prompt}
    played = await stage.play("pe2", locality="enforce", host=plain("pe2", tags=1), **more)
    marked = {event.rendered for event in played.events if isinstance(event, Marked)}
    assert prompt in marked
    assert all(text.endswith("). Be brief, <edit>please</edit>.\n\nItem: {input}") for text in marked)
    for text in prompts(played):
        assert re.fullmatch(r"Name the class \((seed|[12]\.0\.[01])\)\. Be brief, please\.\n\nItem: \{input\}", text)
    assert len(prompts(played)) == 5
    assert "tag" not in {entry["kind"] for entry in played.optimizer()}
    check_counted(played)


@pytest.mark.parametrize("method", ["ape", "pe2"])
async def test_the_auto_marker_keeps_tagged_spans_that_harm(stage: Stage, method: str) -> None:
    # "badly" costs 10 items; without its name the prompt has none right. Both are tagged by the model.
    levels = {"train": {"seed": 20}, "dev": {"seed": 10}, "words": {"badly": 10}}
    more: dict[str, Any] = {"steps": 1, "proposals": 1, "marker": "auto", "prompt": "Name the class (seed) badly."}
    host = plain(method, tags=1, look=20)
    played = await stage.play(method, levels, model="observant", locality="enforce", host=host, **more)
    (marked,) = [event for event in played.events if isinstance(event, Marked)]
    assert marked.rendered == "Name the class (seed) <edit>badly</edit>."
    (tag,) = [entry for entry in played.optimizer() if entry["kind"] == "tag"]
    assert "Use at most 2 pairs of tags" in tag["last"]  # twice as many as are kept
    assert "Name the class (seed) well 1.0.0.\n\n{input}" in prompts(played)
    assert tries(played) == (1, 0, 0, 2, 0)
    check_counted(played)


# reproducibility


@pytest.mark.parametrize(
    ("method", "host"),
    [
        ("ape", {"beam": 2, "induce": 2, "induce_each": 2}),
        ("apo", {"beam": 2, "eval_budget": 40, "expansion": 3, "minibatch": 6}),
        ("apo", {"beam": 2, "selection": "ucb", "eval_rounds": 3, "eval_prompts": 3, "eval_items": 3}),
        ("pe2", {"beam": 2}),
    ],
    ids=["ape", "apo", "apo-ucb", "pe2"],
)
@pytest.mark.parametrize("marker", ["llm", "random", "influence"])
async def test_the_same_seed_gives_the_same_run_whatever_the_concurrency(
    stage: Stage, method: str, host: dict[str, Any], marker: str
) -> None:
    levels = {
        "train": {"else": 9},
        "dev": {"seed": 2, **{f"1.0.{n}": 3 + n for n in range(3)}, "2.0.0": 7, "else": 4},
    }
    more: dict[str, Any] = {"locality": "enforce", "host": host, "marker": marker, "steps": 2, "proposals": 3}
    one = await stage.play(method, levels, concurrency=1, **more)
    many = await stage.play(method, levels, concurrency=16, **more)
    assert one.told() == many.told()
    assert one.chains() == many.chains()
    assert one.answered() == many.answered()
    assert one.result.search == many.result.search
    assert one.result.locality == many.result.locality
    assert (one.result.best, one.result.test_delta) == (many.result.best, many.result.test_delta)
    other = await stage.play(method, levels, concurrency=16, seed=1, **more)
    assert sorted(e["text"] for e in other.optimizer()) != sorted(e["text"] for e in many.optimizer())
