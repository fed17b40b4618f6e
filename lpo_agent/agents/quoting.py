"""The token marker that asks a model for edits by quotation: where to edit, and new texts, in one reply.

The model sees the prompt once, with numbered lines, and quotes the words that it wants to change, instead of repeating
the prompt with tags in it as in the LPO paper (section 2.2). So a reply's length depends on the edits and not on the
prompt, and an edit that cannot be placed is lost alone. Of a long prompt the model first chooses sections.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lpo_agent.agents.base import REPLY_TOKENS
from lpo_agent.agents.rendering import show_traces
from lpo_agent.core.lenient import items, number_of, objects, words_of
from lpo_agent.core.messages import STRATEGIES, Mark, MarkAsk, Marks
from lpo_agent.core.quotation import numbered
from lpo_agent.core.quoted_edits import QuotedEdit, resolve
from lpo_agent.core.sections import LONG, likeliest, listed, sections_of
from lpo_agent.errors import EditRejected, ReplyError
from lpo_agent.models.base import Call, Turn
from lpo_agent.models.conversation import converse
from lpo_agent.prompts import LONGEST_PROMPT, fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.core.quoted_edits import Action
    from lpo_agent.core.sections import Section
    from lpo_agent.core.text import Prompt
    from lpo_agent.models.base import Model

SECTIONS: Final = 3
"""Sections of a long prompt that a model may choose."""
OPTIONS: Final = 3
"""New texts of one edit that are used."""
EDITS: Final = 8
"""Edits of one reply that are asked for, without a budget of the request."""
SHOWN: Final = 700
"""Longest value of an example, in characters, that is shown with the prompt; the critic has seen all of it."""
_KEYS: Final = frozenset({"options", "quote", "new", "text"})
_VARIABLES: Final = {"about", "prompt", "report", "critique", "failures", "passes", "history", "budget"}


@dataclass(frozen=True, slots=True)
class QuotingMarker:
    """Asks a capable model for edits. ``about``: the task in words; ``max_tokens``: of a reply."""

    model: Model
    temperature: float | None = 0.7
    about: str = ""
    max_tokens: int = REPLY_TOKENS
    template: Template = field(default_factory=partial(load, "quote", _VARIABLES | {"preferred", "protected"}))
    choosing: Template = field(default_factory=partial(load, "sections", {"sections", "critique", "most"}))

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return the places with their new texts, at most ``ask.budget`` (0: no limit).

        Raises ReplyError after two replies without an edit that can be placed, and ProviderError.
        """
        sections, calls = await self._sections(ask) if len(ask.prompt.text) > LONG else ([], 0)
        call = Call((Turn("user", self._question(ask, sections)),), self.max_tokens, self.temperature, ask.seed)
        answer = await converse(self.model, call, partial(read_marks, prompt=ask.prompt, most=ask.budget), reasks=1)
        marks, lost = answer.value
        return Marks(marks=marks, malformed=answer.malformed, calls=calls + answer.malformed + 1, lost=lost)

    def _question(self, ask: MarkAsk, sections: list[Section]) -> str:
        preferred = ", ".join(ask.strategies)
        return self.template.substitute(
            about=self.about,
            prompt=fenced(numbered(ask.prompt.text, [each.span for each in sections]), limit=LONGEST_PROMPT),
            report=ask.report or "(nothing)",
            critique=fenced(ask.critique.text, limit=8_000),
            failures=show_traces(ask.failures, limit=SHOWN),
            passes=show_traces(ask.passes, limit=SHOWN),
            history=fenced(ask.history, limit=8_000) if ask.history else "(none yet)",
            budget=ask.budget or EDITS,
            preferred=f"Strategies that are missing so far: {preferred}.\n" if preferred else "",
            protected=protected(ask.prompt),
        )

    async def _sections(self, ask: MarkAsk) -> tuple[list[Section], int]:
        """Return the sections that the model chooses, and how often it was asked."""
        sections = sections_of(ask.prompt.text)
        if len(sections) <= SECTIONS:
            return sections, 0
        question = self.choosing.substitute(
            sections=fenced(listed(sections), limit=LONGEST_PROMPT),
            critique=fenced(ask.critique.text, limit=8_000),
            most=SECTIONS,
        )
        call = Call((Turn("user", question),), self.max_tokens, self.temperature, ask.seed)
        answer = await converse(self.model, call, partial(read_sections, count=len(sections)), reasks=0)
        chosen = answer.value
        if not chosen:
            return likeliest(ask.prompt.text, sections, ask.critique.text, SECTIONS), 1
        return [sections[number - 1] for number in sorted(chosen)], 1


def protected(prompt: Prompt) -> str:
    """Return, as text for the model, what must not be changed."""
    texts = [span.of(prompt.text) for span in prompt.frozen_spans()]
    return ", ".join(dict.fromkeys(texts)) if texts else "(nothing)"


def read_sections(reply: str, count: int) -> list[int]:
    """Return the numbers of sections, from 1, in a reply; empty if there are none."""
    named = [value for each in objects(reply) if isinstance(found := each.get("sections"), list) for value in found]
    numbers = [number for value in named if (number := number_of(value)) is not None]
    return [number for number in dict.fromkeys(numbers) if 1 <= number <= count][:SECTIONS]


def read_marks(reply: str, prompt: Prompt, most: int) -> tuple[tuple[Mark, ...], tuple[str, ...]]:
    """Return the edits of a reply as marks with new texts, and why others cannot be used.

    Raises ReplyError if none can be used.
    """
    found = [_edit(each) for each in items(objects(reply), "edits", _KEYS)]
    if not found:
        raise ReplyError("it holds no JSON object with edits")
    marks: list[Mark] = []
    lost: list[str] = []
    for edit in found[: most or EDITS]:
        try:
            marks += _marks(prompt, edit)
        except EditRejected as exc:
            lost.append(str(exc))
    if not marks:
        raise ReplyError(f"no edit can be used ({'; '.join(lost[:4])})")
    return tuple(sorted(marks, key=lambda mark: mark.span)), tuple(lost)


def _marks(prompt: Prompt, edit: QuotedEdit) -> list[Mark]:
    reason = edit.why or "quoted by the model"
    return [
        Mark(span=place.span, reason=reason, options=place.options, strategy=edit.strategy, aim=edit.aim)
        for place in resolve(prompt, edit)
    ]


def _edit(found: dict[str, Any]) -> QuotedEdit:
    options = found.get("options", found.get("new", found.get("text")))
    texts = options if isinstance(options, list) else [options]
    strategy = words_of(found.get("strategy")).strip().casefold()
    return QuotedEdit(
        line=number_of(found.get("line")),
        quote=words_of(found.get("quote")),
        action=_action(words_of(found.get("action"))),
        options=tuple(words for text in texts if (words := _new_text(text)) is not None)[:OPTIONS],
        why=words_of(found.get("why"))[:300],
        strategy=next((each for each in STRATEGIES if each in strategy), "other"),
        aim=words_of(found.get("error"))[:100],
    )


def _new_text(value: object) -> str | None:
    """Return one new text; some models wrap each into an object."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("text", "new", "option") if isinstance(value.get(key), str)), None)
    return None if value is None or isinstance(value, (list, dict)) else str(value)


def _action(named: str) -> Action:
    words = named.casefold().replace("_", " ").replace("-", " ")
    if "before" in words:
        return "insert before"
    if "insert" in words or "after" in words or "add" in words:
        return "insert after"
    return "delete" if "delete" in words or "remove" in words else "replace"
