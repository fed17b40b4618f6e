"""The posterior over edits: Bayesian linear regression on scores of items, with an effect of each item.

A score is modelled as ``item effect + sum of the effects of the terms that the prompt holds + noise``. Terms are edits,
their texts (one text at two places has a common part), pairs of edits that were used together often, and whole prompts
that were scored often. So each scored item informs every edit of its prompt, as in a factorial experiment (Fisher 1935;
Box, Hunter and Hunter 2005, chapter 5), and two prompts that were scored on the same item are compared pair by pair:
the item effects are integrated out (a mixed model: Henderson 1975). Draws from the posterior decide what is scored next
(Thompson 1933; linear Thompson sampling: Agrawal and Goyal 2013). Pure mathematics in plain Python, made for up to some
120 terms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Mapping, Sequence

Term = tuple[object, ...]
"""The name of a term of the model; terms are compared by value only."""

NOISE: Final = 0.10
"""The variance of a score around its item's effect, before any is known; that of 0/1 scores that often agree."""
SPREAD: Final = 0.12
"""The variance of the effects of items, before any is known."""
CERTAIN_OF_NOISE: Final = 30
"""How many scores the two variances above count for."""
LEAST: Final = 0.01
"""Neither variance is taken to be smaller."""
LEVEL: Final = (0.5, 0.25)
"""Mean and variance of the seed prompt's expected score, before any is known."""


class Prior(NamedTuple):
    """The normal distribution of a term's effect before any score is known."""

    mean: float
    variance: float


class Observation(NamedTuple):
    """A score of an item with a prompt that holds ``terms``; ``weight``: how much it counts (1: in full)."""

    terms: tuple[Term, ...]
    item: str
    score: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Variances:
    """The variance of the noise, and that of the effects of items."""

    noise: float = NOISE
    items: float = SPREAD


@dataclass(frozen=True, slots=True)
class Posterior:
    """A joint normal distribution of the effects of ``terms``.

    ``factor``: the lower triangular Cholesky factor of the precision matrix. Terms that were never observed are
    independent of the others and have their prior, from ``priors``.
    """

    terms: Mapping[Term, int]
    means: Sequence[float]
    factor: Sequence[Sequence[float]]
    level: float
    variances: Variances
    priors: Mapping[Term, Prior] = field(default_factory=dict)

    def mean(self, terms: Collection[Term]) -> float:
        """Return the expected sum of the effects of these terms; terms without prior and scores count as 0."""
        return math.fsum(self._mean(term) for term in terms)

    def _mean(self, term: Term) -> float:
        at = self.terms.get(term)
        if at is not None:
            return self.means[at]
        return self.priors[term].mean if term in self.priors else 0.0

    def variance(self, contrast: Mapping[Term, float]) -> float:
        """Return the variance of a weighted sum of effects, such as the difference of two prompts."""
        vector = [0.0] * len(self.means)
        apart = 0.0
        for term, weight in contrast.items():
            at = self.terms.get(term)
            if at is not None:
                vector[at] += weight
            elif term in self.priors:
                apart += weight * weight * self.priors[term].variance
        half = forward(self.factor, vector)
        return math.fsum(each * each for each in half) + apart

    def spread(self) -> dict[Term, float]:
        """Return the variance of the effect of each observed term."""
        size = len(self.means)
        found = [0.0] * size
        for at in range(size):
            column: list[float] = [1.0 / self.factor[at][at]]
            for row in self.factor[at + 1 :]:
                column.append(-sum(map(mul, row[at:-1], column)) / row[-1])
            found[at] = math.fsum(each * each for each in column)
        return {term: found[at] for term, at in self.terms.items()}

    def clustered(self, contrast: Mapping[Term, float], observations: Sequence[Observation]) -> float:
        """Return the variance of a weighted sum of effects as the scatter between items shows it.

        An edit helps with some items and not with others, so many scores of one item tell less than as many items.
        This is the variance that is robust to clusters (Liang and Zeger 1986), with the prior's part added.
        """
        vector = [0.0] * len(self.means)
        for term, weight in contrast.items():
            if term in self.terms:
                vector[self.terms[term]] += weight
        pull = backward(self.factor, forward(self.factor, vector))
        held = [Prior(*LEVEL), *(self.priors[term] for term in self.terms)]
        found = math.fsum(each * each / prior.variance for each, prior in zip(pull, held, strict=True))
        groups = _by_item(observations)
        for group in groups.values():
            found += self._moved(group, pull) ** 2 * len(groups) / max(1, len(groups) - 1)
        unseen = ((t, w) for t, w in contrast.items() if t not in self.terms and t in self.priors)
        return found + math.fsum(weight * weight * self.priors[term].variance for term, weight in unseen)

    def _moved(self, group: Sequence[Observation], pull: Sequence[float]) -> float:
        """Return by how much the scores of one item moved an estimate; ``pull``: what moves it by one."""
        rest = [each.score - self.level - self.mean(each.terms) for each in group]
        pulls = [pull[0] + math.fsum(pull[self.terms[t]] for t in each.terms if t in self.terms) for each in group]
        total = math.fsum(each.weight for each in group)
        weighted = math.fsum(each.weight * r for each, r in zip(group, rest, strict=True))
        own = weighted * self.variances.items / (self.variances.noise + total * self.variances.items)
        moved = (each.weight * (r - own) * p for each, r, p in zip(group, rest, pulls, strict=True))
        return math.fsum(moved) / self.variances.noise

    def interval(self, term: Term, z: float = 1.6448536269514722) -> tuple[float, float]:
        """Return the central interval of a term's effect; its default covers 90 %."""
        centre, half = self._mean(term), z * math.sqrt(self.variance({term: 1.0}))
        return centre - half, centre + half

    def draw(self, rng: random.Random, scale: float = 1.0) -> dict[Term, float]:
        """Draw all effects from the posterior; ``scale`` multiplies the standard deviations."""
        normal = [rng.gauss(0.0, scale) for _ in self.means]
        shift = backward(self.factor, normal)
        found = {term: self.means[at] + shift[at] for term, at in self.terms.items()}
        for term, prior in self.priors.items():
            if term not in found:
                found[term] = rng.gauss(prior.mean, scale * math.sqrt(prior.variance))
        return found


