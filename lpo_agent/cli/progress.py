"""A run's progress on standard error: a live view on a terminal, plain lines elsewhere.

Both observe the run's events. What they show comes from the state that follows from the events
(:class:`lpo_agent.events.RunState`), from the run's usage, and from the clock.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lpo_agent.cli import words
from lpo_agent.events import (
    BeamSelected,
    BenchStarted,
    CandidateRaced,
    CellFinished,
    FaultsCounted,
    FinalistScored,
    PhaseStarted,
    RunFinished,
    RunStarted,
    RunState,
    SeedScored,
    SplitTested,
    StepFinished,
    advance,
)
from lpo_agent.report import duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rich.console import Console

    from lpo_agent.events import Event
    from lpo_agent.results import UsageResult

REFRESH_SECONDS: Final = 0.2
RATE_SECONDS: Final = 10.0
MAX_BRANCHES: Final = 8
PHASES: Final = {
    "look": "a first look at the answers",
    "search": "search",
    "confirm": "the best prompts on the dev items",
    "test": "the test items",
    "explain": "what each edit is worth",
}


class ObservedRun(Protocol):
    """The part of a run that a view uses."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events until the run is over."""
        ...

    def usage(self) -> UsageResult:
        """Return the usage so far."""
        ...


def describe(event: Event) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one line an event
    """Return one line about an event, or None for an event that is not shown."""
    match event:
        case RunStarted():
            return _started(event)
        case SeedScored():
            return f"seed prompt on dev: {words.score(event.score)}"
        case FaultsCounted():
            return f"seed prompt: {words.faults(event.faults)}"
        case PhaseStarted():
            return _phase(event)
        case CandidateRaced(survived=True):
            over = words.count(event.items, "training item")
            where = f"branch {event.branch + 1}, step {event.step}"
            return (
                f"{where}: accepted a prompt with {event.mean:.2f}, its parent has {event.parent_mean:.2f}, on {over}"
            )
        case StepFinished(skipped=str(reason)):
            return f"branch {event.branch + 1}, step {event.step}: skipped, {words.one_line(reason)}"
        case FinalistScored():
            return f"finalist {event.candidate} on dev: {words.score(event.score)}"
        case SplitTested():
            return f"{event.which} prompt on test: {words.score(event.score)}"
        case BeamSelected(step=step) if step:
            return f"step {step}: {words.count(len(event.candidates), 'prompt')} kept"
        case BenchStarted():
            done = f", {event.done} of them done before" if event.done else ""
            return f"benchmark {event.bench}, run {event.run_id}: {words.count(event.cells, 'cell')}{done}"
        case CellFinished():
            return _cell(event)
        case RunFinished():
            return f"{event.status}: {event.stop_reason}"
        case _:
            return None


def _started(event: RunStarted) -> str:
    optimizer = "" if event.optimizer_model == event.model else f", optimizer {event.optimizer_model}"
    if event.search_calls is None:
        shape = words.shape(event.branches, event.steps)
    else:
        shape = f"{words.count(event.search_calls, 'call')} for the search"
    return (
        f"run {event.run_id}: method {event.method} ({words.one_line(event.why)}), model {event.model}{optimizer}, "
        f"metric {event.metric}, {event.train} train, {event.dev} dev and {event.test} test items, "
        f"{shape}"
    )


def _cell(event: CellFinished) -> str:
    if event.status != "completed":
        return f"{event.cell}: {event.status}, {words.one_line(event.reason)}"
    return (
        f"{event.cell}: test {words.mean(event.seed_test)} with the seed prompt, {words.mean(event.test)} with the best"
    )


def _phase(event: PhaseStarted) -> str:
    unit = "steps" if event.phase == "search" else "answers"
    return f"now: {PHASES[event.phase]}" + (f" ({event.total:,} {unit})" if event.total else "")


@dataclass(frozen=True, slots=True)
class Lines:
    """Prints one line for each notable event."""

    console: Console

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(words.one_line(text)), soft_wrap=True)

    async def follow(self, run: ObservedRun) -> None:
        """Print the run's notable events until it is over."""
        async for event in run:
            if line := describe(event):
                self.say(f"[{run.usage().wall_s:.1f} s] {line}")


@dataclass(frozen=True, slots=True)
class NoProgress:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Print nothing."""

    async def follow(self, run: ObservedRun) -> None:
        """Wait for the run's end."""
        async for _ in run:
            pass


