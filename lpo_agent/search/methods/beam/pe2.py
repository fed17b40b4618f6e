"""PE2: each new prompt follows from reasoning about a sample of wrong answers (Ye et al. 2024, arXiv 2311.05661)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.search.methods.beam.expanding import Rules

if TYPE_CHECKING:
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.search.methods.beam.expanding import Expander, Family
    from lpo_agent.search.methods.beam.proposing import ProposalOutcome, ProposalRequest


class Pe2(Rules):
    """Reasoned edits (section 4)."""

    def asked(self, options: BeamOptions, proposals: int, each: int) -> int:
        """Return P * (2 + t); see :mod:`lpo_agent.search.methods.beam.counting`."""
        return proposals * (1 + each)

    async def propose(
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome], family: Family
    ) -> None:
        """Reason about the wrong answers, then write a new prompt."""
        reasoned = await expander.criticize(request, outcomes, family)
        if reasoned is not None:
            outcomes.append(await expander.editor.propose(reasoned))
