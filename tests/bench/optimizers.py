"""A task model and an optimizer model in one function, for benchmarks without any model.

The task: repeat the number. The task model does so once its prompt says "number", and is right for
more items the more often it says so. The optimizer adds the word where it may.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lpo_agent.errors import RequestRejected

if TYPE_CHECKING:
    from lpo_agent.models.base import Call


def obliging(call: Call) -> str:  # noqa: PLR0911 - one line a kind of request
    """Do what is asked of an optimizer model, or answer an item."""
    last, first = call.turns[-1].content, call.turns[0].content
    if "Reply with the tagged prompt" in last:
        prompt = first.split("~~~~\n")[1].rstrip("\n")
        word = prompt.split()[0]
        return prompt.replace(word, f"<edit>{word}</edit>", 1)
    if "numbered slots" in last:
        return f'<option><slot number="1">number {call.replicate % 1000}</slot></option>'
    if "between <prompt>" in last:
        prompt = first.split("~~~~\n")[1].rstrip("\n")
        return f"<prompt>number {call.replicate % 1000} {prompt}</prompt>"
    if "<reason>" in last:
        return "<reason>it never says what to give</reason>"
    if first.startswith(("You improve", "You rewrite", "You review")):
        return "The word number is missing."
    if first.startswith("Somebody gave"):
        return f"Give the number, {call.replicate}."
    return answer(call)


def answer(call: Call) -> str:
    """Answer an item, and note the call where LPO_TEST_LOG says."""
    text = call.turns[-1].content
    if log := os.environ.get("LPO_TEST_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{hash(text)}\n")
    numbers = re.findall(r"\d+", text)
    if not numbers:  # an edit operator that asks for other words
        return "the number"
    return numbers[-1] if int(numbers[-1]) % 4 < text.count("number") else "hm"


def choosy(call: Call) -> str:
    """Refuse the single requests of one method's conversations."""
    if call.turns[0].content.startswith("You improve a prompt that another language model follows, in two"):
        raise RequestRejected("too long")
    return obliging(call)
