"""What a search over a pool of edits knows, and what it scores next; pure, without I/O.

The search is a sequential factorial experiment. A set of edits is a prompt; each score of an item is an observation of
all its edits (:mod:`lpo_agent.core.posterior`). Sets are drawn by Thompson sampling (Thompson 1933): effects are drawn
from the posterior, and the best compatible set under the draw is scored next. The incumbent is the set with the best
posterior mean among those that were scored as a whole; observations of sets near it weigh more, so effects are those
around the incumbent, where gains may have saturated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from lpo_agent.core.editpool import PoolEdit, compatible
from lpo_agent.core.posterior import Observation, Posterior, Prior, Term, Variances, fit, variances_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

EditSet = frozenset[int]
"""Numbers of edits in the pool; the empty set is the seed prompt."""

EDIT: Final = Prior(-0.005, 0.05**2)
TEXT: Final = Prior(-0.005, 0.08**2)
THEME: Final = Prior(0.0, 0.10**2)
PACKAGE: Final = Prior(0.0, 0.06**2)
"""Prior of what a pair of edits, or a whole prompt, adds to the sum of its edits."""
GROUPS: Final = {"edit": "single", "text": "single", "theme": "single", "pair": "package", "set": "package"}
"""Terms whose variances are estimated together."""
PRIORS: Final[Mapping[str, Prior]] = {"edit": EDIT, "text": TEXT, "theme": THEME, "pair": PACKAGE, "set": PACKAGE}
OFTEN: Final = 3
"""Scores of a whole prompt from which on it has a term of its own."""
ASSUMED: Final = 10
"""Edits for which the assumed mean of a source's edits counts."""
MARGIN: Final = 0.01
"""What an edit must be worth, so that edits without effect do not pile up, in points of score."""
CAUTION: Final = 0.7
"""By how many standard deviations the best guess takes each edit to be worse than it seems."""
WORD: Final = 0.0002
"""What a word must be worth: the cost of a longer prompt, in points of score."""
MOST_PACKAGES: Final = 12
"""Whole prompts, and also pairs of edits, that have a term of their own at most."""
TOGETHER: Final = 6
"""Scores of two edits together from which on the pair has a term of its own."""
RENEWED: Final = 1.2
"""The variances of effects are estimated anew when there are this many times more scores."""
KNOWN: Final = 12
"""Effects for which the assumed variances of effects count."""
NEAR: Final = 3
"""Edits by which a set must differ from the incumbent for its scores to count half."""


