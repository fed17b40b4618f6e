"""APE: each new prompt is a paraphrase of its parent (Zhou et al. 2022, arXiv 2211.01910).

Section 3.1: before step 1, instructions are induced from examples. Section 3.3: prompts are paraphrased; the
iterative variant is that of PE2's authors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lpo_agent.search.methods.beam.expanding import Rules

if TYPE_CHECKING:
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.messages import Purpose
    from lpo_agent.search.methods.beam.expanding import Expander, Family
    from lpo_agent.search.methods.beam.proposing import ProposalOutcome, ProposalRequest


class Ape(Rules):
    """Paraphrases, and induced prompts at the start."""

    purpose: ClassVar[Purpose] = "vary"

    def blind(self, options: BeamOptions) -> bool:
        """Return whether proposals are made without looking for wrong answers, as in the paper."""
        return not options.ape_errors

    def induced(self, options: BeamOptions) -> int:
        """Return the number of prompts that are induced from examples before step 1."""
        return options.induce * options.induce_each

    def asked(self, options: BeamOptions, proposals: int, each: int) -> int:
        """Return P * (1 + t); see :mod:`lpo_agent.search.methods.beam.counting`."""
        return proposals * each

    async def propose(
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome], family: Family
    ) -> None:
        """Paraphrase the parent."""
        outcomes.append(await expander.editor.propose(request))
