"""Tests of making candidates: filled spans, crossover, demonstrations, and refused candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lpo_agent.core.events import Proposed
from lpo_agent.core.guards import Guards
from lpo_agent.core.messages import Proposal, Proposals, Row
from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span, is_local, splice
from lpo_agent.search.candidates import Candidate, SearchHistory
from lpo_agent.search.methods.local import LOCAL_SEARCH
from lpo_agent.search.methods.local.building import CandidateBuilder

if TYPE_CHECKING:
    from lpo_agent.core.events import Event

SEED = Prompt(text="Read the note. Say it loud. Be brief.\n\nNote: {input}")
ROWS = tuple(Row(id=f"train:{n}", variables={"input": f"number {n}"}, target=str(n)) for n in range(8))


def changed(prompt: Prompt, old: str, new: str) -> Candidate:
    start = prompt.text.index(old)
    marked = MarkedPrompt(prompt=prompt, spans=(Span(start, start + len(old)),))
    return Candidate(splice(marked, [Replacement(0, new)]), 1, 0, marked)


def born(
    parent: Prompt, *texts: str, history: SearchHistory | None = None, scores: str = "1", **plan: Any
) -> tuple[list[Candidate], list[Event]]:
    """Fill the word "note" of the parent with each of the texts."""
    events: list[Event] = []
    start = parent.text.index("note")
    marked = MarkedPrompt(prompt=parent, spans=(Span(start, start + 4),))
    proposals = Proposals(proposals=tuple(Proposal(replacements=(Replacement(0, text),)) for text in texts))
    changes = LOCAL_SEARCH.numbers.__class__(**{"demos": 0, **plan})
    builder = CandidateBuilder(0, Candidate(SEED), ROWS, Guards.of(SEED, ROWS), changes, events.append)
    marks = [{str(n): float(mark) for n, mark in enumerate(row)} for row in scores.split()]
    return builder.children(1, marked, proposals, history or SearchHistory((Candidate(SEED),)), marks), events


def lost(events: list[Event]) -> list[str | None]:
    return [event.lost for event in events if isinstance(event, Proposed)]


def test_every_proposal_is_reported_with_its_outcome() -> None:
    children, events = born(SEED, "letter", "{input}", "note", "letter", "letter letter")
    assert [child.prompt.text for child in children] == [SEED.text.replace("note", "letter", 1)]
    assert children[0].filled == (Replacement(0, "letter"),)
    first, braces, same, again, doubled = lost(events)
    assert first is None
    assert braces is not None
    assert "placeholder" in braces
    assert same == again == "the same text was tried before"
    assert doubled is not None


def test_texts_that_other_branches_tried_are_not_raced_again() -> None:
    known = SearchHistory((Candidate(SEED),), tried=(SEED.text.replace("note", "letter", 1),))
    assert [child.filled[0].text for child in born(SEED, "letter", "memo", history=known)[0]] == ["memo"]


def test_crossover_takes_the_edits_that_the_other_prompt_made_elsewhere() -> None:
    parent, mate = changed(SEED, "Say it loud.", "Whisper all of it."), changed(SEED, "Be brief.", "Be very short.")
    children, _ = born(parent.prompt, history=SearchHistory((Candidate(SEED), parent, mate)), scores="000 110 001")
    (child,) = children
    assert child.note == "crossover"
    assert child.prompt.text == "Read the note. Whisper all of it. Be very short.\n\nNote: {input}"
    assert child.marked is not None
    assert child.marked.prompt == parent.prompt
    assert is_local(child.marked, child.prompt.text)


@pytest.mark.parametrize("scores", ["000 110 000", "111 111 111"])
def test_dominated_prompts_are_not_used_for_crossover(scores: str) -> None:
    parent, mate = changed(SEED, "Say it loud.", "Whisper."), changed(SEED, "Be brief.", "Be short.")
    assert born(parent.prompt, history=SearchHistory((Candidate(SEED), parent, mate)), scores=scores)[0] == []


def test_edits_at_the_same_place_are_not_merged() -> None:
    parent, mate = changed(SEED, "Say it loud.", "Whisper."), changed(SEED, "Say it", "Sing it")
    assert born(parent.prompt, history=SearchHistory((Candidate(SEED), parent, mate)), scores="00 10 01")[0] == []


def test_demonstrations_come_from_rows_that_may_be_shown() -> None:
    (child,) = born(SEED, demos=2)[0]
    assert any(row.variables["input"] in child.prompt.text for row in ROWS)
    assert child.prompt.text.endswith("Note: {input}")
    assert child.marked is not None
    assert is_local(child.marked, child.prompt.text)
