"""Tests of the sources of edits: what becomes of replies, and when a source rests."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lpo_agent.bus.base import failure_from
from lpo_agent.core.editpool import PoolEdit, compatible, compose, joined
from lpo_agent.core.edits import Edit, applied, carried, edits_between
from lpo_agent.core.factorial import Factorial
from lpo_agent.core.messages import Critique, InduceAsk, Induced, Mark, MarkAsk, Marks, Proposal, Proposals, Row, Trace
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span
from lpo_agent.errors import EditRejected, ReplyError, RequestFailed, RequestRejected
from lpo_agent.search.methods.pool import LPO
from lpo_agent.search.methods.pool.known import Known
from lpo_agent.search.methods.pool.taking_apart import groups_of, induced_edits, taken_apart
from lpo_agent.search.methods.pool.writing import EditWriter, Written
from lpo_agent.search.plan import Plan

if TYPE_CHECKING:
    from lpo_agent.core.messages import Topic

pytestmark = pytest.mark.anyio

SEED = Prompt(text="Sort the note. Be quick.\n\nNote: {input}")
TRACES = [
    Trace(row=Row(str(n), {"input": f"n{n}"}, "a"), result=Scored(float(n % 2), "a" if n % 2 else "b"))
    for n in range(8)
]
MARK = Mark(span=Span(15, 24), reason="", options=("Take your time.", "Be slow."), strategy="rule")
POINT = Mark(span=Span(24, 24), reason="", options=(" Name a team.",), strategy="format")


class FakeBus:
    """Answers each topic with what it is given, and keeps the requests; an exception is a failed request."""

    def __init__(self, **replies: Any) -> None:
        self.replies = {"critique": Critique(text="It hurries.", calls=1), **replies}
        self.asked: list[tuple[str, Any]] = []

    async def request(self, topic: Topic[Any, Any], message: Any, *, timeout: float) -> Any:  # noqa: ASYNC109 - a bus's
        assert timeout > 0
        self.asked.append((topic.name, message))
        reply = self.replies[topic.name]
        if isinstance(reply, Exception):
            raise RequestFailed(failure_from(reply)) from reply
        return reply


def writer(bus: FakeBus, marker: str = "llm", proposer: str = "llm") -> EditWriter:
    return EditWriter(bus, Plan(marker=marker, proposer=proposer), SEED, ("a", "b"))  # type: ignore[arg-type]


def known(model: Factorial | None = None, chosen: frozenset[int] = frozenset()) -> Known:
    return Known(SEED, chosen, model or Factorial())


async def write(one: EditWriter, step: int = 1, traces: list[Trace] = TRACES) -> Written:
    return await one.write(step, SEED, traces, known())


async def test_marks_with_texts_need_no_proposer() -> None:
    bus = FakeBus(mark=Marks(marks=(MARK, POINT), calls=1, lost=("line 9: no",)))
    written = await write(writer(bus))
    assert [name for name, _ in bus.asked] == ["critique", "mark"]
    assert (written.source, written.asked, written.lost) == ("marks", 2, ("line 9: no",))
    assert [[each.text for each in group] for group in written.groups] == [
        ["Take your time.", " Name a team."],
        ["Take your time."],
        [" Name a team."],
        ["Be slow."],
    ]
    assert [each.source for each in written.groups[0]] == ["rule", "format"]
    critique, mark = (message for _, message in bus.asked)
    assert "Mean score 0.50 on 8 examples" in critique.report == mark.report
    assert len(critique.failures) == len(mark.failures) == 4


async def test_marks_without_texts_go_to_the_proposer() -> None:
    proposals = Proposals(proposals=(Proposal(replacements=(Replacement(0, "Go."),), note="mine"),), calls=1)
    bus = FakeBus(mark=Marks(marks=(Mark(span=Span(15, 24), reason=""),)), propose=proposals)
    written = await write(writer(bus))
    assert [name for name, _ in bus.asked] == ["critique", "mark", "propose"]
    assert [(child.text, note) for child, note in written.children] == [(SEED.text.replace("Be quick.", "Go."), "mine")]


async def test_without_failures_nothing_is_asked() -> None:
    bus = FakeBus()
    assert (await write(writer(bus), traces=TRACES[1::2])).asked == 0
    assert bus.asked == []


async def test_other_sources_take_over_while_one_rests() -> None:
    new = Proposals(proposals=(Proposal(text="Name a team.\n\nNote: {input}"),), calls=1)
    bus = FakeBus(mark=ReplyError("no JSON"), propose=new, induce=Induced(text="Say a or b."))
    one, edits = writer(bus), [PoolEdit(Span(15, 24), "Name a team.", "rewrite")]
    sources = []
    for step in range(1, 9):
        written = await write(one, step)
        sources.append(written.source)
        one.heard(step, written.source, edits if written.source == "rewrite" else ())
    assert sources[:2] == ["marks", "rewrite"]
    assert sources[2:].count("rewrite") >= 4
    for step in range(9, 60):
        if step < one.due:
            continue
        written = await write(one, step)
        sources.append(written.source)
        one.heard(step, written.source, ())
    assert set(sources) == {"marks", "rewrite", "induced", "paraphrase"}
    assert sources.count("marks") <= 6
    assert len(sources) < 40


async def test_the_source_whose_last_edits_paid_most_is_asked_next() -> None:
    good, bad = PoolEdit(Span(15, 24), "Name a team.", "rewrite"), PoolEdit(Span(0, 15), "Well.", "rule")
    model = Factorial(pool=[good, bad])
    for chosen, score in ((frozenset[int](), 0.4), (frozenset({0}), 0.9), (frozenset({1}), 0.3)):
        model.note(chosen, dict.fromkeys(map(str, range(20)), score))
    model.refit()
    marks = Marks(marks=(MARK,), calls=1)
    new = Proposals(proposals=(Proposal(text="Name a team.\n\nNote: {input}"),), calls=1)
    one = writer(FakeBus(mark=marks, propose=new))
    one.heard(1, "marks", [bad])
    assert (await one.write(1, SEED, TRACES, known(model))).source == "rewrite"
    one.heard(1, "rewrite", [good])
    assert (await one.write(1, SEED, TRACES, known(model))).source == "rewrite"
    one.heard(1, "marks", [good])
    assert (await one.write(1, SEED, TRACES, known(model))).source == "marks"


async def test_a_failed_reply_is_told_and_a_long_request_becomes_shorter() -> None:
    bus = FakeBus(critique=RequestRejected("too long for the context"))
    one = writer(bus)
    written = await write(one)
    assert written.skipped == "too long for the context"
    assert one.room == 6_000


@pytest.mark.parametrize(("marker", "proposer"), [("own", "llm"), ("llm", "own"), ("llm", "operators")])
def test_agents_of_the_caller_are_the_only_source(marker: str, proposer: str) -> None:
    assert list(writer(FakeBus(), marker, proposer).rests) == ["marks"]


def test_texts_of_one_mark_exclude_each_other_and_insertions_stack() -> None:
    twice = Mark(span=Span(24, 24), reason="", options=(" One.", " Two."), strategy="example")
    (one, *_), *_ = groups_of([twice], SEED.text, [], "x")
    singles = [group[0] for group in groups_of([twice, POINT], SEED.text, [], "x") if len(group) == 1]
    first, other, second = singles
    assert one.source == "written example"
    assert not compatible([first], second)
    assert compatible([first], other)
    assert compose(SEED, [first, other]).text.startswith("Sort the note. Be quick. Name a team. One.")


def test_an_edit_of_an_edited_prompt_is_one_of_the_seed() -> None:
    own = [PoolEdit(Span(15, 24), "Take all the time you need.", "rule"), PoolEdit(Span(0, 0), "Hi. ", "role")]
    text = compose(SEED, own).text
    at = text.index("all the time")
    mark = Mark(span=Span(at, at + 12), reason="", options=("an hour",), strategy="rule")
    ((edit,),) = groups_of([mark], text, own, "x")
    assert (edit.span, edit.text) == (Span(15, 24), "Take an hour you need.")
    point = Mark(span=Span(4, 4), reason="", options=("You are a clerk. ",), strategy="role")
    ((beside,),) = groups_of([point], text, own, "y")
    assert (beside.span, beside.text, beside.stacks) == (Span(0, 0), "You are a clerk. ", True)


def test_edits_carried_to_the_seed_compose_to_the_same_text() -> None:
    rng, seed, checked = random.Random(1), Prompt(text="abcdefghijkl"), 0
    for _ in range(3_000):
        a, b, c, d = sorted(rng.sample(range(13), 4))
        edits = [Edit(Span(a, rng.choice((a, b))), "XY"), Edit(Span(c, d), rng.choice(("", "Z")))]
        text = applied(seed, edits).text
        start, end = sorted(rng.choices(range(len(text) + 1), k=2))
        try:
            new = carried(edits, text, Span(start, end), "@")
        except EditRejected:
            continue  # a part of an insertion at an end
        held = [e for e in edits if compatible([PoolEdit(*new, "")], PoolEdit(*e, "", stacks=False))]
        assert applied(seed, sorted([*held, new])).text == f"{text[:start]}@{text[end:]}"
        checked += 1
    assert checked > 2_500


def test_a_new_prompt_is_taken_apart_by_sentences() -> None:
    child = Prompt(text="Sort each short note. Take your time.\n\nNote: {input}\nTeam:")
    edits = taken_apart(SEED, child, frozenset(), Factorial(), "rewrite")
    assert edits is not None
    assert [(each.span.of(SEED.text), each.text) for each in edits] == [
        ("the", "each short"),
        ("Be quick", "Take your time"),
        ("", "\nTeam:"),
    ]
    two = "Sort this note now. Be quick.\n\nNote: {input}"
    assert len(edits_between(SEED, two)) == 2
    joined_edits = taken_apart(SEED, Prompt(text=two), frozenset(), Factorial(), "rewrite")
    assert joined_edits is not None
    assert [(each.span.of(SEED.text), each.text) for each in joined_edits] == [("the note", "this note now")]


def test_an_induced_instruction_replaces_the_old_one_or_stands_beside_it() -> None:
    texts = [compose(SEED, [each]).text for each in induced_edits(SEED, "Say a or b.")]
    assert texts == ["Say a or b.\n\nNote: {input}", "Sort the note. Be quick. Say a or b.\n\nNote: {input}"]
    kept = Prompt(text="Sort it. {input}", keep=(Span(0, 8),))
    assert all(compose(kept, [each]).text.startswith("Sort it.") for each in induced_edits(kept, "Say a or b."))


def test_the_history_shows_edits_with_their_worth_and_winners_as_winners() -> None:
    good, bad = PoolEdit(Span(15, 24), "Name a team.", "format"), PoolEdit(Span(0, 15), "", "delete")
    model = Factorial(pool=[good, bad])
    items = [str(n) for n in range(20)]
    for chosen, score in ((frozenset[int](), 0.4), (frozenset({0}), 0.9), (frozenset({1}), 0.1)):
        model.note(chosen, dict.fromkeys(items, score))
    model.refit()
    one = known(model, frozenset({0}))
    first, last = one.history().split("\n")
    assert first.startswith("+0.")
    assert first.endswith('on 20 examples, in the prompt now: replace "Be quick." by "Name a team."')
    assert last.startswith("-0.")
    assert last.endswith('on 20 examples: delete "Sort the note."')
    assert compose(SEED, [good]).text not in one.tried()
    assert "rule" in one.missing()
    assert "format" not in one.missing()


def test_every_edit_of_a_mark_lies_where_text_may_change() -> None:
    for group in groups_of([MARK, POINT], SEED.text, [], "x"):
        edits = joined(group)
        assert MarkedPrompt(prompt=SEED, spans=tuple(edit.span for edit in edits))


def test_the_plan_asks_for_several_edits_at_once() -> None:
    assert LPO.numbers.marks == 6
    assert MarkAsk(prompt=SEED, critique=Critique(text="")).strategies == ()
    assert InduceAsk(rows=()).rows == ()
