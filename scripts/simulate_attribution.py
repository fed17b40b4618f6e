#!/usr/bin/env python3
"""Plants one edit that pays and looks whether the search can tell which it was.

Whole searches with a scripted model that rewards one known place of the prompt and nothing else; other edits are kept
by luck. Is the edit that is said to be worth most at that place?

    python scripts/simulate_attribution.py [--runs 100]
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import open_session
from lpo_agent.environment import Environment

if TYPE_CHECKING:
    from lpo_agent.models.base import Call

MODEL = f"scripted:{Path(__file__).resolve()}:poet"
BARREN = "Kindly have a look at the note that is given below. Take all the time that you need."
PLANTED = "Write a long and lovely poem about it."
PROMPT = f"{BARREN} {PLANTED} Thank you for all that you do.\n\nNote: {{input}}"
SIZES: dict[str, Any] = {"branches": 3, "steps": 4, "proposals": 4, "race_items": 24}
ITEMS = 120


def poet(call: Call) -> str:
    """Answer rightly nine times of ten once the call for a long poem is broken up, else three times of ten."""
    text = "\n".join(turn.content for turn in call.turns)
    toss = hashlib.blake2b(text.encode()).digest()[0] / 256
    number = text.rpartition("Note: ")[2].partition("\n")[0].rpartition(" ")[2]
    return number if toss < (0.3 if "long and lovely poem" in text else 0.9) else "a rose"


async def named(runs: int, home: Path) -> tuple[int, int, int]:
    """Return in how many runs the planted place was found, and named as worth most; and other edits kept."""
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


def main() -> None:
    """Print how often the planted edit was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as home:
        found, right, others = anyio.run(named, runs, Path(home))
    print(f"{runs} searches: the planted place was edited in {found}, with {others} other edits kept by luck;")
    print(f"of these, attribution names it in {right} ({right / found:.1%})")


if __name__ == "__main__":
    main()
