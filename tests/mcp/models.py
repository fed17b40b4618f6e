"""Scripted task models: they repeat the number in the input if the prompt says "number"."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpo_agent.models.base import Call


def answer(call: Call) -> str:
    """Answer an item; nothing else is understood, so searches use edit operators."""
    if log := os.environ.get("LPO_TEST_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write("x\n")
    return answer_text(call.turns[-1].content)


def answer_text(text: str) -> str:
    """Answer the last message of a request."""
    numbers: list[str] = re.findall(r"\d+", text)
    return numbers[-1] if numbers and "number" in text else "hm"


def slow(call: Call) -> str:
    """Take a few milliseconds for each answer."""
    time.sleep(0.003)
    return answer(call)


def broken(call: Call) -> str:
    """Have a bug: this is not how the package reports that something cannot be done."""
    return {"We sold": "pears"}[call.turns[-1].content]
