"""The proposer that asks a capable model for new text for the marked spans of a prompt, or for a new prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from lpo_agent.agents.base import REPLY_TOKENS
from lpo_agent.agents.briefing import briefing
from lpo_agent.agents.parsing import slot_options, tagged_prompts
from lpo_agent.agents.quoting import protected
from lpo_agent.agents.rendering import several, show_traces
from lpo_agent.core.editpool import fitted
from lpo_agent.core.influence import instruction_span
from lpo_agent.core.messages import Proposal, Proposals, ProposeAsk
from lpo_agent.core.text import PLACEHOLDER, Replacement, rewritten
from lpo_agent.errors import EditRejected, ReplyError
from lpo_agent.models.base import Call, Turn
from lpo_agent.models.conversation import converse
from lpo_agent.prompts import LONGEST_PROMPT, fenced, load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.core.text import MarkedPrompt, Prompt, Span
    from lpo_agent.models.base import Model

LONGER: Final = 4
"""A reworded phrase may have so many times the characters of the phrase, and some more."""
FEWEST_WORDS: Final = 3
"""A new instruction has at least so many words."""
_BULLET = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+")


@dataclass(frozen=True, slots=True)
class ModelProposer:
    """Asks a model to fill the spans as numbered slots, so that it cannot change the rest of the prompt.

    In the LPO paper the model rewrites the whole prompt and is asked to keep the rest; that is done here only if the
    request's locality is "off". With the purpose "vary", the words of the first span are said in other words.
    ``about``: the task in words; ``max_tokens``: the least limit of a reply.
    """

    model: Model
    temperature: float | None = 0.7
    about: str = ""
    max_tokens: int = REPLY_TOKENS
    template: Template = field(
        default_factory=partial(load, "propose", {"about", "slotted", "critique", "failures", "history", "n", "form"})
    )

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return at most ``ask.n`` proposals; raises ReplyError after two invalid replies, and ProviderError."""
        if ask.locality == "off":
            return await self._asked(ask, self._rewrite(ask), partial(_texts, ask=ask))
        if ask.purpose == "vary":
            return await self._asked(ask, _reword(ask), partial(_rewordings, ask=ask))
        return await self._asked(ask, self._fill(ask), partial(_fillings, ask=ask))

    async def _asked(self, ask: ProposeAsk, question: str, parse: partial[list[Proposal]]) -> Proposals:
        call = Call((Turn("user", question),), self._most_tokens(ask), self.temperature, ask.seed)
        answer = await converse(self.model, call, parse, reasks=1)
        found = tuple(answer.value[: ask.n])
        return Proposals(proposals=found, malformed=answer.malformed, calls=answer.malformed + 1)

    def _most_tokens(self, ask: ProposeAsk) -> int:
        """Return the maximal number of tokens of the reply; new prompts may be as long as the prompt."""
        whole = len(ask.marked.prompt.text) // 2 if ask.reach == "all" or ask.locality == "off" else 0
        return self.max_tokens + whole * ask.n

    def _fill(self, ask: ProposeAsk) -> str:
        return self.template.substitute(
            about=self.about,
            slotted=fenced(slotted(ask.marked), limit=LONGEST_PROMPT),
            critique=fenced(ask.critique.text),
            failures=show_traces(ask.failures),
            history=fenced(ask.history, limit=8_000) if ask.history else "(none yet)",
            n=several(ask.n, "option", different=True),
            form=_form(ask),
        )

    def _rewrite(self, ask: ProposeAsk) -> str:
        names = {"about", "prompt", "critique", "failures", "n", "protected"}
        return load("rewrite_whole", names).substitute(
            about=self.about,
            prompt=fenced(ask.marked.prompt.text, limit=LONGEST_PROMPT),
            critique=fenced(ask.critique.text),
            failures=show_traces(ask.failures),
            n=several(ask.n, "new prompt", different=True),
            protected=protected(ask.marked.prompt),
        )


