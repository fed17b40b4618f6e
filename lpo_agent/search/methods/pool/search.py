"""The search over a pool of edits: draw sets of edits, score each on a few items, learn, and let new edits in.

A round draws its sets from the posterior before any of them is scored, and the posterior is fitted when all are
scored, in the order of the draws. So replies may come in any order, any number at a time, and the result is the same.
Calls are counted as if none was known from an earlier session, so a resumed search makes the same decisions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.core.editpool import compatible
from lpo_agent.core.events import FaultsCounted, PhaseStarted
from lpo_agent.core.messages import Trace
from lpo_agent.core.scores import Scored, values
from lpo_agent.core.stats import mean
from lpo_agent.search.attribution import explain
from lpo_agent.search.candidates import Candidate, seed_of
from lpo_agent.search.faults import count, form_of
from lpo_agent.search.methods.pool import ending
from lpo_agent.search.methods.pool.known import Known
from lpo_agent.search.methods.pool.prompts import SEED, SetPrompts
from lpo_agent.search.methods.pool.taking_apart import taken_apart
from lpo_agent.search.methods.pool.telling import Trial, candidate_of, records, result_of
from lpo_agent.search.outcome import score_seed
from lpo_agent.search.scoring import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.editpool import PoolEdit
    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.messages import Row
    from lpo_agent.search.context import Search
    from lpo_agent.search.finalists import Finals
    from lpo_agent.search.methods.pool.telling import Teller
    from lpo_agent.search.methods.pool.writing import EditWriter, Written

TRIES: Final = 12
"""Draws for each set of a round, until one is found that can be scored."""
RESTING: Final = 4
"""A source that rests for so many steps is not waited for."""
CALLS_PER_EDIT: Final = 12
"""Calls of the search for which the pool takes one more edit, and the seed prompt's items grow by one."""
CALLS_PER_ASK: Final = 25
"""Calls of the search for which the optimizer model may be asked once."""
MOST_SUGGESTED: Final = 16
"""Older suggestions are given up; their edits stay in the pool."""
LEADERS: Final = 3
KNOWN: Final = 6
"""Edits are written for one of so many best sets, one with so many answers to learn from."""
PROVING: Final = 0.9
"""After this share of the search, edits of the incumbent are left out, those that seem useless and one at a time."""


