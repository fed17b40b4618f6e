"""The meta-prompts, one Markdown file a role, and their strict loader.

Templates use ``string.Template``: one pass, so nothing inside a prompt, a data row or a model's
answer is ever expanded again; ``$`` collides with neither braces nor tags.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

FENCE: Final = "~~~~"


def load(name: str, variables: set[str]) -> Template:
    """Return the template ``NAME.md``.

    Raises ValueError if it does not use exactly ``variables``: a template and its agent must
    agree before anything is spent.
    """
    template = Template(_text(name))
    if set(template.get_identifiers()) != variables:
        raise ValueError(f"prompts/{name}.md uses {sorted(template.get_identifiers())}, not {sorted(variables)}")
    return template


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8")


def fenced(text: str, limit: int = 4000) -> str:
    """Return ``text`` as a block of data: cut to ``limit`` characters, unable to end its own fence."""
    body = text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit} characters left out]"
    return f"{FENCE}\n{body.replace(FENCE, '~ ~ ~ ~')}\n{FENCE}"