@dataclass(slots=True)
class Factorial:
    """The pool, the scores, and the posterior. ``scores``: by set, then by item, in the order they were asked."""

    pool: list[PoolEdit] = field(default_factory=list)
    scores: dict[EditSet, dict[str, float]] = field(default_factory=dict)
    incumbent: EditSet = frozenset()
    posterior: Posterior = field(default_factory=lambda: fit([], {}, Variances()))
    _variances: Variances = field(default_factory=Variances)
    _sets: list[EditSet] = field(default_factory=list)
    _pairs: dict[EditSet, Term] = field(default_factory=dict)
    _scales: dict[str, float] = field(default_factory=dict)
    _renewed_at: int = 12
    _observations: list[Observation] = field(default_factory=list)

    def add(self, edits: Sequence[PoolEdit]) -> int:
        """Add edits to the pool, each once; return how many were new."""
        known = {(each.span, each.text) for each in self.pool}
        new = [each for each in dict.fromkeys(edits) if (each.span, each.text) not in known]
        self.pool += new
        return len(new)

    def note(self, chosen: EditSet, found: Mapping[str, float]) -> None:
        """Book the scores of a set, by item."""
        self.scores.setdefault(chosen, {}).update(found)

    def terms(self, chosen: EditSet) -> tuple[Term, ...]:
        """Return the terms of the model that a set holds; two edits of one theme hold it once."""
        own = dict.fromkeys(term for number in sorted(chosen) for term in self.pool[number].terms)
        pairs = tuple(term for pair, term in self._pairs.items() if pair <= chosen)
        whole = (set_term(chosen),) if chosen in self._sets else ()
        return (*own, *pairs, *whole)

    def refit(self) -> None:
        """Fit the posterior around the incumbent, and then take the best known set as the incumbent."""
        ranked = sorted(self.scores, key=lambda each: (-len(self.scores[each]), sorted(each)))
        self._sets = [each for each in ranked if each and len(self.scores[each]) >= OFTEN][:MOST_PACKAGES]
        self._pairs = {pair: ("pair", *sorted(pair)) for pair in self._often_together()}
        self._observations = list(self._observed())
        self.posterior = fit(self._observations, self._priors(), self._variances)
        self._variances = variances_of(self._observations, self.posterior)
        if len(self._observations) >= RENEWED * self._renewed_at:
            self._renewed_at = len(self._observations)
            self._scales = self._scaled()
        self.incumbent = self.leaders(1)[0]

    def _observed(self) -> Iterator[Observation]:
        for chosen, found in self.scores.items():
            terms, weight = self.terms(chosen), self._weight(chosen)
            yield from (Observation(terms, item, score, weight) for item, score in found.items())

    def _often_together(self) -> list[EditSet]:
        """Return the pairs of edits that were scored together most often, in several sets of different edits."""
        counts: dict[EditSet, list[int]] = {}
        for chosen, found in self.scores.items():
            for pair in combinations(sorted(chosen), 2):
                count = counts.setdefault(frozenset(pair), [0, 0])
                count[0] += len(found)
                count[1] += 1
        often = [pair for pair, (scores, sets) in counts.items() if scores >= TOGETHER and sets > 1]
        return sorted(often, key=lambda pair: (-counts[pair][0], sorted(pair)))[:MOST_PACKAGES]

    def _priors(self) -> dict[Term, Prior]:
        """Return the prior of each term; that of an edit has the mean that the edits of its source showed so far."""
        credit = self._credit()
        found: dict[Term, Prior] = {}
        for each in self.pool:
            found |= {term: self._prior(str(term[0])) for term in each.terms}
            found[each.terms[0]] = self._prior("edit", credit.get(each.source))
        found |= dict.fromkeys(self._pairs.values(), self._prior("pair"))
        return found | dict.fromkeys(map(set_term, self._sets), self._prior("set"))

    def _prior(self, kind: str, mean: float | None = None) -> Prior:
        assumed = PRIORS[kind]
        return Prior(assumed.mean if mean is None else mean, assumed.variance * self._scales.get(GROUPS[kind], 1.0))

    def _scaled(self) -> dict[str, float]:
        """Return for the two groups of terms how large effects vary, relative to what was assumed.

        An empirical Bayes estimate (one step of the EM algorithm: Dempster, Laird and Rubin 1977), shrunk to 1.
        """
        found = {group: [1.0] * KNOWN for group in GROUPS.values()}
        for term, variance in self.posterior.spread().items():
            kind, prior = str(term[0]), self.posterior.priors[term]
            square = (self.posterior.mean((term,)) - prior.mean) ** 2 + variance
            found[GROUPS[kind]].append(square / PRIORS[kind].variance)
        return {group: math.fsum(squares) / len(squares) for group, squares in found.items()}

    def _credit(self) -> dict[str, float]:
        """Return by source the mean worth of its edits that were scored, shrunk to that of an edit without credit."""
        worth: dict[str, list[float]] = {}
        for number in sorted({n for each in self.scores for n in each}):
            worth.setdefault(self.pool[number].source, []).append(self.worth(frozenset({number})))
        return {
            name: (ASSUMED * EDIT.mean + math.fsum(found)) / (ASSUMED + len(found)) for name, found in worth.items()
        }

    def _weight(self, chosen: EditSet) -> float:
        return NEAR / (NEAR + len(chosen ^ self.incumbent))

    def worth(self, chosen: EditSet) -> float:
        """Return the expected gain of a set over the seed prompt."""
        return self.posterior.mean(self.terms(chosen))

    def chance(self, number: int) -> float:
        """Return the probability that an edit of the pool, alone, is worth more than nothing."""
        expected = self.worth(frozenset({number}))
        return NormalDist().cdf(expected / math.sqrt(max(1e-12, self._variance(number))))

    def _variance(self, number: int) -> float:
        """Return the variance of the worth of one edit alone."""
        return self.posterior.variance(dict.fromkeys(self.terms(frozenset({number})), 1.0))

    def share(self, chosen: EditSet, members: EditSet) -> tuple[float, float]:
        """Return what some edits of a set are expected to add to it, and the standard deviation of that.

        A whole prompt differs from the sum of its edits, also one without a term of its own for that.
        """
        contrast = self._contrast(chosen, chosen - members)
        expected = math.fsum(sign * self.posterior.mean((term,)) for term, sign in contrast.items())
        variance = max(self.posterior.variance(contrast), self.posterior.clustered(contrast, self._observations))
        without_term = sum(bool(each) and each not in self._sets for each in (chosen, chosen - members))
        return expected, math.sqrt(variance + without_term * self._prior("set").variance)

    def _contrast(self, chosen: EditSet, other: EditSet) -> dict[Term, float]:
        """Return the terms in which two sets differ, those of ``other`` with a minus."""
        one, two = dict.fromkeys(self.terms(chosen), 1.0), dict.fromkeys(self.terms(other), -1.0)
        return {term: sign for term, sign in (one | two).items() if (term in one) != (term in two)}

    def numbers(self, edits: Sequence[PoolEdit]) -> EditSet:
        """Return the set of these edits of the pool."""
        known = {(each.span, each.text): number for number, each in enumerate(self.pool)}
        return frozenset(known[each.span, each.text] for each in edits)

    def leaders(self, count: int, least: int = OFTEN) -> list[EditSet]:
        """Return the best sets with at least ``least`` scores, by expected gain; the seed prompt is always one."""
        whole = [each for each, found in self.scores.items() if not each or len(found) >= least]
        return sorted({*whole, frozenset()}, key=lambda each: (-round(self.value(each), 9), sorted(each)))[:count]

    def value(self, chosen: EditSet) -> float:
        """Return the expected gain of a set over the seed prompt, less the cost of its edits."""
        return self.worth(chosen) - sum(self.cost(n) for n in chosen)

    def cost(self, number: int) -> float:
        """Return what an edit must be worth at least: it is one more change, and makes the prompt longer."""
        return MARGIN + WORD * self.pool[number].growth

    def leaner(self, chosen: EditSet) -> EditSet:
        """Return a set without the edit that adds least to it: whether it does is seen when both were scored."""
        return chosen - {min(chosen, key=lambda n: (self._adds(chosen, n), n))} if chosen else chosen

    def pruned(self, chosen: EditSet) -> EditSet:
        """Return a set without the edits that are not expected to add what they cost, one at a time."""
        while chosen:
            gains = {n: self._adds(chosen, n) - self.cost(n) for n in sorted(chosen)}
            least = min(gains, key=lambda n: gains[n])
            if gains[least] >= 0:
                break
            chosen -= {least}
        return chosen

    def _adds(self, chosen: EditSet, number: int) -> float:
        held = self.terms(chosen - {number})
        return self.posterior.mean([term for term in self.terms(chosen) if term not in held])

    def draw(self, rng: random.Random, most: int, scale: float = 1.0) -> EditSet:
        """Draw a set of at most ``most`` edits: the best one under effects that are drawn from the posterior."""
        drawn = self.posterior.draw(rng, scale)
        return self.best(lambda term: drawn.get(term, 0.0), most)

    def expected(self, most: int) -> EditSet:
        """Return the set of at most ``most`` edits that is best as far as is known, by careful estimates of effects."""
        doubt = {n: CAUTION * math.sqrt(self._variance(n)) for n in range(len(self.pool))}
        return self.best(lambda term: self.posterior.mean((term,)), most, doubt)

    def best(self, effect: Callable[[Term], float], most: int, doubt: Mapping[int, float] | None = None) -> EditSet:
        """Return a best set for these effects, edit by edit the one that adds most (a greedy choice).

        ``doubt``: by edit, what is taken off its effect.
        """
        off = {n: self.cost(n) + (doubt[n] if doubt else 0.0) for n in range(len(self.pool))}
        chosen: frozenset[int] = frozenset()
        held: set[Term] = set()
        left = [*(frozenset({n}) for n in off), *self._pairs]
        while left:
            adds = {each: self._new_terms(chosen, each, held) for each in left}
            gains = {each: sum(map(effect, adds[each])) - sum(off[n] for n in each - chosen) for each in left}
            first = max(left, key=lambda each: (gains[each], [-n for n in sorted(each)]))
            if gains[first] <= 0:
                break
            chosen |= first
            held.update(adds[first])
            left = [each for each in left if self._fits(chosen, each, most)]
        return chosen

    def _new_terms(self, chosen: EditSet, added: EditSet, held: Collection[Term]) -> list[Term]:
        """Return the terms, of edits and of pairs, that a set gets with more edits."""
        own = dict.fromkeys(term for n in sorted(added) for term in self.pool[n].terms)
        both = chosen | added
        pairs = [term for pair, term in self._pairs.items() if pair & added and pair <= both]
        return [term for term in (*own, *pairs) if term not in held]

    def _fits(self, chosen: EditSet, added: EditSet, most: int) -> bool:
        """Return whether edits can be added to a set of at most ``most`` edits."""
        new = sorted(added - chosen)
        taken = [self.pool[n] for n in sorted(chosen)]
        for number in new:
            if not compatible(taken, self.pool[number]):
                return False
            taken.append(self.pool[number])
        return bool(new) and len(taken) <= most


def set_term(chosen: EditSet) -> Term:
    """Return the term of a whole prompt."""
    return ("set", tuple(sorted(chosen)))
