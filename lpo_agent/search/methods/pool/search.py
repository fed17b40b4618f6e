"""The search over a pool of edits: draw sets of edits, score each on a few items, learn, and let new edits in.

A round draws its sets from the posterior before any of them is scored, and the posterior is fitted when all are
scored, in the order of the draws. So replies may come in any order, any number at a time, and the result is the same.
Calls are counted as if none was known from an earlier session, so a resumed search makes the same decisions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.core import demos
from lpo_agent.core.editpool import compose
from lpo_agent.core.events import PhaseStarted
from lpo_agent.core.factorial import EditSet, Factorial
from lpo_agent.core.messages import Trace
from lpo_agent.core.scores import Scored, values
from lpo_agent.core.stats import mean
from lpo_agent.errors import BudgetExceeded, EditRejected
from lpo_agent.search.attribution import attribute, unmeasured
from lpo_agent.search.candidates import Candidate, seed_of
from lpo_agent.search.methods.pool.telling import Trial, candidate_of, records, result_of
from lpo_agent.search.methods.pool.writing import Known, Written, taken_apart
from lpo_agent.search.outcome import score_seed
from lpo_agent.search.scoring import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.editpool import PoolEdit
    from lpo_agent.core.guards import Guards
    from lpo_agent.core.messages import Row
    from lpo_agent.core.text import Prompt
    from lpo_agent.search.context import Search
    from lpo_agent.search.finalists import Finals
    from lpo_agent.search.methods.pool.telling import Teller
    from lpo_agent.search.methods.pool.writing import EditWriter

SEED: Final[EditSet] = frozenset()
TRIES: Final = 12
"""Draws for each set of a round, until one is found that can be scored."""
CALLS_PER_EDIT: Final = 12
"""Calls of the search for which the pool takes one more edit, and the seed prompt's items grow by one."""
PROVING: Final = 0.85
"""After this share of the search, edits of the incumbent are left out one at a time, to see what they add."""
PERFECT: Final = 40
"""A prompt without a fault on so many items, or on the whole panel, ends the search."""


