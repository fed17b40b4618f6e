"""A scripted model, loaded from this file by its path: it names fruit, and criticises in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpo_agent import Call


def fruit(call: Call) -> str:
    """Answer a row or a question about a prompt."""
    text = call.turns[-1].content
    if "holds" not in text or "<" in text:
        return "The answers should be in capitals."
    name = "pear" if "pears" in text else "plum"
    return name.upper() if "capitals" in text else name
