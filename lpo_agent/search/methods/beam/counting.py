"""Computes the highest number of model calls of a beam method, before the search.

Let D be the number of dev items, c the calls to score a row (1; 2 with answer extraction; 1 more with a judge),
B the size of the beam, P the proposals for each parent and S the steps. A method that scores all prompts on dev
makes

    calls = c * (D * K + E) + O

* K: the number of scored prompts, which are the seed and s successors of each parent. One parent is expanded in
  step 1 and at most B in each later step, so K <= 1 + s * (1 + B * (S - 1)), plus APE's induced prompts.
  s = P for APE and PE2. For APO, s = P * g * e * (1 + p) + p, but at most ``expansion``, with g gradients for
  each critique, e edits for each gradient and p paraphrases.
* E: the number of training rows that are scored to find errors, for each parent: those of a minibatch, or as
  many as are needed.
* O: the calls of the optimizer model. For each parent they are P * (1 + t) for APE, P * (2 + t) for PE2, and
  P * (1 + g * (1 + t) * (1 + e * p)) + p * (1 + t) for APO, where t is 1 for "think" and for tags by a model,
  otherwise 0.

Repeated questions after malformed replies increase O, duplicate prompts decrease K. With T test items, the test
takes 2 * c * T calls more. In a result, ``search.calls`` = c * ``search.scorings`` + ``search.optimizer_calls``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.search.methods.beam.bandits import phase_sizes

if TYPE_CHECKING:
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.search.methods.beam.expanding import Rules
    from lpo_agent.search.plan import Plan


def most_calls(
    rules: Rules, options: BeamOptions, plan: Plan, *, tagged: bool, train: int, rows: int, calls_each: int
) -> int:
    """Return the highest number of calls of a search in which all replies are usable.

    ``tagged``: whether a model is called once more for each proposal, to tag or to think. ``train``: number of
    training rows; ``rows``: number of rows that selection scores on; ``calls_each``: calls to score one row.
    """
    induced = rules.induced(options)
    nodes, calls = 1 + induced, induced
    scorings = rows * nodes if options.selection == "all" else rows + _selection(options, nodes, rows)
    for _ in range(plan.steps):
        parents = min(options.beam, nodes)
        new = parents * rules.successors(options, plan.proposals)
        calls += parents * rules.asked(options, plan.proposals, 2 if tagged else 1)
        scorings += parents * _evidence(rules, options, train)
        scorings += rows * new if options.selection == "all" else _selection(options, parents + new, rows)
        nodes += new
    return scorings * calls_each + calls


def _evidence(rules: Rules, options: BeamOptions, train: int) -> int:
    if rules.blind(options):
        return 0
    return min(options.minibatch, train) if options.minibatch else train


def _selection(options: BeamOptions, arms: int, rows: int) -> int:
    """Return the highest number of scorings in a selection that does not score all arms on all rows."""
    if arms <= options.beam:
        return 0
    if options.selection in {"ucb", "ucb-e"}:
        wanted = options.eval_rounds * min(options.eval_prompts, arms) * options.eval_items
    elif options.selection in {"sr", "s-sr"}:
        sizes = phase_sizes(options, arms)
        pulled = [arms - n if options.selection == "sr" else options.eval_prompts for n in range(len(sizes))]
        wanted = sum(size * min(count, arms) for size, count in zip(sizes, pulled, strict=True))
    else:
        wanted = max(options.eval_budget, arms)
    return min(wanted, arms * rows)