@dataclass(slots=True)
class PoolSearch:
    """Implements :class:`lpo_agent.search.methods.base.PhasedSearch`.

    ``panel``: the training rows that prompts may be scored on. ``shown``: those that may be demonstrations.
    ``waiting``: edits that are not in the pool yet. ``writer``: asks a model for edits, None without one. ``limit`` and
    ``spent``: model calls of the search. ``room``: edits that a pool may hold more, for a long prompt.
    ``suggested``: sets that a source wants to be scored as they are.
    """

    context: Search
    finals: Finals
    panel: Sequence[Row]
    shown: Sequence[Row]
    guards: Guards
    waiting: list[PoolEdit]
    writer: EditWriter | None
    teller: Teller
    model: Factorial = field(default_factory=Factorial)
    room: int = 0
    limit: int = 0
    spent: int = 0
    asked: int = 0
    step: int = 0
    steps: int = 0
    over: bool = False
    suggested: list[EditSet] = field(default_factory=list)
    written: dict[int, list[int]] = field(default_factory=dict)
    _prompts: dict[EditSet, Prompt | None] = field(default_factory=dict)

    async def search(self) -> None:
        """Score sets of edits, round by round, until the calls of the search are spent or nothing is left to learn."""
        context, plan = self.context, self.context.plan
        context.emit(PhaseStarted(phase="search", total=plan.branches * plan.steps))
        self._prompts[SEED], self.limit, self.steps = context.prompt, plan.search, plan.steps
        rows = self.panel[: min(plan.first_rung, max(1, self.limit // context.rows.calls_each))]
        seed = partial(score_seed, context.scoring, context.rows, context.outcome, context.emit)
        await together([seed, partial(self._score, [Trial(SEED, context.prompt, rows)])])
        self.model.note(SEED, self._dev_scores(context.prompt))
        await self._steps()

    async def _steps(self) -> None:
        try:
            while self._goes_on() and self.step < self.steps:
                await self._step()
        finally:
            self._sum_up()

    def _goes_on(self) -> bool:
        return not self.over and self.spent < self.limit

    async def _step(self) -> None:
        """Run the rounds of a step, and tell what came of it."""
        self.step += 1
        self.model.refit()
        before, skipped = self.model.incumbent, None
        trials: list[Trial] = []
        self.teller.begins(self.step, self._prompt(before))
        for number in range(self.context.plan.rounds):
            if self._is_perfect(self.model.incumbent):
                self.over = True
            if not self._goes_on():
                break
            writes = self.writer is not None and number == 0 and self.step >= self.writer.due
            found, reason = await self._round(number, writes=writes)
            trials, skipped = [*trials, *found], skipped or reason
        self._tell(before, trials, skipped)

    async def _round(self, number: int, *, writes: bool) -> tuple[list[Trial], str | None]:
        """Draw the sets of a round, score them while the agents write, and fit the posterior."""
        self._admit()
        rng = random.Random(seed_of(self.context.plan.seed, "round", self.step, number))
        trials, parent = self._trials(rng), self.model.incumbent
        self.over = not trials and not writes and not self.waiting
        news: list[Written] = []
        works = [partial(self._score, trials)]
        await together([*works, partial(self._write, parent, news)] if writes else works)
        reason = self._take_in(parent, news)
        self.model.refit()
        return trials, reason

    def _admit(self) -> None:
        """Let edits into the pool, as many as the calls so far can tell apart."""
        room = self.context.plan.pool + self.room + self.spent // CALLS_PER_EDIT - len(self.model.pool)
        if room > 0:
            self.model.add(self.waiting[:room])
            del self.waiting[:room]

    def _is_perfect(self, chosen: EditSet) -> bool:
        found = self.model.scores.get(chosen, {})
        on_panel = [found[row.id] for row in self.panel if row.id in found]
        return len(on_panel) >= min(PERFECT, len(self.panel)) and min(on_panel, default=0.0) >= 1.0

    def _trials(self, rng: random.Random) -> list[Trial]:
        """Return the sets of this round with their items, for each branch its proposals."""
        plan, each = self.context.plan, self.context.rows.calls_each
        found: list[Trial] = []
        asked: dict[EditSet, set[str]] = {}
        for number in range(plan.branches * plan.proposals):
            left = (self.limit - self.spent) // each - sum(len(trial.rows) for trial in found)
            trial = self._trial(number, asked, left, rng) if left > 0 else None
            if trial is not None:
                asked.setdefault(trial.chosen, set()).update(row.id for row in trial.rows)
                found.append(trial)
        return found

    def _trial(self, number: int, asked: dict[EditSet, set[str]], left: int, rng: random.Random) -> Trial | None:
        """Draw a set that can be scored, None if there seems to be none."""
        for attempt in range(TRIES):
            chosen = self._draw(number if attempt == 0 else 2, rng)
            prompt = self._admitted(chosen)
            if prompt is None:
                continue
            rows = self._rows(chosen, asked.get(chosen, set()), rng)[: min(self._count(chosen), left)]
            if rows:
                return Trial(chosen, prompt, rows, number // self.context.plan.proposals)
        return None

    def _draw(self, number: int, rng: random.Random) -> EditSet:
        """Return the set of a place in the round: first the best guess, then one of the leaders, then draws."""
        most = max(self.context.plan.size, len(self.model.incumbent) + 2)
        incumbent = self.model.incumbent
        if incumbent and self.spent > PROVING * self.limit:
            return incumbent - {rng.choice([*sorted(incumbent), -1])}
        if number == 0:
            return self.model.expected(most)
        if number == 1:
            leaner = self.model.leaner(incumbent)
            return rng.choice([*self.model.leaders(2), leaner, leaner])
        if self.suggested:
            return self.suggested.pop(0)
        return self.model.draw(rng, most)

    def _count(self, chosen: EditSet) -> int:
        """Return on how many items a set is scored: the incumbent on more, once it seems to be perfect."""
        found = self.model.scores.get(chosen, {})
        faultless = len(found) >= self.context.plan.first_rung and min(found.values()) >= 1.0
        return PERFECT if faultless else self.context.plan.look

    def _rows(self, chosen: EditSet, asked: set[str], rng: random.Random) -> list[Row]:
        """Return the rows that the set was not scored on, first those where most is known to compare with."""
        known = self.model.scores.get(chosen, {})
        incumbent, seed = (self.model.scores.get(each, {}) for each in (self.model.incumbent, SEED))
        active = self.panel[: self.context.plan.first_rung + self.spent // CALLS_PER_EDIT]
        left = [row for row in active if row.id not in known and row.id not in asked]
        left = left or [row for row in self.panel if row.id not in known and row.id not in asked]
        order = {row.id: (-(row.id in incumbent) - (row.id in seed), rng.random()) for row in left}
        return sorted(left, key=lambda row: order[row.id])

    def _admitted(self, chosen: EditSet) -> Prompt | None:
        """Return the prompt of a set, None if it may not be used; what became of it is told once."""
        if chosen not in self._prompts:
            prompt, lost = self._composed(chosen)
            self.teller.proposed(self.step, prompt, lost)
            self._prompts[chosen] = None if lost else prompt
        return self._prompts[chosen]

    def _composed(self, chosen: EditSet) -> tuple[Prompt | None, str | None]:
        """Return the prompt of a set, or why it may not be used."""
        try:
            prompt = compose(self.context.prompt, [self.model.pool[n] for n in chosen])
        except EditRejected as exc:
            return None, str(exc)
        if not prompt.text.strip():
            return None, "the prompt would be empty"
        return prompt, self.guards.refuse(prompt.text, frozenset(map(demos.block_text, self.shown)))

    def _prompt(self, chosen: EditSet) -> Prompt:
        return self._prompts[chosen] or self.context.prompt

    async def _score(self, trials: Sequence[Trial]) -> None:
        """Score all trials; what is known when the budget ends is booked too."""
        each, scoring = self.context.rows.calls_each, self.context.scoring
        self.spent += each * sum(len(trial.rows) for trial in trials)
        try:
            await together([partial(scoring.score, t.prompt.text, t.rows) for t in trials])
        finally:
            for trial in trials:
                self.model.note(trial.chosen, values(scoring.known(trial.prompt.text, trial.rows)))

    async def _write(self, before: EditSet, news: list[Written]) -> None:
        assert self.writer is not None  # noqa: S101 - for the type checker
        parent = self._prompt(before)
        known = Known(self.context.prompt, before, self.model)
        outcomes = self.context.scoring.known(parent.text, self.panel)
        traces = [Trace(row=row, result=o) for row in self.panel if isinstance(o := outcomes.get(row.id), Scored)]
        news.append(await self.writer.write(self.step, parent, traces, known))

    def _take_in(self, before: EditSet, news: Sequence[Written]) -> str | None:
        """Put written edits into the pool, suggest the prompts that they came from, and decide when to ask again."""
        for each in news:
            self.asked += each.asked
            self.spent += each.asked
            self.teller.marked(self.step, each)
            new = 0
            for child, note in each.children:
                edits = taken_apart(self.context.prompt, child, before, self.model, note or "written")
                if edits is not None:
                    new += self.model.add(edits)
                    self.suggested.append(self.model.numbers(edits))
            if self.writer is not None:
                self.writer.heard(self.step, useful=new > 0)
        return news[0].skipped if news else None

    def _dev_scores(self, prompt: Prompt) -> dict[str, float]:
        return values(self.context.scoring.known(prompt.text, self.context.rows.dev))

    def _tell(self, before: EditSet, trials: Sequence[Trial], skipped: str | None) -> None:
        outcome, after = self.context.outcome, self.model.incumbent
        found = self.model.scores[after]
        start = mean(self.model.scores[SEED].values())
        best = min(1.0, max(0.0, start + self.model.worth(after)))
        if not outcome.curve or best > outcome.curve[-1][1]:
            outcome.curve.append((self.spent, best if outcome.curve else start))
        if skipped:
            outcome.skipped.append(skipped)
        moved = (self._prompt(after), mean(found.values())) if after != before else None
        for trial in {(t.branch, t.chosen): t for t in trials if t.chosen}.values():
            self.teller.raced(self.step, trial, self.model, before)
        self.teller.ends(self.step, moved, skipped)

    def _candidate(self, chosen: EditSet) -> Candidate:
        return candidate_of(self.model, chosen, self.context.prompt, self.step)

    def _sum_up(self) -> None:
        outcome = self.context.outcome
        outcome.candidates = len(self.model.scores) - 1
        outcome.scorings = sum(1 for found in self.model.scores.values() for item in found)
        outcome.optimizer_calls = self.asked
        outcome.records = records(self.model)

    async def confirm(self) -> None:
        """Choose among the best sets by all that is known of them, with their scores on the whole dev split.

        Calls that were put aside for more finalists than there are go to the search before.
        """
        context, ledger = self.context, self.context.rows.ledger
        each, dev = context.rows.calls_each, len(context.rows.dev)
        test = 2 * each * len(context.rows.test)
        spare = (context.plan.finalists - len(self._finalists())) * each * dev
        if spare > 0 and not self.over and context.outcome.stopped_by is None and context.plan.fitted:
            self.limit += spare
            self.steps += spare if context.spec.steps is None else 0
            try:
                hold = ledger.reserve(calls=test + each * dev, aside=True)
            except BudgetExceeded:
                hold = None
            try:
                await self._steps()
            finally:
                if hold is not None:
                    ledger.release(hold)
        await self._choose(self._finalists()[: max(1, context.plan.finalists - (spare > 0))])

    def _finalists(self) -> list[EditSet]:
        """Return the best sets that are thought to be better than the seed prompt and are local, as a proof shows."""
        self.model.refit()
        best = self.model.leaders(self.context.plan.finalists)
        better = best[: best.index(SEED)] if SEED in best else best
        return [each for each in better if self.context.checks.admits(self._candidate(each))]

    async def _choose(self, best: Sequence[EditSet]) -> None:
        sets = {self._prompt(each).text: each for each in best}

        def choose(admitted: Sequence[Candidate]) -> Candidate | None:
            for chosen in best:
                self.model.note(chosen, self._dev_scores(self._prompt(chosen)))
            self.model.refit()
            worth = {each.prompt.text: self.model.value(sets[each.prompt.text]) for each in admitted}
            first = max(admitted, key=lambda each: worth[each.prompt.text], default=None)
            return first if first is not None and worth[first.prompt.text] > 0 else None

        await self.finals.settle([self._candidate(each) for each in best], choose)
        outcome = self.context.outcome
        if outcome.best is not outcome.seed:
            outcome.edits = result_of(self.model, sets[outcome.best.prompt.text], self.context.prompt)

    async def explain(self) -> None:
        """Measure the worth of each edit of the best prompt, if calls are left; else the posterior has told it."""
        context, plan = self.context, self.context.plan
        outcome, rows = context.outcome, self.panel[: plan.explained_on]
        if outcome.best is outcome.seed or plan.explained == 0:
            return
        text = outcome.best.prompt.text
        edits = min(plan.explained, len(unmeasured(context.prompt, text)))
        context.emit(PhaseStarted(phase="explain", total=edits * len(rows)))
        outcome.edits = await attribute(context.scoring, context.prompt, text, rows, plan.explained)
