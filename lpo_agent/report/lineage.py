"""Which prompt came from which: the tree of a search, in rows that can be drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lpo_agent.core.events import BeamSelected, CandidateRaced, CandidateScored, Proposed, StepFinished
from lpo_agent.core.text import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lpo_agent.core.events import Event

MOST_DOTS: Final = 150
"""Candidates up to which each is drawn; of more, those that led nowhere are counted."""
MOST_ROWS: Final = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A candidate. ``kept``: the search went on with it, or could have. ``fate``: how its scoring ended."""

    id: str
    parent: str
    step: int
    branch: int
    mean: float | None = None
    parent_mean: float | None = None
    items: int = 0
    fate: str = "not scored"
    kept: bool = False
    text: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the drawing: a prompt, and those made from it that have no row (``rest``).

    ``node`` is None for the seed prompt, ``above`` the row of the parent, ``depth`` that many edits away
    from the seed prompt; ``found``: this is what the search came up with.
    """

    node: Node | None
    depth: int
    above: int | None
    rest: tuple[Node, ...]
    found: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """The search's candidates, and the rows of the drawing, parents before their children."""

    nodes: tuple[Node, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether there are too many candidates to draw each."""
        return len(self.nodes) > MOST_DOTS

    @property
    def kept(self) -> frozenset[str]:
        """The ids of candidates that the search went on with."""
        return frozenset(node.id for node in self.nodes if node.kept)


def plant(events: Iterable[Event], seed: str, found: str) -> Tree:
    """Return the tree that the events tell of; ``seed`` and ``found`` are the texts of its root and its fruit."""
    root, fruit = (Prompt.model_construct(text=text).id for text in (seed, found))
    nodes: dict[str, Node] = {}
    for event in events:
        _grow(nodes, event, root)
    if not nodes:
        return Tree()
    return Tree(tuple(nodes.values()), tuple(_lines(nodes, root, fruit)))


def _grow(nodes: dict[str, Node], event: Event, root: str) -> None:
    """Take an event in. A prompt that is made twice stays where it was made first."""
    match event:
        case Proposed(candidate=str(made)):
            _add(nodes, Node(made, event.parent, event.step, event.branch), root)
        case CandidateRaced():
            _add(nodes, Node(event.candidate, event.parent, event.step, event.branch), root)
            _race(nodes, event)
        case CandidateScored() if event.candidate in nodes and event.items >= nodes[event.candidate].items:
            node = nodes[event.candidate]
            nodes[node.id] = replace(node, mean=event.mean, items=event.items, fate="scored")
        case BeamSelected():
            for name in event.candidates:
                if name in nodes:
                    nodes[name] = replace(nodes[name], kept=True)
        case StepFinished(accepted=str(name), text=str(text)) if name in nodes:
            nodes[name] = replace(nodes[name], kept=True, text=text)


def _add(nodes: dict[str, Node], node: Node, root: str) -> None:
    if node.id != root and node.id not in nodes:
        nodes[node.id] = node if node.parent in nodes else replace(node, parent=root)


def _race(nodes: dict[str, Node], event: CandidateRaced) -> None:
    node = nodes.get(event.candidate)
    if node is None or (node.kept and not event.survived):
        return
    nodes[node.id] = replace(
        node,
        mean=event.mean if event.items else None,
        parent_mean=event.parent_mean if event.items else None,
        items=event.items,
        fate=event.fate,
        kept=node.kept or event.survived,
        text=event.text,
        note=event.note,
    )


def _lines(nodes: Mapping[str, Node], root: str, fruit: str) -> Iterator[Line]:
    shown = _shown(nodes, root, fruit)
    below: dict[str, list[str]] = {}
    rest: dict[str, list[Node]] = {}
    for node in nodes.values():
        if node.id in shown:
            below.setdefault(node.parent, []).append(node.id)
        else:
            rest.setdefault(_nearest(nodes, node, shown), []).append(node)
    stack: list[tuple[str, int, int | None]] = [(root, 0, None)]
    number = 0
    while stack:
        name, depth, above = stack.pop()
        yield Line(nodes.get(name), depth, above, tuple(rest.get(name, ())), name == fruit)
        stack += [(child, depth + 1, number) for child in reversed(below.get(name, []))]
        number += 1


def _shown(nodes: Mapping[str, Node], root: str, fruit: str) -> set[str]:
    """Return the candidates with a row: the found one, those that were kept, and what they came from."""
    worth = sorted(
        (node for node in nodes.values() if node.kept or node.id == fruit),
        key=lambda node: (node.id != fruit, not node.kept, -(node.mean or 0.0)),
    )
    shown: set[str] = set()
    for node in worth:
        line = [name for name in _ancestry(nodes, node.id, root) if name not in shown]
        if len(shown) + len(line) <= MOST_ROWS or node.id == fruit:
            shown |= set(line)
    return shown


def _ancestry(nodes: Mapping[str, Node], name: str, root: str) -> Sequence[str]:
    line = []
    while name != root:
        line.append(name)
        name = nodes[name].parent
    return line


def _nearest(nodes: Mapping[str, Node], node: Node, shown: set[str]) -> str:
    name = node.parent
    while name in nodes and name not in shown:
        name = nodes[name].parent
    return name
