"""How many calls a host's search makes: the formula, before anything is asked.

With D dev items, c calls to score a row (1; 2 with answer extraction; 1 more with a judge), B the
beam, P the proposals of a parent and S the steps, a host that scores everything on dev makes

    calls = c * (D * K + E) + O

* K prompts are scored: the seed, and s successors of each parent. One parent is expanded in step 1
  and B in each later one, so K <= 1 + s * (1 + B * (S - 1)); APE's induced prompts come on top.
  s = P for APE and PE2; for APO s = P * g * e * (1 + p) + p, at most its ``expansion``, with g
  gradients a critique, e edits a gradient and p paraphrases.
* E rows are looked at for errors: those of a minibatch, or as many as it takes, for each parent.
* O calls go to the optimizer model, for each parent: P * (1 + t) for APE, P * (2 + t) for PE2, and
  P * (1 + g * (1 + t) * (1 + e * p)) + p * (1 + t) for APO, where t is 1 for "think" and for tags
  by a model, else 0.

Malformed replies that are asked for again add to O; duplicates take away from K. The test split
costs 2 * c * T more. In a result, ``search.calls`` = c * ``search.scorings`` + ``search.optimizer_calls``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpo_agent.search.methods.beam.bandits import phase_sizes

if TYPE_CHECKING:
    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.search.plan import Plan


def most_calls(
    host: str, numbers: BeamOptions, plan: Plan, *, tagged: bool, train: int, rows: int, calls_each: int
) -> int:
    """Return the most calls of a search if every reply is usable.

    ``tagged``: a model is asked once more for each proposal, to tag or to think. ``train``: training
    rows; ``rows``: those that selection scores on.
    """
    induced = numbers.induce * numbers.induce_each if host == "ape" else 0
    nodes, calls = 1 + induced, induced
    scorings = rows * nodes if numbers.selection == "all" else rows + _selection(numbers, nodes, rows)
    for _ in range(plan.steps):
        parents = min(numbers.beam, nodes)
        new = parents * successors(host, numbers, plan.proposals)
        calls += parents * asked(host, numbers, plan.proposals, tagged=tagged)
        scorings += parents * _evidence(host, numbers, train)
        scorings += rows * new if numbers.selection == "all" else _selection(numbers, parents + new, rows)
        nodes += new
    return scorings * calls_each + calls


def successors(host: str, numbers: BeamOptions, proposals: int) -> int:
    """Return the most successors of a parent."""
    if host != "apo":
        return proposals
    made = proposals * _gradients(numbers) * numbers.edits * (1 + numbers.paraphrases) + numbers.paraphrases
    return min(made, numbers.expansion) if numbers.expansion else made


def asked(host: str, numbers: BeamOptions, proposals: int, *, tagged: bool) -> int:
    """Return what the optimizer model is asked for one parent."""
    each = 2 if tagged else 1
    if host == "ape":
        return proposals * each
    if host == "pe2":
        return proposals * (1 + each)
    edits = _gradients(numbers) * each * (1 + numbers.edits * numbers.paraphrases)
    return proposals * (1 + edits) + numbers.paraphrases * each


def _gradients(numbers: BeamOptions) -> int:
    return numbers.reasons if numbers.split_reasons else 1


def _evidence(host: str, numbers: BeamOptions, train: int) -> int:
    if host == "ape" and not numbers.ape_errors:
        return 0
    return min(numbers.minibatch, train) if numbers.minibatch else train


def _selection(numbers: BeamOptions, arms: int, rows: int) -> int:
    """Return the most scorings of a selection by parts."""
    if arms <= numbers.beam:
        return 0
    if numbers.selection in {"ucb", "ucb-e"}:
        wanted = numbers.eval_rounds * min(numbers.eval_prompts, arms) * numbers.eval_items
    elif numbers.selection in {"sr", "s-sr"}:
        sizes = phase_sizes(numbers, arms)
        pulled = [arms - n if numbers.selection == "sr" else numbers.eval_prompts for n in range(len(sizes))]
        wanted = sum(size * min(count, arms) for size, count in zip(sizes, pulled, strict=True))
    else:
        wanted = max(numbers.eval_budget, arms)
    return min(wanted, arms * rows)
