"""The prompts of sets of edits, and which of them may be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lpo_agent.core.editpool import compose
from lpo_agent.errors import EditRejected

if TYPE_CHECKING:
    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.guards import Guards
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.methods.pool.telling import Teller

SEED: Final[EditSet] = frozenset()


@dataclass(slots=True)
class SetPrompts:
    """The prompts that sets of edits of ``model`` make of a ``seed`` prompt.

    ``shown``: the blocks of rows that may be demonstrations, which the guards allow in a prompt.
    """

    seed: Prompt
    model: Factorial
    guards: Guards
    shown: frozenset[str]
    teller: Teller
    _known: dict[EditSet, Prompt | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The seed prompt may always be used."""
        self._known[SEED] = self.seed

    def of(self, chosen: EditSet) -> Prompt:
        """Return the prompt of a set that was admitted, the seed prompt for any other."""
        return self._known.get(chosen) or self.seed

    def admitted(self, chosen: EditSet, step: int) -> Prompt | None:
        """Return the prompt of a set, None if it may not be used; what became of it is told once."""
        if chosen not in self._known:
            prompt, lost = self._composed(chosen)
            self.teller.proposed(step, prompt, lost)
            self._known[chosen] = None if lost else prompt
        return self._known[chosen]

    def _composed(self, chosen: EditSet) -> tuple[Prompt | None, str | None]:
        """Return the prompt of a set, or why it may not be used."""
        try:
            prompt = compose(self.seed, [self.model.pool[n] for n in chosen])
        except EditRejected as exc:
            return None, str(exc)
        if not prompt.text.strip():
            return None, "the prompt would be empty"
        return prompt, self.guards.refuse(prompt.text, self.shown)
