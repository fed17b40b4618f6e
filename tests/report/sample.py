"""Sample runs for tests: with every part, or as large as a long run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from lpo_agent.core.events import CandidateRaced, Proposed, RunStarted, StepFinished, StepStarted
from lpo_agent.core.messages import Row
from lpo_agent.core.result import (
    BestResult,
    EditResult,
    FrontPoint,
    LocalityResult,
    PowerResult,
    RunResult,
    SearchResult,
    SeedResult,
    SpanResult,
    TestDelta,
    UsageResult,
)
from lpo_agent.core.scores import Scored, summarize
from lpo_agent.core.text import Prompt, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.events import Event
    from lpo_agent.core.scores import Score

SEED = (
    "You are a helpful assistant.\n\nRead the customer's message and decide which team should answer it. "
    "Think about it for a while. Be friendly. Reply with the team.\n\nMessage: {input}"
)
EDITS = (
    ("helpful assistant", "support dispatcher", 0.04, (-0.03, 0.11)),
    ("Think about it for a while.", "Go by what the customer wants done, not by the words used.", 0.19, (0.11, 0.27)),
    ("Be friendly. ", "", 0.02, (-0.04, 0.08)),
    ("Reply with the team.", "Reply with one word: billing, delivery, technical or other.", -0.03, (-0.09, 0.03)),
)


def score(right: int, wrong: int, unscored: int = 0) -> Score:
    found = summarize([Scored(value=1.0, output="")] * right + [Scored(value=0.0, output="")] * wrong)
    return found.model_copy(update={"unscored": unscored})


def edited(seed: str = SEED) -> tuple[str, tuple[EditResult, ...]]:
    """Return the found prompt and its edits."""
    edits = []
    for old, new, worth, ci in EDITS:
        at = seed.index(old)
        edits.append(EditResult(start=at, end=at + len(old), old=old, new=new, worth=worth, ci95=ci, n=96))
    text = seed
    for edit in reversed(edits):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text, tuple(edits)


def spans(seed: str = SEED) -> tuple[SpanResult, ...]:
    """Return places that were edited."""
    found = [("helpful assistant", 6, 2, 0.021), ("decide which team", 3, 0, -0.04), ("Be friendly.", 2, 1, 0.008)]
    found += [("Think about it for a while.", 14, 9, 0.113), ("Reply with the team.", 7, 4, 0.052)]
    places = [
        SpanResult(start=seed.index(text), end=seed.index(text) + len(text), tried=tried, paid=paid, gain=gain)
        for text, tried, paid, gain in found
    ]
    end = seed.index("Reply with the team.") + len("Reply with the team.")
    places.append(SpanResult(start=end, end=end, tried=5, paid=1, gain=-0.012))
    return tuple(sorted(places, key=lambda place: (place.start, place.end)))


def curve(points: int = 40) -> tuple[tuple[int, float], ...]:
    rng, best, calls, found = random.Random(3), 0.4267, 40, []
    for _ in range(points):
        found.append((calls, best))
        calls += rng.randrange(20, 80)
        best = min(0.9, best + (rng.random() < 0.3) * rng.random() * 0.09)
    return tuple(found)


def full(**changes: Any) -> RunResult:
    """Return a result with every part."""
    best, edits = edited()
    line = curve()
    short = "Which team should answer this? Reply with one word: billing, delivery, technical or other.\n{input}"
    values: dict[str, Any] = {
        "run_id": "20261123-070000-abcd",
        "status": "completed",
        "stop_reason": "all steps done",
        "verdict": "improved",
        "seed": SeedResult(prompt=SEED, dev=score(32, 43), test=score(64, 85, 1)),
        "best": BestResult(
            prompt=best, dev=score(61, 14), test=score(113, 36, 1), marked_parent=render(SEED, []), step=7, edits=edits
        ),
        "test_delta": TestDelta(mean=0.3289, ci95=(0.2311, 0.4266), p_value=0.0000042, n=149),
        "confirmation": TestDelta(mean=0.2933, ci95=(0.1312, 0.4554), p_value=0.0017, n=38),
        "front": (
            FrontPoint(prompt=best, dev=score(61, 14), words=42, tokens=118.25),
            FrontPoint(prompt=short, dev=score(55, 20), words=15, tokens=64.5),
            FrontPoint(prompt=SEED, dev=score(32, 43), words=31, tokens=60.75),
        ),
        "power": PowerResult(looked_for=0.1, test_n=150, shows=0.1152, needed=199, discordant=0.25),
        "locality": LocalityResult(
            checked=9, violations=0, tagged_fraction=0.312, length_ratio=1.355, proposals=64, lost=3, tag_replies=30
        ),
        "search": SearchResult(
            candidates=61,
            best_step=7,
            seed_was_best=False,
            scorings=1820,
            optimizer_calls=71,
            calls=1891,
            calls_to={"50%": 410, "90%": 1377, "100%": 1650},
            curve=line,
            curve_on="train",
            spans=spans(),
        ),
        "usage": UsageResult(
            calls=2190,
            cached_calls=412,
            failed_calls=3,
            input_tokens=261_904,
            output_tokens=18_211,
            usd=0.08312,
            wall_s=142.118,
            unsure_tokens=310,
            unsure_usd=0.00011,
        ),
        "method": "lpo",
        "notes": ("3 rows stood in test too and were dropped from train", "the budget left no room for demonstrations"),
    }
    return RunResult(**(values | changes))


def started(seed: str = SEED, **changes: Any) -> RunStarted:
    return RunStarted(
        run_id="20261123-070000-abcd",
        method="lpo",
        why="asked for",
        model="openai:small-1",
        optimizer_model="openai:large-2",
        metric="exact",
        train=96,
        dev=75,
        test=150,
        branches=4,
        steps=8,
        seed_prompt=seed,
    ).model_copy(update=changes)


def search(best: str, *, steps: int = 8, branches: int = 2, each: int = 4, filler: str = "") -> list[Event]:
    """Return the events of a search of lpo's kind, the best prompt accepted in its last step but one."""
    rng = random.Random(7)
    parents = {branch: (Prompt(text=SEED).id, 0.43) for branch in range(branches)}
    log: list[Event] = [started()]
    for step in range(1, steps + 1):
        for branch in range(branches):
            parent, mean = parents[branch]
            log.append(StepStarted(branch=branch, step=step, parent=parent))
            children = [f"{filler}try {step}.{branch}.{number}" for number in range(each)]
            if (step, branch) == (steps - 1, 0):
                children[0] = best
            wins = (step, branch) == (steps - 1, 0) or rng.random() < 0.45
            log += _raced(rng, (step, branch), (parent, mean), children, wins=wins)
            accepted = Prompt.model_construct(text=children[0]).id if wins else None
            log.append(StepFinished(branch=branch, step=step, accepted=accepted, text=children[0] if wins else None))
            if accepted:
                parents[branch] = accepted, min(0.95, mean + 0.07)
    return log


