"""What the page says, as plain values: a pure function of a result, its events, outcomes and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core.events import Marked, Proposed, RunStarted
from lpo_agent.core.scores import Scored
from lpo_agent.core.text import Span, parse_tags
from lpo_agent.errors import MarkupError
from lpo_agent.report.lineage import Tree, plant
from lpo_agent.report.pieces import Piece, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.messages import Row
    from lpo_agent.core.result import BestResult, RunResult
    from lpo_agent.core.scores import Unscored

    Outcomes = Mapping[str, Mapping[str, Scored | Unscored]]

LONGEST_INPUT: Final = 240
LONGEST_ANSWER: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the seed prompt that was edited ``tried`` times, ``paid`` of them with profit.

    ``gain`` is None where only marks are known, not what each edit changed.
    """

    span: Span
    tried: int
    paid: int
    gain: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """A test item on which the two prompts differ; its long texts are cut."""

    name: str
    shown: str
    target: str
    seed: float
    found: float
    seed_output: str
    found_output: str


@dataclass(frozen=True, slots=True)
class Items:
    """The test items: those won and lost by the found prompt, how many are level, how many lack a score."""

    won: tuple[Item, ...]
    lost: tuple[Item, ...]
    level: int
    missing: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows.

    ``found``: the prompt that the search came up with, under ``found_key`` of the result: the best one, or
    the challenger; None where that is the seed prompt. ``pieces``: how it differs from the seed prompt.
    ``measured``: ``places`` are the result's own ``search.spans``, else they were counted from marks.
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
    """Return the texts whose outcomes the page compares: the seed prompt and the found one."""
    return result.seed.prompt, (result.challenger or result.best).prompt


def gather(
    result: RunResult,
    events: Iterable[Event] = (),
    outcomes: Outcomes | None = None,
    test: Sequence[Row] = (),
) -> Facts:
    """Return the facts of a run.

    ``outcomes``: by prompt and item, for :func:`prompts_compared`; ``test``: the rows of the test split.
    What is missing is left out of the page.
    """
    log = _last_session(events)
    seed, text = prompts_compared(result)
    differs = text != seed
    tree = plant(log, seed, text)
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
    """Return the events since the run last began; a resume replays it from the start."""
    log: list[Event] = []
    for event in events:
        if isinstance(event, RunStarted):
            log = []
        log.append(event)
    return log


def _marked_places(log: Sequence[Event], seed: str, tree: Tree) -> tuple[Place, ...]:
    """Return the places of the seed prompt that were marked, and how often that led to a prompt that was kept."""
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
    """Return how the two prompts did on each test item, None where nothing was scored under both."""
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
        shown=cut(whole, LONGEST_INPUT),
        target=cut(row.target, LONGEST_ANSWER),
        seed=old.value,
        found=new.value,
        seed_output=cut(old.output, LONGEST_ANSWER),
        found_output=cut(new.output, LONGEST_ANSWER),
    )


def _named(variables: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in variables.items())


def cut(text: str, longest: int) -> str:
    """Return the text, or its beginning with a sign that there is more."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()} […]"