@dataclass(slots=True)
class Speed:
    """Measures the speed of a run. Times are seconds of one clock; answers include cached ones."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)
    phase: str = "setup"
    total: int = 0
    began: float = 0.0
    answers: int = 0

    def begin_phase(self, event: PhaseStarted, now: float, usage: UsageResult) -> None:
        """Record that a phase begins."""
        self.phase, self.total = event.phase, event.total
        self.began, self.answers = now, usage.calls + usage.cached_calls

    def record(self, now: float, usage: UsageResult) -> None:
        """Record the number of calls at this time."""
        self.samples.append((now, usage.calls))
        while now - self.samples[0][0] > RATE_SECONDS:
            self.samples.popleft()

    def rate(self) -> float:
        """Return the calls a second of the last ten seconds."""
        if not self.samples:
            return 0.0
        (start, before), (end, after) = self.samples[0], self.samples[-1]
        return (after - before) / (end - start) if end > start else 0.0

    def answered(self, usage: UsageResult) -> int:
        """Return the answers of this phase."""
        return usage.calls + usage.cached_calls - self.answers

    def seconds_left(self, state: RunState, usage: UsageResult, now: float) -> float | None:
        """Return roughly how many more seconds the run takes, None while that is not known.

        This assumes that a step takes as long as the steps so far, that an answer takes as long as those of this
        phase so far, and that three finalists are scored on the dev items.
        """
        spent, answered = now - self.began, self.answered(usage)
        if state.cells is not None:
            return None
        if spent <= 0 or not answered:
            return None
        rest = spent / answered * _answers_after(self.phase, state)
        if self.phase != "search":
            return spent / answered * max(0, self.total - answered) + rest
        if not state.steps_done:
            return None
        return spent / state.steps_done * max(0, self.total - state.steps_done) + rest


def _answers_after(phase: str, state: RunState) -> int:
    started = state.started
    if started is None or phase in {"look", "test", "explain"}:
        return 0
    return 2 * started.test + (3 * started.dev if phase == "search" else 0)


@dataclass(slots=True)
class LiveState:
    """The data that a live view shows about a run. ``clock`` counts seconds."""

    run: ObservedRun
    clock: Callable[[], float]
    state: RunState = field(default_factory=RunState)
    speed: Speed = field(default_factory=Speed)

    def update(self, event: Event) -> None:
        """Bring the state up to date with an event."""
        if isinstance(event, PhaseStarted):
            self.speed.begin_phase(event, self.clock(), self.run.usage())
        self.state = advance(self.state, event)

    def panel(self) -> Table:
        """Return a table of the run's phase, findings, calls, cost and time."""
        usage, now = self.run.usage(), self.clock()
        self.speed.record(now, usage)
        left = self.speed.seconds_left(self.state, usage, now)
        rest = "not known yet" if left is None else words.roughly(left)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(self.state.phase, Text(self._where(usage)))
        if self.state.started is not None:
            table.add_row("found", Text(self._found()))
        table.add_row("asked", Text(f"{words.calls(usage)}, {self.speed.rate():.1f} calls/s"))
        table.add_row("spent", Text(f"{words.tokens(usage)}, {words.money(usage.usd)}"))
        table.add_row("time", Text(f"{duration(usage.wall_s)}, left: {rest}"))
        return table

    def _where(self, usage: UsageResult) -> str:
        state, total = self.state, self.speed.total
        if state.cells is not None:
            return f"{state.cells[0]} of {words.count(state.cells[1], 'cell')} done"
        if state.phase not in PHASES:
            return "getting ready" if state.phase == "setup" else "done"
        if state.phase != "search":
            return f"{PHASES[state.phase]}: {min(self.speed.answered(usage), total):,} of {total:,} answers"
        steps = state.started.steps if state.started else 0
        branches = ", ".join(f"{branch + 1}: {step}/{steps}" for branch, step in state.branch_steps[:MAX_BRANCHES])
        more = ", ..." if len(state.branch_steps) > MAX_BRANCHES else ""
        return f"{state.steps_done} of {total} steps done (branch: step {branches}{more})"

    def _found(self) -> str:
        dev, best, started = self.state.seed_dev, self.state.best_mean, self.state.started
        seed = "not scored yet" if dev is None else f"{words.mean(dev.mean)} on dev"
        where = "dev" if started is not None and started.chosen_on == "dev" else "training items"
        found = "none better yet" if best is None else f"{words.mean(best)} on {where}"
        return f"seed {seed}; best so far {found}; {self.state.candidates} candidates tried"


@dataclass(frozen=True, slots=True)
class LiveView:
    """Shows the state of a run at the foot of the terminal, and its notable events above.

    ``clock`` counts seconds; the state is drawn again after each ``sleep``.
    """

    console: Console
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    def say(self, text: str) -> None:
        """Print a line above the state."""
        self.console.print(Text(words.one_line(text)))

    async def follow(self, run: ObservedRun) -> None:
        """Show the run until it is over, and then remove the state from the terminal."""
        state = LiveState(run, self.clock)
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._draw, live, state)
                async for event in run:
                    state.update(event)
                    if line := describe(event):
                        self.say(line)
                tasks.cancel_scope.cancel()

    async def _draw(self, live: Live, state: LiveState) -> None:
        while True:
            live.update(state.panel(), refresh=True)
            await self.sleep(REFRESH_SECONDS)
