"""A run's progress on standard error: a live view on a terminal, plain lines elsewhere.

Both are observers of the run's events. What they say about a run comes from the fold of its events
(:mod:`lpo_agent.core.state`) and from the run's own books; they keep nothing else but the time.
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
from lpo_agent.core.beam_options import BEAM_METHODS
from lpo_agent.core.events import (
    BeamSelected,
    BenchStarted,
    CandidateRaced,
    CellFinished,
    FinalistScored,
    PhaseStarted,
    RunFinished,
    RunStarted,
    SeedScored,
    SplitTested,
    StepFinished,
)
from lpo_agent.core.state import RunState, advance
from lpo_agent.report import markup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rich.console import Console

    from lpo_agent.core.events import Event
    from lpo_agent.core.result import UsageResult

REFRESH: Final = 0.2
WINDOW: Final = 10.0
SHOWN: Final = 8
PHASES: Final = {
    "search": "search",
    "confirm": "the best prompts on the dev items",
    "test": "the test items",
    "explain": "what each edit is worth",
}


class Watched(Protocol):
    """What a view needs of a run."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events until the run is over."""
        ...

    def usage(self) -> UsageResult:
        """Return what was spent so far."""
        ...


def describe(event: Event) -> str | None:  # noqa: C901, PLR0911 - one line an event
    """Return one line about an event, or None for one that is not worth a line."""
    match event:
        case RunStarted():
            return _started(event)
        case SeedScored():
            return f"seed prompt on dev: {words.score(event.score)}"
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
    return (
        f"run {event.run_id}: method {event.method} ({words.one_line(event.why)}), model {event.model}{optimizer}, "
        f"metric {event.metric}, {event.train} train, {event.dev} dev and {event.test} test items, "
        f"{words.shape(event.method, event.branches, event.steps)}"
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
    """One line for each notable fact."""

    console: Console

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(words.one_line(text)), soft_wrap=True)

    async def follow(self, run: Watched) -> None:
        """Print the run's notable facts until it is over."""
        async for event in run:
            if line := describe(event):
                self.say(f"[{run.usage().wall_s:.1f} s] {line}")


@dataclass(frozen=True, slots=True)
class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Swallow a line."""

    async def follow(self, run: Watched) -> None:
        """Wait for the run's end."""
        async for _ in run:
            pass


@dataclass(slots=True)
class Pace:
    """How fast a run goes. Times are seconds of one clock; answers count cached ones too."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)
    phase: str = "setup"
    total: int = 0
    began: float = 0.0
    answers: int = 0

    def enter(self, event: PhaseStarted, now: float, usage: UsageResult) -> None:
        """Note that a phase begins."""
        self.phase, self.total = event.phase, event.total
        self.began, self.answers = now, usage.calls + usage.cached_calls

    def sample(self, now: float, usage: UsageResult) -> None:
        """Note where the books stand."""
        self.samples.append((now, usage.calls))
        while now - self.samples[0][0] > WINDOW:
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

    def left(self, state: RunState, usage: UsageResult, now: float) -> float | None:
        """Return the seconds that the run may still take, or None while there is no telling.

        Rough: steps to come are taken to last as long as those done, answers as long as in the
        phase so far, and three finalists are taken to reach the dev items.
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
    if started is None or phase in {"test", "explain"}:
        return 0
    return 2 * started.test + (3 * started.dev if phase == "search" else 0)


@dataclass(slots=True)
class Picture:
    """What a live view shows of a run at one time. ``clock`` counts seconds."""

    run: Watched
    clock: Callable[[], float]
    state: RunState = field(default_factory=RunState)
    pace: Pace = field(default_factory=Pace)

    def note(self, event: Event) -> None:
        """Take an event in."""
        if isinstance(event, PhaseStarted):
            self.pace.enter(event, self.clock(), self.run.usage())
        self.state = advance(self.state, event)

    def panel(self) -> Table:
        """Return where the run is, what it found, what it spent, and how long it may take."""
        usage, now = self.run.usage(), self.clock()
        self.pace.sample(now, usage)
        left = self.pace.left(self.state, usage, now)
        rest = "not known yet" if left is None else words.roughly(left)
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold cyan", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(self.state.phase, Text(self._where(usage)))
        if self.state.started is not None:
            table.add_row("found", Text(self._found()))
        table.add_row("asked", Text(f"{words.calls(usage)}, {self.pace.rate():.1f} calls/s"))
        table.add_row("spent", Text(f"{words.tokens(usage)}, {words.money(usage.usd)}"))
        table.add_row("time", Text(f"{markup.duration(usage.wall_s)}, left: {rest}"))
        return table

    def _where(self, usage: UsageResult) -> str:
        state, total = self.state, self.pace.total
        if state.cells is not None:
            return f"{state.cells[0]} of {words.count(state.cells[1], 'cell')} done"
        if state.phase not in PHASES:
            return "getting ready" if state.phase == "setup" else "done"
        if state.phase != "search":
            return f"{PHASES[state.phase]}: {min(self.pace.answered(usage), total):,} of {total:,} answers"
        steps = state.started.steps if state.started else 0
        branches = ", ".join(f"{branch + 1}: {step}/{steps}" for branch, step in state.branch_steps[:SHOWN])
        more = ", ..." if len(state.branch_steps) > SHOWN else ""
        return f"{state.steps_done} of {total} steps done (branch: step {branches}{more})"

    def _found(self) -> str:
        dev, best = self.state.seed_dev, self.state.best_mean
        seed = "not scored yet" if dev is None else f"{words.mean(dev.mean)} on dev"
        where = "dev" if self.state.started and self.state.started.method in BEAM_METHODS else "training items"
        found = "none better yet" if best is None else f"{words.mean(best)} on {where}"
        return f"seed {seed}; best so far {found}; {self.state.candidates} candidates tried"


@dataclass(frozen=True, slots=True)
class LiveView:
    """The state of a run at the foot of the terminal, its notable facts above.

    ``clock`` counts seconds; the view is drawn anew after each ``sleep``.
    """

    console: Console
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    def say(self, text: str) -> None:
        """Print a line above the view."""
        self.console.print(Text(words.one_line(text)))

    async def follow(self, run: Watched) -> None:
        """Show the run until it is over; nothing of the view itself remains."""
        picture = Picture(run, self.clock)
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._draw, live, picture)
                async for event in run:
                    picture.note(event)
                    if line := describe(event):
                        self.say(line)
                tasks.cancel_scope.cancel()

    async def _draw(self, live: Live, picture: Picture) -> None:
        while True:
            live.update(picture.panel(), refresh=True)
            await self.sleep(REFRESH)
