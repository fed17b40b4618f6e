"""Collects what the report shows, as plain values, from a run's result, events, outcomes and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core.events import Marked, Proposed, RunStarted
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import Span, parse_tags
from lpo_agent.errors import MarkupError
from lpo_agent.report.lineage import Tree, build_tree
from lpo_agent.report.pieces import Piece, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.result import BestResult, RunResult
    from lpo_agent.core.scores import Unscored

    Outcomes = Mapping[str, Mapping[str, Scored | Unscored]]

MAX_INPUT: Final = 240
"""Characters of an item's input that are shown."""
MAX_ANSWER: Final = 100
"""Characters of a target or an output that are shown."""


@dataclass(frozen=True, slots=True)
class Place:
    """A span of the seed prompt that was edited ``tried`` times; ``paid`` of these edits improved the score.

    ``gain``: the mean change of the score, None if only the marks are known and not the edits.
    """

    span: Span
    tried: int
    paid: int
    gain: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """A test item on which the two prompts have different scores; ``seed`` and ``found`` are these. Texts are cut."""

    name: str
    shown: str
    target: str
    seed: float
    found: float
    seed_output: str
    found_output: str


@dataclass(frozen=True, slots=True)
class Items:
    """The comparison on test items.

    ``won``: the found prompt has the higher score; ``lost``: the seed prompt has. ``level``: the number
    of items with equal scores. ``missing``: the number of items that lack a score under one of them.
    """

    won: tuple[Item, ...]
    lost: tuple[Item, ...]
    level: int
    missing: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the report shows.

    ``found``: the prompt that the search found, None if that is the seed prompt. ``found_key``: its field
    in the result, "best" or "challenger". ``pieces``: how it differs from the seed prompt. ``measured``:
    whether ``places`` are the result's ``search.spans``; otherwise they are counted from the marks.
    """

    result: RunResult
    started: RunStarted | None
    found: BestResult | None
    found_key: str
    pieces: tuple[Piece, ...]
    places: tuple[Place, ...]
    measured: bool
    tree: Tree
    items: Items | None


def prompts_compared(result: RunResult) -> tuple[str, str]:
    """Return the texts of the two prompts that the report compares: the seed prompt and the found one."""
    return result.seed.prompt, (result.challenger or result.best).prompt


def gather(
    result: RunResult,
    events: Iterable[Event] = (),
    outcomes: Outcomes | None = None,
    test: Sequence[Row] = (),
) -> Facts:
    """Return the facts of a run.

    ``outcomes``: by text of the prompt and id of the item, for :func:`prompts_compared`. ``test``: the
    rows of the test split. Without events, outcomes or rows, the report lacks the sections made from them.
    """
    log = _last_session(events)
    seed, text = prompts_compared(result)
    differs = text != seed
    tree = build_tree(log, seed, text)
    spans = result.search.spans
    known = tuple(Place(Span(each.start, each.end), each.tried, each.paid, each.gain) for each in spans)
    found = (result.challenger or result.best) if differs else None
    compared = outcomes or {}
    return Facts(
        result=result,
        started=next((event for event in log if isinstance(event, RunStarted)), None),
        found=found,
        found_key="best" if result.challenger is None else "challenger",
        pieces=pieces_of(seed, text, found.edits) if found is not None else (),
        places=known or _marked_places(log, seed, tree),
        measured=bool(known),
        tree=tree,
        items=_items(compared.get(seed, {}), compared.get(text, {}), test) if differs else None,
    )


def _last_session(events: Iterable[Event]) -> list[Event]:
    """Return the events since the run was last started or resumed; resuming repeats all earlier events."""
    log: list[Event] = []
    for event in events:
        if isinstance(event, RunStarted):
            log = []
        log.append(event)
    return log


def _marked_places(log: Sequence[Event], seed: str, tree: Tree) -> tuple[Place, ...]:
    """Return the spans of the seed prompt that were marked, and how often this led to a prompt that was kept."""
    kept = {(event.branch, event.step) for event in log if isinstance(event, Proposed) and event.candidate in tree.kept}
    kept |= {(node.branch, node.step) for node in tree.nodes if node.kept}
    tally: dict[Span, list[bool]] = {}
    for event in log:
        if not isinstance(event, Marked):
            continue
        try:
            plain, spans = parse_tags(event.rendered)
        except MarkupError:
            continue
        if plain == seed:
            for span in spans["edit"]:
                tally.setdefault(span, []).append((event.branch, event.step) in kept)
    return tuple(Place(span, len(paid), sum(paid), None) for span, paid in sorted(tally.items()))


def _items(
    seed: Mapping[str, Scored | Unscored], found: Mapping[str, Scored | Unscored], test: Sequence[Row]
) -> Items | None:
    """Return the comparison on test items, None if no item was scored under both prompts."""
    pairs = [(row, seed.get(row.id), found.get(row.id)) for row in test]
    both = [_item(row, old, new) for row, old, new in pairs if isinstance(old, Scored) and isinstance(new, Scored)]
    if not both:
        return None
    won = sorted((item for item in both if item.found > item.seed), key=lambda item: item.seed - item.found)
    lost = sorted((item for item in both if item.found < item.seed), key=lambda item: item.found - item.seed)
    level = len(both) - len(won) - len(lost)
    return Items(tuple(won), tuple(lost), level, len(test) - len(both))


def _item(row: Row, old: Scored, new: Scored) -> Item:
    whole = "\n".join(row.variables.values()) if len(row.variables) == 1 else _named(row.variables)
    return Item(
        name=row.id,
        shown=cut(whole, MAX_INPUT),
        target=cut(row.target, MAX_ANSWER),
        seed=old.value,
        found=new.value,
        seed_output=cut(old.output, MAX_ANSWER),
        found_output=cut(new.output, MAX_ANSWER),
    )


def _named(variables: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in variables.items())


def cut(text: str, length: int) -> str:
    """Return the text, or its first ``length`` characters followed by "[…]" if it is longer."""
    return text if len(text) <= length else f"{text[:length].rstrip()} […]"
