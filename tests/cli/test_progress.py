"""Tests of progress: plain lines, the live view, and the estimate of the remaining time, with a fake clock."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import anyio
import pytest
from rich.console import Console

from lpo_agent.cli.progress import Lines, LiveState, LiveView, NoProgress, Speed, describe
from lpo_agent.core.scores import Scored, summarize
from lpo_agent.events import (
    CandidateRaced,
    Event,
    FinalistScored,
    Marked,
    PhaseStarted,
    RunFinished,
    RunStarted,
    RunState,
    SeedScored,
    SplitTested,
    StepFinished,
    StepStarted,
)
from lpo_agent.results import UsageResult
from lpo_agent.search.methods.base import METHODS
from lpo_agent.search.methods.choosing import full
from lpo_agent.spec import make_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCORE = summarize([Scored(value=value, output="") for value in (1.0, 0.0, 0.0, 1.0)])
STARTED = RunStarted(
    run_id="r1",
    method="local-search",
    why="the model cannot tag",
    model="local:small",
    optimizer_model="openai:big",
    metric="exact",
    train=30,
    dev=20,
    test=40,
    branches=2,
    steps=3,
    seed_prompt="Say which queue.",
)
EVENTS: list[Event] = [
    STARTED,
    PhaseStarted(phase="search", total=6),
    SeedScored(score=SCORE),
    StepStarted(branch=0, step=1, parent="p"),
    Marked(branch=0, step=1, rendered="<edit>Say</edit> it", spans=1, tagged_fraction=0.5),
    CandidateRaced(branch=0, step=1, candidate="c", mean=0.75, parent_mean=0.5, items=8, survived=True),
    CandidateRaced(branch=0, step=1, candidate="d", mean=0.1, parent_mean=0.5, items=8, survived=False),
    StepFinished(branch=0, step=1, accepted="c", text="Say it.", mean=0.75),
    StepFinished(branch=1, step=1, accepted=None, skipped="no reply\nof use \x1b[2J"),
    PhaseStarted(phase="confirm", total=40),
    FinalistScored(candidate="c", score=SCORE),
    PhaseStarted(phase="test", total=80),
    SplitTested(which="seed", score=SCORE),
    SplitTested(which="best", score=SCORE),
    RunFinished(status="completed", stop_reason="all steps done", verdict="improved"),
]
FIRST = (
    "run r1: method local-search (the model cannot tag), model local:small, optimizer openai:big, metric exact, "
    "30 train, 20 dev and 40 test items, 2 branches x 3 steps"
)
LINES = [
    FIRST,
    "now: search (6 steps)",
    "seed prompt on dev: 0.50 on 4 items (95 % 0.15..0.85)",
    "branch 1, step 1: accepted a prompt with 0.75, its parent has 0.50, on 8 training items",
    "branch 2, step 1: skipped, no reply of use \\u001b[2J",
    "now: the best prompts on the dev items (40 answers)",
    "finalist c on dev: 0.50 on 4 items (95 % 0.15..0.85)",
    "now: the test items (80 answers)",
    "seed prompt on test: 0.50 on 4 items (95 % 0.15..0.85)",
    "best prompt on test: 0.50 on 4 items (95 % 0.15..0.85)",
    "completed: all steps done",
]


def spent(calls: int = 0, cached: int = 0, seconds: float = 0.0, usd: float | None = 0.0) -> UsageResult:
    return UsageResult(
        calls=calls,
        cached_calls=cached,
        failed_calls=0,
        input_tokens=10 * calls,
        output_tokens=calls,
        usd=usd,
        wall_s=seconds,
    )


@dataclass
class FakeRun:
    """Yields events; after the last one it lets the test look before it ends."""

    events: list[Event]
    books: UsageResult = field(default_factory=spent)
    over: anyio.Event | None = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self.events:
            yield event
        if self.over is not None:
            await self.over.wait()

    def usage(self) -> UsageResult:
        return self.books


def test_each_notable_event_gets_a_line() -> None:
    assert [line for event in EVENTS if (line := describe(event))] == LINES


@pytest.mark.anyio
async def test_plain_lines_carry_the_time_and_are_never_broken() -> None:
    stream = io.StringIO()
    await Lines(Console(file=stream, width=40)).follow(FakeRun(EVENTS, spent(seconds=1.25)))
    assert stream.getvalue().splitlines() == [f"[1.2 s] {line}" for line in LINES]


@pytest.mark.anyio
async def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    view = NoProgress()
    view.say("something")
    await view.follow(FakeRun(EVENTS))
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.anyio
async def test_the_live_view_is_drawn_after_every_sleep_and_leaves_only_lines() -> None:
    stream, ticks, now = io.StringIO(), anyio.Semaphore(0), [0.0]
    run = FakeRun(EVENTS[:8], spent(calls=10), over=anyio.Event())

    async def sleep(_: float) -> None:
        await ticks.acquire()

    console = Console(file=stream, width=100, force_terminal=True, color_system=None, legacy_windows=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(LiveView(console, lambda: now[0], sleep).follow, run)
        await anyio.wait_all_tasks_blocked()
        now[0], run.books = 5.0, spent(calls=110, cached=7, seconds=5.0, usd=None)
        stream.truncate(0)
        ticks.release()
        await anyio.wait_all_tasks_blocked()
        drawn = stream.getvalue()
        assert run.over is not None
        run.over.set()
    assert "110 calls, 7 cached, 0 failed, 20.0 calls/s" in drawn
    assert "1 of 6 steps done" in drawn
    assert "best so far 0.75 on training items; 2 candidates tried" in drawn
    assert "1,100 tokens in, 110 out, price unknown" in drawn
    assert "left: ~" in drawn
    assert stream.getvalue().endswith("\x1b[2K")


def test_a_view_shows_unknown_values_as_unknown() -> None:
    state = LiveState(FakeRun([]), lambda: 0.0)
    stream = io.StringIO()
    Console(file=stream, width=100).print(state.panel())
    assert "getting ready" in stream.getvalue()
    assert "left: not known yet" in stream.getvalue()


@pytest.mark.parametrize(("split", "shown"), [("train", "0.75 on training items"), ("dev", "0.75 on dev")])
def test_the_best_score_is_shown_with_its_split(split: Literal["train", "dev"], shown: str) -> None:
    state = LiveState(FakeRun([]), lambda: 0.0)
    for event in (STARTED.model_copy(update={"chosen_on": split}), *EVENTS[1:8]):
        state.update(event)
    stream = io.StringIO()
    Console(file=stream, width=120).print(state.panel())
    assert f"best so far {shown};" in stream.getvalue()


def test_a_plan_names_the_split_that_its_method_chooses_on() -> None:
    def chosen_on(method: str, **numbers: str) -> str:
        spec = make_spec({"prompt": "x", "model": "openai:x", "method": method, "method_options": numbers})
        return full(METHODS.load(method)).plan(spec).chosen_on

    assert [chosen_on(method) for method in ("lpo", "local-search", "ape", "apo")] == ["train", "train", "dev", "dev"]
    assert chosen_on("apo", select_on="train") == "train"


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    speed = Speed()
    assert speed.rate() == 0.0
    for second in range(101):
        speed.record(float(second), spent(calls=1000 if second < 90 else 1000 + 5 * (second - 90)))
    assert speed.rate() == pytest.approx(5.0)


def test_time_left_in_the_search_counts_steps_and_the_end() -> None:
    speed = Speed()
    speed.begin_phase(PhaseStarted(phase="search", total=6), 100.0, spent(calls=50))
    nothing_done = RunState(started=STARTED)
    assert speed.seconds_left(nothing_done, spent(calls=150), 110.0) is None
    half = RunState(started=STARTED, steps_done=3)
    end = (2 * 40 + 3 * 20) * (10.0 / 100)
    assert speed.seconds_left(half, spent(calls=150), 110.0) == pytest.approx(10.0 + end)


def test_time_left_at_the_end_counts_answers() -> None:
    speed = Speed()
    speed.begin_phase(PhaseStarted(phase="confirm", total=40), 0.0, spent(calls=5, cached=5))
    state = RunState(started=STARTED, phase="confirm")
    assert speed.seconds_left(state, spent(calls=5, cached=5), 1.0) is None
    assert speed.seconds_left(state, spent(calls=20, cached=10), 10.0) == pytest.approx((20 + 80) * 0.5)
    speed.begin_phase(PhaseStarted(phase="test", total=80), 10.0, spent(calls=20))
    assert speed.seconds_left(state, spent(calls=60), 20.0) == pytest.approx(10.0)
    assert speed.seconds_left(RunState(), spent(calls=200), 20.0) == 0.0
