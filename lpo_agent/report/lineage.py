"""Builds the tree of a search from its events: which prompt was made from which, in rows that can be drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lpo_agent.core.events import BeamSelected, CandidateRaced, CandidateScored, Proposed, StepFinished
from lpo_agent.core.text import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lpo_agent.core.events import Event

MAX_DRAWN: Final = 150
"""With more candidates than this, those without a row are only counted."""
MAX_ROWS: Final = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A candidate prompt.

    ``parent``: the id of the prompt that it was made from. ``mean`` and ``parent_mean``: their mean scores on
    the same ``items``. ``fate``: how its scoring ended. ``kept``: it was available as a parent in later steps.
    """

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
    """A row of the drawing.

    ``node``: the prompt, None for the seed prompt. ``depth``: the number of edits from the seed prompt to
    it. ``above``: the number of the parent's row. ``rest``: the prompts made from it, directly or not,
    that have no row. ``found``: it is the prompt that the search found.
    """

    node: Node | None
    depth: int
    above: int | None
    rest: tuple[Node, ...]
    found: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """All candidates of a search, and the rows of the drawing, parents before children."""

    nodes: tuple[Node, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether candidates without a row are counted instead of drawn, because there are too many."""
        return len(self.nodes) > MAX_DRAWN

    @property
    def kept(self) -> frozenset[str]:
        """The ids of the candidates that were available as parents in later steps."""
        return frozenset(node.id for node in self.nodes if node.kept)


def build_tree(events: Iterable[Event], seed: str, found: str) -> Tree:
    """Return the tree of a search; ``seed`` is the text of its root, ``found`` that of the prompt that was found."""
    root, found_id = (Prompt.model_construct(text=text).id for text in (seed, found))
    nodes: dict[str, Node] = {}
    for event in events:
        _apply(nodes, event, root)
    if not nodes:
        return Tree()
    return Tree(tuple(nodes.values()), tuple(_lines(nodes, root, found_id)))


def _apply(nodes: dict[str, Node], event: Event, root: str) -> None:
    """Update the nodes for one event. A prompt that is made more than once keeps its first parent."""
    match event:
        case Proposed(candidate=str(made)):
            _add(nodes, Node(made, event.parent, event.step, event.branch), root)
        case CandidateRaced():
            _add(nodes, Node(event.candidate, event.parent, event.step, event.branch), root)
            _update_raced(nodes, event)
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


def _update_raced(nodes: dict[str, Node], event: CandidateRaced) -> None:
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


def _lines(nodes: Mapping[str, Node], root: str, found_id: str) -> Iterator[Line]:
    """Yield the rows, depth first."""
    shown = _shown(nodes, root, found_id)
    children: dict[str, list[str]] = {}
    rest: dict[str, list[Node]] = {}
    for node in nodes.values():
        if node.id in shown:
            children.setdefault(node.parent, []).append(node.id)
        else:
            rest.setdefault(_nearest_shown(nodes, node, shown), []).append(node)
    stack: list[tuple[str, int, int | None]] = [(root, 0, None)]
    number = 0
    while stack:
        name, depth, above = stack.pop()
        yield Line(nodes.get(name), depth, above, tuple(rest.get(name, ())), name == found_id)
        stack += [(child, depth + 1, number) for child in reversed(children.get(name, []))]
        number += 1


def _shown(nodes: Mapping[str, Node], root: str, found_id: str) -> set[str]:
    """Return the ids of candidates with a row: the found one, those that were kept, and the ancestors of both."""
    candidates = sorted(
        (node for node in nodes.values() if node.kept or node.id == found_id),
        key=lambda node: (node.id != found_id, not node.kept, -(node.mean or 0.0)),
    )
    shown: set[str] = set()
    for node in candidates:
        line = [name for name in _ancestry(nodes, node.id, root) if name not in shown]
        if len(shown) + len(line) <= MAX_ROWS or node.id == found_id:
            shown |= set(line)
    return shown


def _ancestry(nodes: Mapping[str, Node], name: str, root: str) -> Sequence[str]:
    line = []
    while name != root:
        line.append(name)
        name = nodes[name].parent
    return line


def _nearest_shown(nodes: Mapping[str, Node], node: Node, shown: set[str]) -> str:
    name = node.parent
    while name in nodes and name not in shown:
        name = nodes[name].parent
    return name