def _raced(
    rng: random.Random, at: tuple[int, int], above: tuple[str, float], children: Sequence[str], *, wins: bool
) -> list[Event]:
    (step, branch), (parent, mean) = at, above
    made: list[Event] = []
    for number, text in enumerate(children):
        won = wins and number == 0
        made.append(
            Proposed(
                step=step,
                branch=branch,
                parent=parent,
                candidate=Prompt.model_construct(text=text).id,
                purpose="mend",
                locality="enforce",
                fallback=False,
                replies=1,
                malformed=0,
                measures=None,
            )
        )
        made.append(
            CandidateRaced(
                branch=branch,
                step=step,
                candidate=Prompt.model_construct(text=text).id,
                mean=min(0.95, mean + 0.07) if won else max(0.0, mean - rng.random() * 0.3),
                parent_mean=mean,
                items=96 if won else rng.randrange(8, 96),
                survived=won,
                parent=parent,
                text=text,
                fate=rng.choice(["finished", "promoted"])
                if won
                else rng.choice(["dropped", "dropped", "outrun", "finished"]),
                note="crossover" if won and branch else "",
            )
        )
    return made


def rows(
    number: int = 150, text: str = "Where is my parcel? It should have been here {n} days ago & I'm waiting."
) -> list[Row]:
    teams = ("billing", "delivery", "technical", "other")
    return [
        Row(id=f"item:{n}", variables={"input": text.replace("{n}", str(n))}, target=teams[n % 4])
        for n in range(number)
    ]


def outcomes(test: Sequence[Row], old: str, new: str, output: str = "") -> dict[str, dict[str, Scored]]:
    """Return seeded scores: the new prompt is right more often."""
    rng = random.Random(11)
    found: dict[str, dict[str, Scored]] = {old: {}, new: {}}
    for row in test:
        for text, chance in ((old, 0.43), (new, 0.76)):
            right = rng.random() < chance
            said = output or (row.target if right else "I would ask the delivery team, gladly!")
            found[text][row.id] = Scored(value=float(right), output=said)
    return found
