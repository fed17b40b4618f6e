#!/usr/bin/env python3
"""Runs complete searches in which no prompt is better than another, and counts the runs that report `improved`.

Whether an answer is correct is random for each pair of prompt and input. Every run is complete: marks, edits, races,
choice, confirmation, test, verdict. A two-sided verdict at the 5 % level is wrong in favour of the new prompt in
at most 2.5 % of the runs.

    python scripts/simulate_noise.py [--runs 200] [--method local-search] [--rate 0.5]
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import open_session
from lpo_agent.environment import Environment

if TYPE_CHECKING:
    from lpo_agent.models.base import Call

MODEL = f"scripted:{Path(__file__).resolve()}:coin"
PROMPT = "Read the note with care. Say what it is about, in few words.\n\nNote: {input}\nAnswer:"
SIZES: Final[dict[str, Any]] = {"branches": 2, "steps": 3, "proposals": 4, "race_items": 24}
ITEMS = 150
RIGHT_IN_16 = 8
"""The number of correct answers out of 16, for every prompt."""


def coin(call: Call) -> str:
    """Answer an example correctly or not, decided by a hash of the whole text."""
    text = "\n".join(turn.content for turn in call.turns)
    toss = hashlib.blake2b(text.encode()).digest()[0] % 16
    number = text.rpartition("Note: ")[2].partition("\n")[0].rpartition(" ")[2]
    return number if toss < RIGHT_IN_16 else "none"


def examples(seed: int) -> list[dict[str, str]]:
    """Return examples that differ from those of all other seeds."""
    return [{"input": f"lot {seed} holds {number}", "target": str(number)} for number in range(ITEMS)]


async def verdicts(runs: int, method: str, home: Path) -> list[str]:
    """Return the verdict of each run."""
    found: list[str] = [""] * runs

    async with open_session(env=Environment(home), model=MODEL) as session:

        async def one(seed: int, limit: anyio.CapacityLimiter) -> None:
            async with limit:
                result = await session.optimize(
                    PROMPT, examples(seed), metric="exact", method=method, seed=seed, **SIZES
                )
            found[seed] = result.verdict

        async with anyio.create_task_group() as tasks:
            limit = anyio.CapacityLimiter(4)
            for seed in range(runs):
                tasks.start_soon(one, seed, limit)
    return found


def main() -> None:
    """Print the share of wrong verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--method", default="local-search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = anyio.run(verdicts, options.runs, options.method, Path(home))
    wrong = found.count("improved")
    share = f"{wrong / len(found):.1%}"
    print(f"{options.runs} runs of {options.method} with nothing to gain: {wrong} report improved ({share})")


if __name__ == "__main__":
    main()
