"""Describes a run's task in words for the optimizer model: placement of the input, metric, labels, answer length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lpo_agent.prompts import fenced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lpo_agent.agents.base import AgentSetting

METRICS: Final[Mapping[str, str]] = {
    "exact": "the whole answer must equal the wanted one, character for character apart from white space around it",
    "normalized": "the whole answer must equal the wanted one, apart from case, punctuation, articles and white space",
    "contains": "the wanted answer must stand somewhere in the answer",
    "choice": "the answer must name the wanted label, and no other label",
    "numeric": "the final number in the answer must equal the wanted number",
    "regex": "a pattern is searched in the answer",
    "f1": "the share of words that the answer and the wanted one have in common",
    "json": "the answer must be JSON that equals the wanted JSON; parts count",
    "judge": "another model grades the answer",
}
"""How answers are judged, by metric."""
ALONE: Final = "{prompt}"
"""What the task model gets where the prompt has placeholders."""
NO_REASONING: Final = 100
"""With fewer tokens for an answer, the task model has no room to reason."""
WHOLE_ANSWERS: Final = ("exact", "normalized", "f1")
"""Metrics that compare the whole answer, in which reasoning would be wrong."""
SHOWN_LABELS: Final = 40


def briefing(setting: AgentSetting) -> str:
    """Return the description, one fact a line."""
    lines = [
        _placement(setting.full),
        f"How an answer is scored: {_metric(setting.metric)}.",
    ]
    if setting.labels:
        shown = ", ".join(setting.labels[:SHOWN_LABELS])
        lines.append(f"The possible answers are: {shown}{', ...' if len(setting.labels) > SHOWN_LABELS else ''}.")
    return "\n".join([*lines, _length(setting)])


def _placement(full: str) -> str:
    model = "Another language model, the task model, follows the prompt"
    if full == ALONE:
        return f"{model}: it gets the prompt with the values of an input in its placeholders, and nothing else."
    return f"{model}. It gets this, with the prompt and an input put in:\n{fenced(full)}"


def _metric(name: str) -> str:
    return METRICS.get(name.partition(":")[0], "by a program of the prompt's author; see its remarks, if it has any")


def _length(setting: AgentSetting) -> str:
    limit = f"Answers are cut off after {setting.max_tokens} tokens."
    if setting.extract is not None:
        return f'{limit} The model may reason: afterwards "{setting.extract}" asks for the final answer alone.'
    if setting.max_tokens < NO_REASONING:
        return f"{limit} There is no room to reason before the answer."
    if setting.metric in WHOLE_ANSWERS:
        return f"{limit} Reasoning before the answer would count as part of it, and make it wrong."
    return f"{limit} The model may reason before it answers, if that helps."