def _reword(ask: ProposeAsk) -> str:
    phrase = ask.marked.spans[0].of(ask.marked.prompt.text)
    ways = "other words" if ask.n == 1 else f"{ask.n} different ways"
    return load("reword", {"n", "phrase"}).substitute(n=ways, phrase=fenced(phrase))


def _form(ask: ProposeAsk) -> str:
    """Return the form of the reply, with slots that there are."""
    one, other = '<slot number="1">new words</slot>', '<slot number="2">other words</slot>'
    options = [f"<option>{one}</option>", f"<option>{other if len(ask.marked.spans) > 1 else one}</option>"]
    return "\n".join(options[: ask.n])


def _fillings(reply: str, ask: ProposeAsk) -> list[Proposal]:
    return [_proposal(ask.marked, option) for option in slot_options(reply, len(ask.marked.spans))]


def _proposal(marked: MarkedPrompt, option: dict[int, str]) -> Proposal:
    new = [Replacement(n, spaced(marked.prompt, marked.spans[n], words)) for n, words in sorted(option.items())]
    return Proposal(replacements=tuple(new))


def spaced(prompt: Prompt, span: Span, words: str) -> str:
    """Return new words for a span with the white space that the old ones had, or that an insertion needs."""
    old, words = span.of(prompt.text), words.strip()
    if not words:
        return ""
    if not old:
        return fitted(prompt.text, span.start, words)
    return old[: len(old) - len(old.lstrip())] + words + old[len(old.rstrip()) :]


def _texts(reply: str, ask: ProposeAsk) -> list[Proposal]:
    """Return the new prompts of a reply that keep protected text; raises ReplyError if there is none.

    A weak model often writes the instruction alone, without the placeholders: it takes the place of the old one.
    """
    found, reason = [], "it holds no new prompt"
    for text in tagged_prompts(reply):
        for attempt in (text, _around(ask.marked.prompt, text)):
            try:
                rewritten(ask.marked.prompt, attempt)
            except EditRejected as exc:
                reason = str(exc)
                continue
            if attempt.strip() == ask.marked.prompt.text.strip():
                reason = "the new prompt is the old one"
                continue
            found.append(Proposal(text=attempt))
            break
    if not found:
        raise ReplyError(reason)
    return found


def _around(prompt: Prompt, text: str) -> str:
    """Return the prompt with a new instruction, made of the lines of ``text`` that hold no placeholder."""
    span = instruction_span(prompt)
    new = "\n".join(line for line in text.split("\n") if not PLACEHOLDER.search(line)).strip()
    if span is None or len(new.split()) < FEWEST_WORDS:
        return ""
    return prompt.text[: span.start] + new + prompt.text[span.end :]


def _rewordings(reply: str, ask: ProposeAsk) -> list[Proposal]:
    """Return the lines of a reply as new words of the first span; raises ReplyError if there is none."""
    prompt, span = ask.marked.prompt, ask.marked.spans[0]
    lines = [_BULLET.sub("", line).strip(" \"'") for line in reply.strip().split("\n")]
    most = LONGER * (span.end - span.start) + 20
    kept = [line for line in dict.fromkeys(lines) if 0 < len(line) <= most and line != span.of(prompt.text).strip()]
    if not kept:
        raise ReplyError("it holds no other words of about this length")
    return [Proposal(replacements=(Replacement(0, spaced(prompt, span, line)),)) for line in kept]


def slotted(marked: MarkedPrompt) -> str:
    """Return the prompt with its spans in ``<slot>`` tags, numbered from 1."""
    text, parts, at = marked.prompt.text, [], 0
    for number, span in enumerate(marked.spans, start=1):
        parts += [text[at : span.start], f'<slot number="{number}">{span.of(text)}</slot>']
        at = span.end
    return "".join([*parts, text[at:]])


def llm_proposer(setting: AgentSetting, model: Model) -> ModelProposer:
    """Make the proposer that asks a model."""
    return ModelProposer(model, setting.optimizer_temperature, briefing(setting), setting.reply_tokens)