def fit(observations: Sequence[Observation], priors: Mapping[Term, Prior], variances: Variances) -> Posterior:
    """Return the posterior of all terms with a prior, given the observations; other terms are left out."""
    seen = dict.fromkeys(t for each in observations for t in each.terms if t in priors)
    terms = {term: number for number, term in enumerate(seen, start=1)}
    size = len(terms) + 1
    precision = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for at, prior in enumerate([Prior(*LEVEL), *(priors[term] for term in terms)]):
        precision[at][at] = 1.0 / prior.variance
        right[at] = prior.mean / prior.variance
    _add_scores(precision, right, observations, terms, variances.noise)
    _take_off_items(precision, right, observations, terms, variances)
    factor = cholesky(precision)
    means = backward(factor, forward(factor, right))
    return Posterior(terms, means, factor, means[0], variances, priors)


def _by_item(observations: Sequence[Observation]) -> dict[str, list[Observation]]:
    groups: dict[str, list[Observation]] = {}
    for each in observations:
        groups.setdefault(each.item, []).append(each)
    return groups


def _add_scores(
    precision: list[list[float]],
    right: list[float],
    observations: Sequence[Observation],
    terms: Mapping[Term, int],
    noise: float,
) -> None:
    """Add the scores, as if items had no effects; scores of one prompt are added up first."""
    sums: dict[tuple[tuple[Term, ...], float], list[float]] = {}
    for each in observations:
        total = sums.setdefault((each.terms, each.weight), [0.0, 0.0])
        total[0] += each.weight / noise
        total[1] += each.weight * each.score / noise
    for (held, _), (weight, scored) in sums.items():
        row = [0, *(terms[t] for t in held if t in terms)]
        for one in row:
            right[one] += scored
            line = precision[one]
            for other in row:
                line[other] += weight


def _take_off_items(
    precision: list[list[float]],
    right: list[float],
    observations: Sequence[Observation],
    terms: Mapping[Term, int],
    variances: Variances,
) -> None:
    """Integrate the items' effects out (by the Sherman-Morrison formula for each item)."""
    groups = list(_by_item(observations).values())
    columns = [[0.0] * len(groups) for _ in right]
    scored = []
    for number, group in enumerate(groups):
        total = math.fsum(each.weight for each in group)
        scale = math.sqrt(variances.items / (variances.noise + total * variances.items) / variances.noise)
        scored.append(scale * math.fsum(each.weight * each.score for each in group))
        columns[0][number] = scale * total
        for each in group:
            pull = scale * each.weight
            for term in each.terms:
                if term in terms:
                    columns[terms[term]][number] += pull
    for one, column in enumerate(columns):
        right[one] -= sum(map(mul, column, scored))
        line = precision[one]
        for other in range(one + 1):
            line[other] -= sum(map(mul, column, columns[other]))


def variances_of(observations: Sequence[Observation], posterior: Posterior) -> Variances:
    """Return the variances of noise and of items that the residuals of a fit show, shrunk to the assumed ones."""
    within = between = 0.0
    free, groups = 0, _by_item(observations)
    for group in groups.values():
        rest = [o.score - posterior.level - posterior.mean(o.terms) for o in group]
        centre = math.fsum(rest) / len(rest)
        within += math.fsum((each - centre) ** 2 for each in rest)
        free += len(rest) - 1
        between += centre * centre - (posterior.variances.noise / len(rest))
    noise = (CERTAIN_OF_NOISE * NOISE + within) / (CERTAIN_OF_NOISE + free)
    items = (CERTAIN_OF_NOISE * SPREAD + between) / (CERTAIN_OF_NOISE + len(groups))
    return Variances(max(LEAST, noise), max(LEAST, items))


def cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the rows of the lower triangular factor of a positive definite matrix, each up to its diagonal."""
    factor: list[list[float]] = []
    for i, line in enumerate(matrix):
        row: list[float] = []
        for j in range(i):
            other = factor[j]
            row.append((line[j] - sum(map(mul, row, other))) / other[j])
        row.append(math.sqrt(max(1e-12, line[i] - sum(map(mul, row, row)))))
        factor.append(row)
    return factor


def forward(factor: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve ``L x = right`` for a lower triangular ``L``."""
    found: list[float] = []
    for row, value in zip(factor, right, strict=True):
        found.append((value - sum(map(mul, row, found))) / row[-1])
    return found


def backward(factor: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solve ``L' x = right`` for the transpose of a lower triangular ``L``."""
    found = list(right)
    for at in range(len(found) - 1, -1, -1):
        row = factor[at]
        found[at] /= row[at]
        value = found[at]
        for earlier in range(at):
            found[earlier] -= row[earlier] * value
    return found