@dataclass(slots=True)
class PoolSearch:
    """Implements :class:`lpo_agent.search.methods.base.PhasedSearch`.

    ``panel``: the training rows that prompts may be scored on. ``waiting``: edits that are not in the pool yet.
    ``prompts``: the prompts of sets of edits. ``model``: the pool and what is known of it. ``writer``: asks a model for
    edits, None without one. ``limit`` and ``spent``: model calls of the search. ``room``: edits that a pool may hold
    more, for a long prompt. ``suggested``: sets that a source wants to be scored as they are. ``quick``: how many of
    the first edits are tried before all others. ``moved_at``: the calls when the incumbent changed last. ``kept``: the
    finalists that calls are kept for at the end.
    """

    context: Search
    finals: Finals
    panel: Sequence[Row]
    waiting: list[PoolEdit]
    prompts: SetPrompts
    model: Factorial
    writer: EditWriter | None
    teller: Teller
    quick: int = 0
    kept: int = 1
    room: int = 0
    limit: int = 0
    spent: int = 0
    asked: int = 0
    moved_at: int = 0
    step: int = 0
    steps: int = 0
    suggested: list[EditSet] = field(default_factory=list)

    async def search(self) -> None:
        """Score sets of edits, round by round, until the calls of the search are spent or nothing is left to learn."""
        context, plan = self.context, self.context.plan
        context.emit(PhaseStarted(phase="search"))
        self.limit = plan.search
        self.steps = plan.steps if context.spec.steps is not None else plan.search
        rows = self.panel[: min(plan.first_rung, max(1, self.limit // context.rows.calls_each))]
        seed = partial(score_seed, context.scoring, context.rows, context.outcome, context.emit)
        await together([seed, partial(self._score, [Trial(SEED, context.prompt, rows)])])
        self.model.note(SEED, self._dev_scores(SEED))
        self._look()
        await self._steps()

    def _look(self) -> None:
        """Tell what is wrong with the seed prompt's answers, and have the quick edits scored first."""
        context = self.context
        rows = [*self.panel, *context.rows.dev]
        known = context.scoring.known(context.prompt.text, rows)
        context.outcome.faults = count(form_of(context.task), [(row, known[row.id]) for row in rows if row.id in known])
        context.emit(FaultsCounted(faults=context.outcome.faults))
        self._admit()
        self.suggested += [frozenset({number}) for number in range(min(self.quick, len(self.model.pool)))]

    async def _steps(self) -> None:
        try:
            while self._goes_on() and self.step < self.steps:
                await self._step()
        finally:
            self._sum_up()

    def _goes_on(self) -> bool:
        return self.context.outcome.ended is None and self.spent < self.limit

    async def _step(self) -> None:
        """Run the rounds of a step, and tell what came of it."""
        self.step += 1
        self.model.refit()
        before, skipped = self.model.incumbent, None
        trials: list[Trial] = []
        self.teller.begins(self.step, self.prompts.of(before))
        for number in range(self.context.plan.rounds):
            if right := self._all_right(self.model.incumbent):
                self.context.outcome.ended = ending.perfect(right)
            if not self._goes_on():
                break
            writes = self._asks()
            found, reason = await self._round(number, writes=writes)
            trials, skipped = [*trials, *found], skipped or reason
        self._tell(before, trials, skipped)
        self.moved_at = self.spent if self.model.incumbent != before else self.moved_at
        outcome = self.context.outcome
        if ending.is_stalled(self.spent, self.moved_at):
            outcome.ended = outcome.ended or ending.stalled(self.spent - self.moved_at)
        if not self.waiting and self._rests() and ending.nothing_to_gain(self.model):
            outcome.ended = outcome.ended or ending.CERTAIN

    def _asks(self) -> bool:
        """Return whether the writer is asked now: if a source is due, and it was not asked too often."""
        return self.writer is not None and self.step >= self.writer.due and CALLS_PER_ASK * self.asked <= self.spent

    async def _round(self, number: int, *, writes: bool) -> tuple[list[Trial], str | None]:
        """Draw the sets of a round, score them while the agents write, and fit the posterior."""
        self._admit()
        rng = random.Random(seed_of(self.context.plan.seed, "round", self.step, number))
        trials, parent = self._trials(rng), self._explained()
        if not trials and not writes:
            writes = not self._let_in_one()
        news: list[Written] = []
        works = [partial(self._score, trials)]
        await together([*works, partial(self._write, parent, news)] if writes else works)
        reason = self._take_in(parent, news)
        self.model.refit()
        return trials, reason

    def _explained(self) -> EditSet:
        """Return the set whose answers the agents get: the best one with enough answers, or else the seed prompt."""
        best = (each for each in self.model.leaders(LEADERS) if len(self.model.scores.get(each, {})) >= KNOWN)
        return next(best, SEED)

    def _let_in_one(self) -> bool:
        """Let one more edit in where all sets of the pool were scored on all items.

        Without one, end, or return False if a model is to be asked for edits at once.
        """
        if self.waiting:
            self.model.add([self.waiting.pop(0)])
        elif self._rests():
            self.context.outcome.ended = ending.EXHAUSTED
        else:
            return False
        return True

    def _admit(self) -> None:
        """Let edits into the pool, as many as the calls so far can tell apart."""
        room = self.context.plan.pool + self.room + self.spent // CALLS_PER_EDIT - len(self.model.pool)
        if room > 0:
            self.model.add(self.waiting[:room])
            del self.waiting[:room]

    def _rests(self) -> bool:
        """Return whether no source will write soon: there is none, or it was asked often without use."""
        return self.writer is None or self.writer.rests_long(RESTING)

    def _all_right(self, chosen: EditSet) -> int:
        """Return on how many items a prompt was scored, if on enough and without a fault, else 0."""
        found = self.model.scores.get(chosen, {})
        on_panel = [found[row.id] for row in self.panel if row.id in found]
        enough = len(on_panel) >= min(ending.PERFECT, len(self.panel))
        return len(on_panel) if enough and min(on_panel, default=0.0) >= 1.0 else 0

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
            prompt = self.prompts.admitted(chosen, self.step)
            if prompt is None:
                continue
            rows = self._rows(chosen, asked.get(chosen, set()), rng)[: min(self._count(chosen), left)]
            if rows:
                return Trial(chosen, prompt, rows, number // self.context.plan.proposals)
        return None

    def _draw(self, number: int, rng: random.Random) -> EditSet:
        """Return the set of a place in the round: first the best guess, then one of the leaders, then draws."""
        incumbent = self.model.incumbent
        most = max(self.context.plan.size, len(incumbent) + 2)
        if incumbent and self.spent > PROVING * self.limit:
            pruned = self.model.pruned(incumbent)
            return pruned if number % 2 and pruned else incumbent - {rng.choice([*sorted(incumbent), -1])}
        if number == 0:
            return self.model.expected(most)
        if number == 1:
            leaner = self.model.leaner(incumbent)
            return rng.choice([*self.model.leaders(2), leaner, leaner])
        if self.suggested and number % 2 == 0:  # the other half are draws, which may combine what was suggested
            return self.suggested.pop(0)
        return self.model.draw(rng, most)

    def _count(self, chosen: EditSet) -> int:
        """Return on how many items a set is scored: the incumbent on more, once it seems to be perfect."""
        found = self.model.scores.get(chosen, {})
        faultless = len(found) >= self.context.plan.first_rung and min(found.values()) >= 1.0
        return ending.PERFECT if faultless else self.context.plan.look

    def _rows(self, chosen: EditSet, asked: set[str], rng: random.Random) -> list[Row]:
        """Return the rows that the set was not scored on, first those where most is known to compare with."""
        known = self.model.scores.get(chosen, {})
        incumbent, seed = (self.model.scores.get(each, {}) for each in (self.model.incumbent, SEED))
        active = self.panel[: self.context.plan.first_rung + self.spent // CALLS_PER_EDIT]
        left = [row for row in active if row.id not in known and row.id not in asked]
        left = left or [row for row in self.panel if row.id not in known and row.id not in asked]
        order = {row.id: (-(row.id in incumbent) - (row.id in seed), rng.random()) for row in left}
        return sorted(left, key=lambda row: order[row.id])

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
        parent = self.prompts.of(before)
        scores = {chosen: dict(found) for chosen, found in self.model.scores.items()}  # others come in meanwhile
        known = Known(self.context.prompt, before, replace(self.model, scores=scores))
        outcomes = self.context.scoring.known(parent.text, self.panel)
        traces = [Trace(row=row, result=o) for row in self.panel if isinstance(o := outcomes.get(row.id), Scored)]
        news.append(await self.writer.write(self.step, parent, traces, known))

    def _take_in(self, before: EditSet, news: Sequence[Written]) -> str | None:
        """Put written edits into the pool, suggest the prompts that they came from, and decide when to ask again."""
        for each in news:
            self.asked += each.asked
            self.spent += each.asked
            self.teller.marked(self.step, each)
            new = self._add(before, each)
            if self.writer is not None:
                self.writer.heard(self.step, each.source, new)
        return news[0].skipped if news else None

    def _add(self, before: EditSet, written: Written) -> Sequence[PoolEdit]:
        """Put written edits into the pool, suggest to score them on top of the set ``before``, and return new ones."""
        pool = self.model.pool
        groups = [list(group) for group in written.groups]
        for child, note in written.children:
            groups.append(taken_apart(self.context.prompt, child, before, self.model, note or "written") or [])
        size = len(pool)
        self.model.add([edit for group in groups for edit in group])
        for group in filter(None, groups):
            kept = [n for n in before if compatible(group, pool[n])]
            self.suggested.append(self.model.numbers(group).union(kept))
        self.suggested = self.suggested[-MOST_SUGGESTED:]
        return self.model.pool[size:]

    def _dev_scores(self, chosen: EditSet) -> dict[str, float]:
        return values(self.context.scoring.known(self.prompts.of(chosen).text, self.context.rows.dev))

    def _tell(self, before: EditSet, trials: Sequence[Trial], skipped: str | None) -> None:
        outcome, after = self.context.outcome, self.model.incumbent
        found = self.model.scores[after]
        start = mean(self.model.scores[SEED].values())
        best = min(1.0, max(0.0, start + self.model.worth(after)))
        if not outcome.curve or best > outcome.curve[-1][1]:
            outcome.curve.append((self.spent, best if outcome.curve else start))
        if skipped:
            outcome.skipped.append(skipped)
        moved = (self.prompts.of(after), mean(found.values())) if after != before else None
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
        """Choose among the best sets by all that is known of them, with their scores on the whole dev split."""
        await self._go_on()
        outcome = self.context.outcome
        if outcome.stopped_by is None and outcome.ended is None:
            outcome.ended = ending.spent(self.limit) if self.spent >= self.limit else ending.ALL_STEPS
        await self._choose(self._finalists()[: self.kept])

    async def _go_on(self) -> None:
        """Search with the calls that were put aside for finalists that there are not.

        Without any, the test would compare nothing. Then, if there is a cap on calls, half of those for the test go to
        the search too, and a prompt that is found then is tested on half of the items.
        """
        task, plan = self.context.rows, self.context.plan
        each, a_finalist, found = task.calls_each, len(task.dev) + len(task.must_pass), len(self._finalists())
        self.kept = max(1, found)
        await self._extend(each * (plan.finalists - self.kept) * a_finalist, each * self.kept * a_finalist)
        half = len(task.test) // 2
        if half and self._could_go_on() and not self._finalists():
            self.context.outcome.tested = len(task.test) - half
            self.context.outcome.remarks.append(
                f"no prompt seemed better, so calls of the test went to the search: {half} test items are unused"
            )
            await self._extend(2 * each * half, each * a_finalist)

    def _could_go_on(self) -> bool:
        """Return whether the search could use more calls, and has a cap on them."""
        outcome, caps = self.context.outcome, self.context.spec.budget.calls is not None
        return caps and outcome.ended is None and outcome.stopped_by is None and self.step < self.steps

    async def _extend(self, calls: int, choice: int) -> None:
        """Search with this many more calls, while ``choice`` calls and those of the test are put aside."""
        context, outcome = self.context, self.context.outcome
        if calls <= 0 or outcome.ended is not None or outcome.stopped_by is not None or not context.plan.fitted:
            return
        self.limit += calls
        self.steps += calls if context.spec.steps is None else 0
        test = 2 * context.rows.calls_each * len(context.rows.test[: outcome.tested])
        with context.rows.put_aside(choice + test):
            await self._steps()

    def _finalists(self) -> list[EditSet]:
        """Return the best sets that are thought to be better than the seed prompt and are local, as a proof shows."""
        self.model.refit()
        best = self.model.leaders(self.context.plan.finalists)
        better = best[: best.index(SEED)] if SEED in best else best
        return [each for each in better if self.context.checks.admits(self._candidate(each))]

    async def _choose(self, best: Sequence[EditSet]) -> None:
        sets = {self.prompts.of(each).text: each for each in best}

        def choose(admitted: Sequence[Candidate]) -> Candidate | None:
            for chosen in best:
                self.model.note(chosen, self._dev_scores(chosen))
            self.model.refit()
            worth = {each.prompt.text: self.model.value(sets[each.prompt.text]) for each in admitted}
            found = [each for each in admitted if worth[each.prompt.text] > 0 and self.finals.holds_on_dev(each)]
            return max(found, key=lambda each: worth[each.prompt.text], default=None)

        await self.finals.settle([self._candidate(each) for each in best], choose)
        outcome = self.context.outcome
        if outcome.best is not outcome.seed:
            outcome.edits = result_of(self.model, sets[outcome.best.prompt.text], self.context.prompt)

    async def explain(self) -> None:
        """Measure the worth of each edit of the best prompt, if enough calls are left; else the posterior has told it.

        It is measured first on items that the prompt was not scored on, so not on those that selected it.
        """
        known = self.context.scoring.known(self.context.outcome.best.prompt.text, self.panel)
        await explain(self.context, sorted(self.panel, key=lambda row: row.id in known))
