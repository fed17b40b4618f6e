"""A task model and an optimizer model for the searches of other optimizers.

The task: repeat the number. The task model does so for more items the more often its prompt says "number"; the
optimizer always writes a prompt that says it three times, in whichever form it is asked for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpo_agent.models.base import Call

BETTER = "Give the number, the number, the number."
FIELD = re.compile(r"`(\w+)`")


def task(call: Call) -> str:
    """Answer an item; in the form of DSPy where that is asked for."""
    text = "\n".join(turn.content for turn in call.turns)
    last = call.turns[-1].content
    numbers = re.findall(r"\d{3}", last)
    said = len(re.findall(r"\bnumber\b", text))
    answer = numbers[-1] if numbers and int(numbers[-1]) % 4 < said else "hm"
    return f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]" if "[[ ## answer ## ]]" in text else answer


def optimizer(call: Call) -> str:
    """Write a better prompt, as the answer to whatever is asked."""
    text, last = call.turns[0].content, call.turns[-1].content
    if "output fields are" in text:  # DSPy: fill each output field
        fields = FIELD.findall(text.split("output fields are")[1].split("All interactions")[0])
        if "JSON object" in last:
            return json.dumps(dict.fromkeys(fields, BETTER))
        return "".join(f"[[ ## {name} ## ]]\n{BETTER}\n\n" for name in fields) + "[[ ## completed ## ]]"
    if "<prompt>" in last:
        return f"<prompt>{BETTER}</prompt>"
    if "JSON" in last:
        return json.dumps([f"Say it, {n}." for n in range(10)])
    return f"```\n{BETTER}\n\n{{input}}\n```" if "```" in last else BETTER
