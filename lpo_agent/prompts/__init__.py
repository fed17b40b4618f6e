"""The meta-prompts, one Markdown file each, and functions to load them and to insert data safely.

The files are templates of ``string.Template``. They are expanded in one pass, so a ``$name`` in a prompt, a data
row or a model's answer is never expanded; and ``$`` does not conflict with the braces and tags of prompts.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

FENCE: Final = "~~~~"
LONGEST_PROMPT: Final = 200_000
"""Characters of a prompt that are shown at most; about 50,000 tokens."""


def load(name: str, variables: set[str]) -> Template:
    """Return the template ``NAME.md``.

    Raises ValueError unless it uses exactly ``variables``, so that a mistake is found before any call is made.
    """
    template = Template(_text(name))
    if set(template.get_identifiers()) != variables:
        raise ValueError(f"prompts/{name}.md uses {sorted(template.get_identifiers())}, not {sorted(variables)}")
    return template


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8")


def fenced(text: str, limit: int = 4000) -> str:
    """Return ``text`` between fences: cut to ``limit`` characters, with fences inside it made harmless."""
    body = text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit} characters left out]"
    return f"{FENCE}\n{body.replace(FENCE, '~ ~ ~ ~')}\n{FENCE}"
