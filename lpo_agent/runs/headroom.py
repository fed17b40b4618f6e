"""The kind of run that tells what goes wrong with a prompt, and whether a search is worth it.

It scores the rows and prompts that a search with the same options scores first, so that the search finds the answers
in the journal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio

from lpo_agent.core import demos
from lpo_agent.core.editpool import compose
from lpo_agent.core.events import PhaseStarted
from lpo_agent.core.messages import SCORE, ScoreAsk
from lpo_agent.core.result import AgreementResult, HeadroomResult, QuickVariant, delta
from lpo_agent.core.scores import Scored, paired, summarize, values
from lpo_agent.core.task_facts import task_facts
from lpo_agent.errors import BudgetExceeded, EditRejected
from lpo_agent.runs.agents import open_agents, setting_of
from lpo_agent.runs.stopping import until_stopped
from lpo_agent.search.faults import count, form_of
from lpo_agent.search.headroom import AGAIN, ROWS, advise, estimate
from lpo_agent.search.methods.pool import LPO
from lpo_agent.search.methods.pool.quick import quick_edits
from lpo_agent.search.scoring import TIMEOUT, Outcomes, together, until_spent
from lpo_agent.search.task import calls_each, panel_of, power_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.bus.base import Bus
    from lpo_agent.core.messages import Row
    from lpo_agent.runs.context import RunContext
    from lpo_agent.search.methods.pool.quick import QuickEdit
    from lpo_agent.search.scoring import Scoring
    from lpo_agent.search.task import Task
    from lpo_agent.spec import RunSpec


class Trial(NamedTuple):
    """A quick change of the prompt."""

    name: str
    prompt: str


class Look(NamedTuple):
    """What is scored: the rows of the prompt, those of the changes (also asked again), and the changes."""

    rows: Sequence[Row]
    few: Sequence[Row]
    trials: Sequence[Trial]


def look_at(spec: RunSpec, task: Task) -> Look:
    """Return what is scored: rows and prompts that a search scores first."""
    plan = LPO.plan(spec.model_copy(update={"marker": None, "proposer": None, "method_options": {}}))
    panel, shown = panel_of(task, plan)
    facts = task_facts(task.splits.train, task.labels)
    edits = quick_edits(task.prompt, facts, demos.usable(shown), plan.demos, plan.seed)
    return Look(panel[:ROWS], panel[:AGAIN], [*_trials(task, edits)])


def _trials(task: Task, edits: Sequence[QuickEdit]) -> Iterator[Trial]:
    for name, edit in edits:
        try:
            yield Trial(name, compose(task.prompt, [edit]).text)
        except EditRejected:
            continue


def calls_of(spec: RunSpec, task: Task) -> int:
    """Return the number of model calls of the whole look."""
    look = look_at(spec, task)
    return calls_each(task) * (len(look.rows) + len(look.few) * (1 + len(look.trials)))


async def headroom(context: RunContext) -> HeadroomResult:
    """Score the prompt, quick changes of it, and some rows again; raises BudgetExceeded before the first score."""
    spec, task = context.spec, context.task
    look, again = look_at(spec, task), Outcomes()
    context.emit(PhaseStarted(phase="look", total=calls_of(spec, task) // calls_each(task)))
    reason: str | None = None
    async with open_agents(context, setting_of(spec, task, LPO.numbers, LPO.name), LPO) as bus:
        scoring = context.scoring(bus)
        with anyio.CancelScope() as scope:
            async with until_stopped(context.stop, scope.cancel):
                reason = await until_spent(partial(_score, task, look, scoring, bus, again))
    reason = "asked to stop" if context.stop.is_set() else reason
    known = {each: scoring.known(each, look.rows) for each in (task.prompt.text, *(t.prompt for t in look.trials))}
    if reason is not None and not any(isinstance(o, Scored) for o in known[task.prompt.text].values()):
        raise BudgetExceeded(reason)
    return _result(context, look, known, again, reason)


async def _score(task: Task, look: Look, scoring: Scoring, bus: Bus, again: Outcomes) -> None:
    await scoring.score(task.prompt.text, look.rows)
    works = [partial(_ask_again, bus, task.prompt.text, row, again) for row in look.few]
    await together([*works, *(partial(scoring.score, each.prompt, look.few) for each in look.trials)])


async def _ask_again(bus: Bus, text: str, row: Row, again: Outcomes) -> None:
    reply = await bus.request(SCORE, ScoreAsk(text=text, row=row, replicate=1), timeout=TIMEOUT)
    if isinstance(reply.outcome, Scored):
        again[row.id] = reply.outcome


def _result(
    context: RunContext, look: Look, known: dict[str, Outcomes], again: Outcomes, reason: str | None
) -> HeadroomResult:
    task, seed = context.task, known[context.task.prompt.text]
    few = [row.id for row in look.few]
    changes = [paired(known[each.prompt], seed, few) for each in look.trials]
    first = {row: seed[row] for row in again if row in seed}
    repeats = paired(again, first, few)
    agreement = AgreementResult(n=len(repeats), same=repeats.count(0.0)) if repeats else None
    faults = count(form_of(task), [(row, seed[row.id]) for row in look.rows if row.id in seed])
    gain = estimate([*values(seed).values()], faults, changes)
    advice = advise(faults, gain, agreement, task.splits)
    return HeadroomResult(
        run_id=context.run_id,
        status="completed" if reason is None else "stopped",
        stop_reason=reason or "all items scored",
        score=summarize(seed.values()),
        faults=faults,
        agreement=agreement,
        variants=tuple(
            QuickVariant(
                name=each.name,
                prompt=each.prompt,
                score=summarize(known[each.prompt].values()),
                delta=delta(differences),
            )
            for each, differences in zip(look.trials, changes, strict=True)
        ),
        gain=gain,
        worth=advice.worth,
        reasons=advice.reasons,
        power=power_of(task, context.spec.gain),
        usage=context.usage(),
        notes=task.notes,
    )
