"""APO, also called ProTeGi: textual gradients and paraphrases (Pryzant et al. 2023, arXiv 2305.03495).

Section 2.1: reasons why the parent fails ("gradients"), and new prompts that follow each of them. Section 2.2: the
new prompts and the parent are paraphrased (Monte Carlo successors).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lpo_agent.core.messages import Critique
from lpo_agent.search.methods.beam.expanding import NOTHING, Rules, once
from lpo_agent.search.scoring import together

if TYPE_CHECKING:
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.search.methods.beam.expanding import Expander, Family
    from lpo_agent.search.methods.beam.proposing import ProposalOutcome, ProposalRequest


class Apo(Rules):
    """Gradients, edits along each of them, and paraphrases."""

    def successors(self, options: BeamOptions, proposals: int) -> int:
        """Return P * g * e * (1 + p) + p, but at most ``expansion``."""
        made = proposals * _gradients(options) * options.edits * (1 + options.paraphrases) + options.paraphrases
        return min(made, options.expansion) if options.expansion else made

    def asked(self, options: BeamOptions, proposals: int, each: int) -> int:
        """Return P * (1 + g * (1 + t) * (1 + e * p)) + p * (1 + t)."""
        edits = _gradients(options) * each * (1 + options.edits * options.paraphrases)
        return proposals * (1 + edits) + options.paraphrases * each

    async def propose(
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome], family: Family
    ) -> None:
        """Ask for reasons, and follow each of them."""
        criticized = await expander.criticize(request, outcomes, family)
        if criticized is None:
            return
        critique = criticized.critique
        gradients = critique.reasons if request.options.split_reasons else (critique.text,)
        each: list[list[ProposalOutcome]] = [[] for _ in gradients]
        await together(
            partial(
                self._follow,
                expander,
                replace(
                    criticized,
                    critique=Critique(text=gradient),
                    n=request.options.edits,
                    seed=expander.seed_for(request, f"{number}.{n}"),
                    tagged=once(criticized.tagged, first=n == 0),
                ),
                each[n],
                n,
            )
            for n, gradient in enumerate(gradients)
        )
        outcomes += [outcome for found in each for outcome in found]

    async def _follow(
        self, expander: Expander, request: ProposalRequest, outcomes: list[ProposalOutcome], number: int
    ) -> None:
        """Write new prompts for one gradient, then paraphrase each of them."""
        outcomes.append(await expander.editor.propose(request))
        more: list[list[ProposalOutcome]] = [[] for _ in outcomes[0].candidates]
        await together(
            partial(self.vary, expander, replace(request, parent=child, tagged=None), f"{number}.{n}", more[n])
            for n, child in enumerate(outcomes[0].candidates)
        )
        outcomes += [outcome for found in more for outcome in found]

    async def vary(
        self, expander: Expander, request: ProposalRequest, number: str, outcomes: list[ProposalOutcome]
    ) -> None:
        """Paraphrase the parent."""
        found: list[list[ProposalOutcome]] = [[] for _ in range(request.options.paraphrases)]

        async def one(copy: int) -> None:
            seed = expander.seed_for(request, f"{number}.{request.seed}.vary.{copy}")
            blank = replace(request, purpose="vary", critique=NOTHING, failures=(), n=1, seed=seed)
            found[copy].append(await expander.editor.propose(replace(blank, tagged=once(request.tagged, first=False))))

        await together(partial(one, copy) for copy in range(request.options.paraphrases))
        outcomes += [outcome for made in found for outcome in made]


def _gradients(options: BeamOptions) -> int:
    return options.reasons if options.split_reasons else 1
