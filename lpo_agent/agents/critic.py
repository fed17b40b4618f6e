"""The critics, which explain why a prompt fails on examples: one asks a model, one counts failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lpo_agent.agents.base import REPLY_TOKENS
from lpo_agent.agents.rendering import show_traces
from lpo_agent.core.lenient import items, number_of, objects, spoken, words_of
from lpo_agent.core.messages import Critique, CritiqueAsk, ErrorClass, Trace
from lpo_agent.models.base import Call, Model, Turn
from lpo_agent.prompts import LONGEST_PROMPT, fenced, load

if TYPE_CHECKING:
    from string import Template

WHOLE: Final = 6_000
"""Longest input or answer, in characters, that is shown to the critic: enough for a whole chain of reasoning."""


@dataclass(frozen=True, slots=True)
class Critic:
    """Asks a capable model to explain the failures: the textual gradient of ProTeGi.

    Pryzant et al. 2023, section 2.2; here with counts of all answers and classes of errors. ``about``: the task in
    words. ``max_tokens``: of the reply, with room for a model that reasons first.
    """

    model: Model
    temperature: float | None = 0.7
    about: str = ""
    max_tokens: int = REPLY_TOKENS
    template: Template = field(
        default_factory=partial(load, "critique", {"about", "prompt", "report", "failures", "passes"})
    )

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return the model's explanation; raises ProviderError."""
        question = self.template.substitute(
            about=self.about,
            prompt=fenced(ask.prompt.text, limit=LONGEST_PROMPT),
            report=ask.report or "(nothing)",
            failures=show_traces(ask.failures, limit=WHOLE),
            passes=show_traces(ask.passes, limit=WHOLE),
        )
        call = Call((Turn("user", question),), self.max_tokens, self.temperature, ask.replicate)
        said = spoken((await self.model.complete(call)).text).strip()
        return read_critique(said).model_copy(update={"offtopic": offtopic(ask.failures, ()), "calls": 1})


def read_critique(said: str) -> Critique:
    """Return the critique in a reply; a reply without the requested JSON is an explanation in words."""
    found = objects(said)
    classes = tuple(_error_class(each) for each in items(found, "classes", frozenset({"cause"})))
    if not classes:
        return Critique(text=said)
    lines = [f"- {each.name} ({each.count} examples): {each.cause}" for each in classes]
    for name, title in (("protect", "To protect"), ("summary", "Summary")):
        lines += [f"{title}: {text}" for each in found if (text := words_of(each.get(name)).strip())]
    return Critique(text="\n".join(lines), classes=classes)


def _error_class(found: dict[str, Any]) -> ErrorClass:
    name, cause = (words_of(found.get(key)).strip() for key in ("name", "cause"))
    return ErrorClass(name=name or "errors", count=max(0, number_of(found.get("count")) or 0), cause=cause)


@dataclass(frozen=True, slots=True)
class CountingCritic:
    """Describes failures by counts, for models that are too weak to explain them.

    ``labels``: the possible answers, empty if they are not few.
    """

    labels: tuple[str, ...] = ()

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return counts: answers that name none of the labels, and the labels that are missed most often."""
        share = offtopic(ask.failures, self.labels)
        wanted = Counter(trace.row.target for trace in ask.failures)
        text = f"{len(ask.failures)} failures; {share:.0%} name no possible answer"
        if self.labels and wanted:
            text += f"; most missed: {', '.join(label for label, _ in wanted.most_common(3))}"
        return Critique(text=text, offtopic=share)


def offtopic(failures: tuple[Trace, ...], labels: tuple[str, ...]) -> float:
    """Return the share of failed answers that name none of the labels, 0 to 1 (0 without labels)."""
    if not failures or not labels:
        return 0.0
    folded = [label.casefold() for label in labels]
    missed = sum(not any(label in trace.result.output.casefold() for label in folded) for trace in failures)
    return missed / len(failures)
