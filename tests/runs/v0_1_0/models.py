"""The scripted model of the runs in the journal beside it, which version 0.1.0 wrote; a resume asks it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpo_agent import Call


def task(call: Call) -> str:
    """Answer with the number of a note if asked for it, except for some."""
    text = "\n".join(turn.content for turn in call.turns)
    numbers: list[str] = re.findall(r"\d+", text)
    if not numbers:
        return "Gladly."
    if "please" in text.casefold():
        return "I would rather not."
    if "number" not in text.casefold().replace("number:", "") or int(numbers[-1]) % 5 == 0:
        return "What a lovely note!"
    return numbers[-1]
