"""Scripted task and optimizer models, for runs without a real model.

The task is to repeat the number in the input. The task model does so only if its prompt contains "number", and
otherwise gives another answer. If the prompt contains "please", it refuses to answer, so this word is harmful.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpo_agent.models.base import Call


def asked(call: Call) -> str:
    """Return the messages of a call as one text."""
    return "\n".join(turn.content for turn in call.turns)


def task(call: Call) -> str:
    """Answer an example; multiples of 5 are answered incorrectly, whatever the prompt."""
    text = asked(call)
    numbers: list[str] = re.findall(r"\d+", text)
    if not numbers:
        return "Gladly."
    if "please" in text.casefold():
        return "I would rather not."
    if "number" not in text.casefold().replace("number:", "") or int(numbers[-1]) % 5 == 0:
        return "What a lovely note!"
    return numbers[-1]


def quoted(words: str) -> dict[str, object]:
    """Return an edit of the line that holds these words; the words need not be in the prompt."""
    options = ["Be nice and read", "Reply with only the number in"]
    return {"line": 1, "quote": words, "action": "replace", "options": options, "strategy": "format"}


def capable(call: Call) -> str:
    """Mark, critique and fill as a capable optimizer would; answer examples like :func:`task`."""
    text = asked(call)
    if text.startswith("You review a prompt"):
        return "It never says that only a number is wanted."
    if text.startswith("You improve a prompt by small local edits"):
        return json.dumps({"edits": list(map(quoted, ("Say something about", "Read the note")))})
    if text.startswith("You improve a prompt by filling numbered slots"):
        return (
            '<option><slot number="1">Be nice and read</slot></option>'
            '<option><slot number="1">Reply with only the number in</slot></option>'
        )
    return task(call)


def weak(call: Call) -> str:
    """Answer every request as if it were an example, as a small model does."""
    return task(call)


def coin(call: Call) -> str:
    """Answer correctly or not depending on a hash of the text, so that no prompt is better than another."""
    import hashlib  # noqa: PLC0415 - loaded from a file by path

    numbers: list[str] = re.findall(r"\d+", asked(call))
    heads = hashlib.blake2b(asked(call).encode()).digest()[0] % 2
    return numbers[-1] if numbers and heads else "tails"


def judged(call: Call) -> str:
    """Answer like :func:`task`; if the request is to grade an answer, give it 7 of 10."""
    return "It is nearly right.\n7" if "answer to grade" in asked(call) else task(call)
