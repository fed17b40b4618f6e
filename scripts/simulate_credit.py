#!/usr/bin/env python3
"""Checks by simulation whether attribution and credit find the only place of a prompt where an edit helps.

Attribution: complete searches with a scripted model whose score depends on one known place of the prompt; other edits
are accepted by chance only. Is the edit with the highest measured worth at that place?

Credit: edits help at one place only, and there in a quarter of the cases. How many answers are needed until three edits
there have helped, if places are chosen by learned credit, and if they are chosen uniformly?

    python scripts/simulate_credit.py [--runs 100]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import open_session
from lpo_agent.agents.marker import InfluenceMarker, RandomMarker
from lpo_agent.core.credit import Try, learned
from lpo_agent.core.influence import insertion_points, phrases
from lpo_agent.core.messages import Critique, MarkAsk
from lpo_agent.core.text import Prompt
from lpo_agent.environment import Environment

if TYPE_CHECKING:
    from lpo_agent.core.messages import Marks
    from lpo_agent.models.base import Call

MODEL = f"scripted:{Path(__file__).resolve()}:poet"
BARREN = "Kindly have a look at the note that is given below. Take all the time that you need."
PLANTED = "Write a long and lovely poem about it."
PROMPT = f"{BARREN} {PLANTED} Thank you for all that you do.\n\nNote: {{input}}"
SIZES: Final[dict[str, Any]] = {"branches": 3, "steps": 4, "proposals": 4, "race_items": 24}
ITEMS = 120
RACED, PAYS, GAIN = 16, 0.25, 0.4
"""The items of a race, and how often and how much an edit at the planted place helps."""


def poet(call: Call) -> str:
    """Answer 90 % of the items correctly if the request for a long poem was changed, otherwise 30 %."""
    text = "\n".join(turn.content for turn in call.turns)
    toss = hashlib.blake2b(text.encode()).digest()[0] / 256
    number = text.rpartition("Note: ")[2].partition("\n")[0].rpartition(" ")[2]
    return number if toss < (0.3 if "long and lovely poem" in text else 0.9) else "a rose"


async def named(runs: int, home: Path) -> tuple[int, int, int]:
    """Return the runs that edited the planted place, those that rank it highest, and the other accepted edits."""
    found = right = others = 0
    start = PROMPT.index("long and lovely poem")
    end = start + len("long and lovely poem")
    async with open_session(env=Environment(home), model=MODEL) as session:
        for seed in range(runs):
            rows = [{"input": f"lot {seed} holds {number}", "target": str(number)} for number in range(ITEMS)]
            result = await session.optimize(PROMPT, rows, metric="exact", method="local-search", seed=seed, **SIZES)
            edits = [edit for edit in result.best.edits if edit.worth is not None]
            if "long and lovely poem" in result.best.prompt or not edits:
                continue
            best = max(edits, key=lambda edit: edit.worth or 0.0)
            found, others = found + 1, others + len(edits) - 1
            right += best.start < end and best.end > start
    return found, right, others


async def answers_until_found(marker: InfluenceMarker | RandomMarker, seed: int, *, paying: int = 3) -> int:
    """Return the number of answers until ``paying`` edits at the planted place have helped."""
    prompt, rng = Prompt(text=PROMPT), random.Random(seed)
    planted = next(span for span in phrases(prompt) if "lovely" in span.of(PROMPT))
    tries: list[Try] = []
    asked = paid = 0
    while paid < paying:
        marks = await _marked(marker, prompt, tries, seed * 100_000 + asked)
        for _ in range(4):
            place = rng.choice([mark.span for mark in marks.marks])
            pays = place == planted and rng.random() < PAYS
            gain = rng.gauss(GAIN if pays else 0.0, 0.5 / RACED**0.5)
            tries.append(Try(place, str(asked), gain, RACED))
            asked, paid = asked + RACED, paid + pays
    return asked


async def _marked(marker: InfluenceMarker | RandomMarker, prompt: Prompt, tries: list[Try], seed: int) -> Marks:
    known = tuple(learned(prompt, prompt, tries))
    return await marker.mark(MarkAsk(prompt=prompt, critique=Critique(text=""), credits=known, budget=4, seed=seed))


async def compared(runs: int) -> tuple[list[int], list[int]]:
    """Return the answers needed with credit and with uniform choice, for each run."""
    by_credit = [await answers_until_found(InfluenceMarker(), seed) for seed in range(runs)]
    uniform = [await answers_until_found(RandomMarker(), seed) for seed in range(runs)]
    return by_credit, uniform


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as home:
        found, right, others = anyio.run(named, runs, Path(home))
    print(f"{runs} searches: the planted place was edited in {found}, with {others} other edits kept by luck;")
    print(f"of these, attribution names it in {right} ({right / found:.1%})")
    by_credit, uniform = anyio.run(compared, runs)
    prompt = Prompt(text=PROMPT)
    places = len(phrases(prompt)) + len(insertion_points(prompt))
    print(f"answers until the planted one of {places} places has paid three times, median of {runs} runs:")
    print(f"by credit {median(by_credit):,.0f}, uniformly {median(uniform):,.0f}, ", end="")
    print(f"ratio {median(by_credit) / median(uniform):.2f}")


if __name__ == "__main__":
    main()
