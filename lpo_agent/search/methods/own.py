"""A search with a method of the caller: the method returns finalists, and the package chooses, tests and explains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lpo_agent.core.events import PhaseStarted
from lpo_agent.errors import ConfigError, LpoError, leaves
from lpo_agent.search.attribution import explain
from lpo_agent.search.candidates import Candidate
from lpo_agent.search.finalists import Finals
from lpo_agent.search.outcome import score_seed

if TYPE_CHECKING:
    from lpo_agent.search.context import Search
    from lpo_agent.search.methods.base import Method


@dataclass(slots=True)
class OwnSearch:
    """Implements :class:`lpo_agent.search.methods.base.PhasedSearch` around ``method``."""

    method: Method
    context: Search
    finalists: list[Candidate] = field(default_factory=list)

    async def search(self) -> None:
        """Let the method search, and keep its finalists, without the seed prompt."""
        context = self.context
        context.emit(PhaseStarted(phase="search"))
        await score_seed(context.scoring, context.rows, context.outcome, context.emit)
        found = await self._found()
        unique = {each.prompt.text: each for each in reversed(found) if each.prompt.text != context.prompt.text}
        self.finalists = [
            each for each in found if unique.get(each.prompt.text) is each and context.checks.admits(each)
        ]
        context.outcome.candidates = len(self.finalists)

    async def _found(self) -> list[Candidate]:
        """Return what the method finds; raises ConfigError where it has a bug."""
        name = type(self.method).__name__
        try:
            return as_candidates(await self.method.search(self.context), name)
        except Exception as exc:
            if all(isinstance(leaf, LpoError) for leaf in leaves(exc)):
                raise
            bug = next(leaf for leaf in leaves(exc) if not isinstance(leaf, LpoError))
            raise ConfigError(f"method {name} raised {type(bug).__name__}: {bug}") from exc

    async def confirm(self) -> None:
        """Choose the best of the first finalists on the dev rows."""
        context, plan = self.context, self.context.plan
        finals = Finals(context.scoring, context.rows, context.outcome, context.train[: plan.last_rung], context.emit)
        await finals.settle(self.finalists[: plan.finalists])

    async def explain(self) -> None:
        """Measure the worth of each edit of the best prompt, if enough calls are left."""
        await explain(self.context, self.context.train)


def as_candidates(found: Any, name: str) -> list[Candidate]:
    """Check the value that a caller's method returned; raises ConfigError."""
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, Candidate) for each in found):
        raise ConfigError(f"method {name}: search must return a list of Candidate (see Search.edit)")
    return list(found)
