"""The two quick edits that a search tries first, and that `lpo headroom` measures: the answer's form, and examples."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from lpo_agent.core.fragments import fragments_of
from lpo_agent.search.candidates import seed_of
from lpo_agent.search.methods.pool import operators

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.editpool import PoolEdit
    from lpo_agent.core.messages import Row
    from lpo_agent.core.task_facts import TaskFacts
    from lpo_agent.core.text import Prompt


class QuickEdit(NamedTuple):
    """An edit and what it does."""

    name: str
    edit: PoolEdit


def quick_edits(prompt: Prompt, facts: TaskFacts, shown: Sequence[Row], demos: int, seed: int) -> list[QuickEdit]:
    """Return the edits that are possible: one says the form of the answers, one shows two (or one) of ``shown``."""
    form = _form(facts)
    found = [
        QuickEdit("says the form of the answer", each)
        for each in operators.insertions(prompt, facts, 1)
        if each.core == form
    ]
    examples = operators.demonstrations(prompt, shown, demos, operators_rng(seed))
    return [*found[:1], *(QuickEdit("shows examples", each) for each in examples[:1])]


def operators_rng(seed: int) -> random.Random:
    """Return the random source of a search's operators."""
    return random.Random(seed_of(seed, "operators"))


def _form(facts: TaskFacts) -> str:
    """Return the instruction that says the form most exactly: the labels, or else the answer only."""
    themes = ("labels", "only") if facts.labels else ("only",)
    fragments = fragments_of(facts)
    return next(each.text for theme in themes for each in fragments if each.theme == theme)
