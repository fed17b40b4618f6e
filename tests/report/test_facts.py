"""Tests of the facts of a report, which are computed from the journal: diff, places, tree and items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.events import (
    BeamSelected,
    CandidateScored,
    Marked,
    Proposed,
    StepFinished,
    StepStarted,
)
from lpo_agent.core.result import SearchResult
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.core.text import Prompt, Span, render
from lpo_agent.report import gather, prompts_compared
from lpo_agent.report.lineage import MAX_ROWS, build_tree
from lpo_agent.report.pieces import pieces_of
from tests.report import sample

ROOT = Prompt(text=sample.SEED).id


def proposed(parent: str, candidate: str | None, step: int = 1, branch: int = 0) -> Proposed:
    return Proposed(
        step=step,
        branch=branch,
        parent=parent,
        candidate=candidate,
        purpose="mend",
        locality="off",
        fallback=False,
        replies=1,
        malformed=0,
        measures=None,
    )


def scored(candidate: str, mean: float | None, items: int, step: int = 1) -> CandidateScored:
    return CandidateScored(step=step, candidate=candidate, mean=mean, items=items, calls=0)


@given(st.text(max_size=200), st.text(max_size=200))
def test_pieces_hold_both_texts(old: str, new: str) -> None:
    pieces = pieces_of(old, new, ())
    assert "".join(piece.text for piece in pieces if piece.kind != "new") == old
    assert "".join(piece.text for piece in pieces if piece.kind != "gone") == new


def test_pieces_follow_the_known_edits() -> None:
    text, edits = sample.edited()
    numbers = [piece.edit for piece in pieces_of(sample.SEED, text, edits) if piece.kind == "new"]
    assert numbers == [0, 1, 3]


def test_edits_that_do_not_lead_to_the_prompt_are_ignored() -> None:
    _, edits = sample.edited()
    assert all(piece.edit is None for piece in pieces_of(sample.SEED, "Something else.", edits))


def test_a_very_long_diff_is_quick() -> None:
    old = "Read it, and then say what it is about in your own words. " * 500
    new = old.replace("own", "few", 40)
    assert "".join(piece.text for piece in pieces_of(old, new, ()) if piece.kind != "gone") == new


def test_the_seed_and_what_was_found_are_compared() -> None:
    result = sample.full()
    assert prompts_compared(result) == (sample.SEED, result.best.prompt)
    kept = result.best.model_copy(update={"prompt": sample.SEED})
    assert prompts_compared(sample.full(best=kept, challenger=result.best)) == (sample.SEED, result.best.prompt)


def test_a_tree_of_races() -> None:
    best = sample.full().best.prompt
    tree = build_tree(sample.search(best), sample.SEED, best)
    assert len(tree.nodes) == 64
    assert not tree.folded
    assert tree.lines[0].node is None
    assert [line.node.text for line in tree.lines if line.found and line.node] == [best]
    assert sum(len(line.rest) for line in tree.lines) + len(tree.lines) - 1 == 64
    for line in tree.lines[1:]:
        assert line.above is not None
        assert tree.lines[line.above].depth == line.depth - 1


def test_a_tree_of_a_beam_method() -> None:
    log = [
        proposed(ROOT, "a"),
        proposed(ROOT, "b"),
        proposed(ROOT, None),
        proposed(ROOT, ROOT),
        scored("a", 0.5, 8),
        scored("b", 0.7, 8),
        scored("stranger", 0.7, 8),
        BeamSelected(step=1, candidates=("b", ROOT)),
        proposed("b", "c", 2),
        proposed("c", "a", 2),
        scored("b", 0.6, 20, 2),
        scored("c", None, 0, 2),
    ]
    tree = build_tree(log, sample.SEED, sample.SEED)
    nodes = {node.id: node for node in tree.nodes}
    assert set(nodes) == {"a", "b", "c"}
    assert (nodes["b"].mean, nodes["b"].items, nodes["b"].kept) == (0.6, 20, True)
    assert nodes["a"].parent == ROOT
    assert [line.node.id if line.node else "" for line in tree.lines] == ["", "b"]
    assert [[node.id for node in line.rest] for line in tree.lines] == [["a"], ["c"]]


def test_a_long_line_of_prompts_is_cut_but_ends_with_the_found_one() -> None:
    names = [f"n{number}" for number in range(2000)]
    parents = [ROOT, *names]
    log = [proposed(parent, name) for parent, name in zip(parents, names, strict=False)]
    log_kept = [BeamSelected(step=1, candidates=tuple(names))]
    side = [proposed(ROOT, f"s{number}") for number in range(100)]
    tree = build_tree([*log, *side, *log_kept, BeamSelected(step=2, candidates=("s7",))], sample.SEED, sample.SEED)
    assert len(tree.lines) <= MAX_ROWS + 1
    assert sum(len(line.rest) for line in tree.lines) + len(tree.lines) - 1 == 2100
    assert tree.folded


def test_a_resumed_run_counts_once() -> None:
    best = sample.full().best.prompt
    log = sample.search(best)
    assert gather(sample.full(), [*log[:40], *log]).tree == gather(sample.full(), log).tree


def test_no_events_make_no_tree() -> None:
    assert gather(sample.full()).tree.lines == ()


def test_places_come_from_the_result_or_else_from_marks() -> None:
    assert gather(sample.full()).measured
    span, other = Span(4, 7), Span(9, 12)
    log = [
        StepStarted(branch=0, step=1, parent=ROOT),
        Marked(branch=0, step=1, rendered=render(sample.SEED, [span]), spans=1, tagged_fraction=0.1),
        proposed(ROOT, "a"),
        StepFinished(branch=0, step=1, accepted="a", text="A"),
        Marked(branch=1, step=1, rendered=render(sample.SEED, [span, other]), spans=2, tagged_fraction=0.1),
        proposed(ROOT, "b", branch=1),
        Marked(branch=0, step=2, rendered="<edit>A</edit>", spans=1, tagged_fraction=1.0),
        Marked(branch=0, step=3, rendered="<edit>A", spans=1, tagged_fraction=1.0),
    ]
    facts = gather(sample.full(search=SearchResult()), log)
    assert not facts.measured
    assert [(place.span, place.tried, place.paid) for place in facts.places] == [(span, 2, 1), (other, 1, 0)]


def test_items_are_sorted_by_their_difference() -> None:
    result, rows = sample.full(), sample.rows(6, "word " * 100)
    values = [(0.0, 1.0), (0.2, 0.5), (1.0, 0.0), (0.5, 0.5)]
    seed: dict[str, Scored | Unscored] = {
        r.id: Scored(value=v[0], output="") for r, v in zip(rows, values, strict=False)
    }
    found: dict[str, Scored | Unscored] = {
        r.id: Scored(value=v[1], output="") for r, v in zip(rows, values, strict=False)
    }
    seed["item:4"], found["item:4"] = Unscored(reason="time-out"), Scored(value=1.0, output="")
    items = gather(result, (), {result.seed.prompt: seed, result.best.prompt: found}, rows).items
    assert items is not None
    assert [item.name for item in items.won] == ["item:0", "item:1"]
    assert [item.name for item in items.lost] == ["item:2"]
    assert (items.level, items.missing) == (1, 2)
    assert len(items.won[0].shown) < 250
