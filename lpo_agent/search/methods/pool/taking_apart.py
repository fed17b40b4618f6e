"""Turns what agents wrote into edits of the seed prompt: texts for marks, instructions, and whole new prompts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lpo_agent.core.editpool import PoolEdit, compatible, compose, fitted, joined
from lpo_agent.core.edits import Edit, carried, edits_between
from lpo_agent.core.influence import instruction_span
from lpo_agent.core.text import Span
from lpo_agent.errors import EditRejected
from lpo_agent.search.methods.pool.operators import first_places

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.messages import Mark
    from lpo_agent.core.text import Prompt

INDUCED: Final = "induced"
REPLACED: Final = 600
"""An induced instruction takes the place of a text with so many characters at most."""
_SENTENCE_END = re.compile(r"[.!?:;]\s|\n")


def groups_of(marks: Sequence[Mark], parent: str, members: Sequence[PoolEdit], name: str) -> list[list[PoolEdit]]:
    """Return the new texts of marks as edits of the seed prompt, in groups to be scored together.

    ``parent``: the text that was marked, made by the edits ``members``. The first group has the first text of each
    mark, as far as these are compatible; then come single edits.
    """
    own = joined(members)
    found = [_edits_of(mark, parent, own, f"{name}.{number}") for number, mark in enumerate(marks)]
    groups: list[list[PoolEdit]] = []
    for turn in range(max(map(len, found), default=0)):
        together: list[PoolEdit] = []
        for each in (edits[turn] for edits in found if turn < len(edits)):
            if compatible(together, each):
                together.append(each)
        groups += [together] if len(together) > 1 else []
        groups += [[edits[turn]] for edits in found if turn < len(edits)]
    return groups


def _edits_of(mark: Mark, text: str, own: Sequence[Edit], group: str) -> list[PoolEdit]:
    """Return one edit for each text of a mark; they say nearly the same, and at most one is in a prompt."""
    source = "written example" if mark.strategy == "example" else mark.strategy or "written"
    found = []
    for option in mark.options:
        try:
            edit = _standing_beside(own, mark.span, option) or carried(own, text, mark.span, option)
        except EditRejected:
            continue
        point = edit.span.start == edit.span.end
        theme = group if len(mark.options) > 1 else ""
        found.append(PoolEdit(edit.span, edit.text, source, theme, edit.text.strip(), stacks=point, alone=group))
    return found


def _standing_beside(own: Sequence[Edit], span: Span, option: str) -> Edit | None:
    """Return an insertion at an end of an earlier insertion as an edit of its own, None if it is none."""
    shift = 0
    for edit in own:
        start = edit.span.start + shift
        shift += len(edit.text) - (edit.span.end - edit.span.start)
        point = edit.span.start == edit.span.end and span.start == span.end
        if point and span.start in {start, start + len(edit.text)}:
            return Edit(edit.span, option)
    return None


def induced_edits(seed: Prompt, text: str) -> list[PoolEdit]:
    """Return the edits that put an instruction in the place of the longest text that may change, or after it."""
    span = instruction_span(seed)
    fits = span is not None and span.end - span.start <= REPLACED
    found = [PoolEdit(span, text, INDUCED, INDUCED, text)] if span is not None and fits else []
    points = [Span(span.end, span.end)] if span is not None else first_places(seed)[:1]
    beside = [PoolEdit(at, fitted(seed.text, at.start, text), INDUCED, INDUCED, text, stacks=True) for at in points]
    return [*found, *beside]


def taken_apart(seed: Prompt, child: Prompt, chosen: EditSet, model: Factorial, source: str) -> list[PoolEdit] | None:
    """Return the edits whose composition is ``child``, those of the set ``chosen`` where they are in it unchanged.

    New ones within one sentence are one edit. None if ``child`` cannot be composed from edits of the seed prompt.
    """
    members: dict[tuple[int, int, str], list[PoolEdit]] = {}
    for one in joined(model.pool[n] for n in chosen):
        members[(*one.span, one.text)] = [model.pool[n] for n in chosen if model.pool[n].span == one.span]
    try:
        found: list[PoolEdit] = []
        for edit in _by_sentence(seed, edits_between(seed, child.text), members):
            new = [PoolEdit(edit.span, edit.text, source, core=edit.text.strip())]
            found += members.get((*edit.span, edit.text), new)
        return found if compose(seed, found).text == child.text else None
    except (EditRejected, ValueError):
        return None


def _by_sentence(seed: Prompt, edits: Sequence[Edit], members: Collection[tuple[int, int, str]]) -> list[Edit]:
    """Join edits with nothing but a part of a sentence between them, apart from those that are known."""
    found: list[Edit] = []
    for edit in edits:
        last = found[-1] if found else None
        if last is None or any((*each.span, each.text) in members for each in (last, edit)):
            found.append(edit)
            continue
        between = Span(last.span.end, edit.span.start)
        fixed = any(between.start < frozen.end and frozen.start < between.end for frozen in seed.frozen_spans())
        if fixed or _SENTENCE_END.search(between.of(seed.text)) or last.text.rstrip(" ").endswith((".", "\n")):
            found.append(edit)
        else:
            found[-1] = Edit(Span(last.span.start, edit.span.end), last.text + between.of(seed.text) + edit.text)
    return found
