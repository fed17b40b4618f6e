"""The agents of the beam methods APE, APO and PE2, and the conversations in which they edit a prompt.

A conversation has up to three parts: the context (prompt, examples, critique), an optional turn in which the
model tags the prompt or thinks, and the turn in which it writes the new prompt. Tagging is the step that Local
Prompt Optimization adds (Jain and Chowdhary 2025, section 2.2); thinking is the control for it, with as much
reasoning but no tags. The texts of the meta-prompts are not those of the papers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpo_agent.agents.parsing import new_prompts, reasons, ruled_spans, slot_options
from lpo_agent.agents.proposer import slotted
from lpo_agent.agents.rendering import several, show_traces
from lpo_agent.core.lenient import spoken
from lpo_agent.core.messages import (
    Critique,
    CritiqueAsk,
    InduceAsk,
    Induced,
    Mark,
    MarkAsk,
    Marks,
    Proposal,
    Proposals,
    ProposeAsk,
)
from lpo_agent.core.text import Replacement, rewritten, splice
from lpo_agent.errors import EditRejected, ReplyError
from lpo_agent.models.base import Call, Turn
from lpo_agent.models.conversation import converse
from lpo_agent.prompts import LONGEST_PROMPT, fenced, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent.core.beam_options import BeamOptions
    from lpo_agent.core.messages import Trace
    from lpo_agent.core.text import Prompt
    from lpo_agent.models.base import Model

THOUGHT_TOKENS = 400
INDUCED_TOKENS = 50


@dataclass(frozen=True, slots=True)
class RewritingSetting:
    """The settings and turns that all agents of a beam method share, here of APE and APO.

    ``full`` shows where the input is placed; "{prompt}" in it stands for the prompt. With
    ``use_service_temperatures``, no temperature is sent, as some models require.
    """

    options: BeamOptions
    full: str = "{prompt}"
    use_service_temperatures: bool = False

    def temperature(self, wanted: float) -> float | None:
        """Return the temperature to send, None for the service's default."""
        return None if self.use_service_temperatures else wanted

    def context(self, ask: MarkAsk | ProposeAsk, prompt: Prompt) -> tuple[Turn, ...]:
        """Return the first part of the conversation, before the model tags, thinks or writes."""
        shown = fenced(prompt.text, limit=LONGEST_PROMPT)
        if ask.purpose == "vary":
            template = load("rewrite_context_vary", {"prompt", "examples"})
            return (Turn("user", template.substitute(prompt=shown, examples=_examples(ask.failures))),)
        template = load("rewrite_context_apo", {"prompt", "examples", "critique"})
        critique = fenced(ask.critique.text) if ask.critique.text else "(not said yet)"
        text = template.substitute(prompt=shown, examples=_examples(ask.failures), critique=critique)
        return (Turn("user", text),)

    def question(self, ask: CritiqueAsk) -> str:
        """Return the question for a critique: reasons why the prompt fails."""
        return load("rewrite_reasons", {"prompt", "examples", "n"}).substitute(
            prompt=fenced(ask.prompt.text, limit=LONGEST_PROMPT),
            examples=_examples(ask.failures),
            n=several(ask.reasons, "reason"),
        )

    def critique(self, reply: str, ask: CritiqueAsk) -> Critique:
        """Return the critique in a reply: its reasons, at most as many as asked for."""
        found = tuple(reasons(reply)[: ask.reasons])
        return Critique(text="\n".join(found), reasons=found)


@dataclass(frozen=True, slots=True)
class InspectingSetting(RewritingSetting):
    """The same for PE2, whose conversation begins with an inspection of the prompt in two steps."""

    def context(self, ask: MarkAsk | ProposeAsk, prompt: Prompt) -> tuple[Turn, ...]:
        """Return the inspection, and the model's reasoning if there is some."""
        asked = Turn("user", self._inspection(prompt, ask.failures, ask.history))
        return (asked, Turn("assistant", ask.critique.text)) if ask.critique.text else (asked,)

    def question(self, ask: CritiqueAsk) -> str:
        """Return the inspection."""
        return self._inspection(ask.prompt, ask.failures, ask.history)

    def critique(self, reply: str, ask: CritiqueAsk) -> Critique:  # noqa: ARG002 - the other setting's reads it
        """Return the whole reply, which is the model's reasoning."""
        return Critique(text=reply, reasons=(reply,))

    def _inspection(self, prompt: Prompt, failures: Sequence[Trace], history: str) -> str:
        """Return PE2's first turn: its two-step task, the placement of the input, and its checklist."""
        template = load("rewrite_context_pe2", {"prompt", "full", "history", "examples"})
        return template.substitute(
            prompt=fenced(prompt.text, limit=LONGEST_PROMPT),
            full=fenced(self.full.replace("{prompt}", prompt.text), limit=LONGEST_PROMPT),
            history=f"Earlier versions, and how many training items they had right:\n{fenced(history)}"
            if history
            else "",
            examples=_examples(failures),
        )


def _examples(failures: Sequence[Trace]) -> str:
    return f"Examples that it gets wrong:\n{show_traces(failures)}" if failures else ""


def _goal(purpose: str) -> str:
    return load(f"rewrite_goal_{purpose}", set()).substitute().strip()


def _protected(prompt: Prompt) -> str:
    texts = [span.of(prompt.text) for span in prompt.frozen_spans()]
    return ", ".join(texts) if texts else "(nothing)"


def tag_instruction(prompt: Prompt, purpose: str, budget: tuple[int, int]) -> str:
    """Return the turn that asks for tags by the paper's rules (Figure 2); ``budget``: most tags, most words in one."""
    count, words = budget
    return load("rewrite_tag", {"goal", "count", "words", "protected"}).substitute(
        goal=_goal(purpose),
        count=f"Use at most {several(count, 'pair')} of tags." if count else "Several pairs are allowed.",
        words=words,
        protected=_protected(prompt),
    )


def then(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """Return the conversation with the user saying ``text`` next."""
    if turns and turns[-1].role == "user":
        return (*turns[:-1], Turn("user", f"{turns[-1].content.rstrip()}\n\n{text}"))
    return (*turns, Turn("user", text))


@dataclass(frozen=True, slots=True)
class TaggingMarker:
    """The token marker in the conversation of a beam method."""

    model: Model
    setting: RewritingSetting

    async def mark(self, ask: MarkAsk) -> Marks:
        """Return the model's spans; raises ReplyError when too many replies are malformed, and ProviderError."""
        options = self.setting.options
        turns = self.setting.context(ask, ask.prompt)
        wanted = options.rewrite_temperature if options.tag_temperature < 0 else options.tag_temperature
        call = Call(
            then(turns, tag_instruction(ask.prompt, ask.purpose, (ask.budget, ask.words))),
            max_tokens=len(ask.prompt.text) // 2 + 96,
            temperature=self.setting.temperature(wanted),
            replicate=ask.seed,
        )
        answer = await converse(
            self.model,
            call,
            lambda reply: ruled_spans(reply, ask.prompt, count=ask.budget, words=ask.words, check=options.tag_check),
            reasks=options.tag_reasks,
        )
        marks = tuple(Mark(span=span, reason="tagged by the model") for span in answer.value)
        return Marks(marks=marks, said=answer.reply, malformed=answer.malformed, calls=answer.malformed + 1)


@dataclass(frozen=True, slots=True)
class ReasoningCritic:
    """The critic of APO, which gives reasons ("textual gradients": ProTeGi, section 2.2), and of PE2 (a checklist)."""

    model: Model
    setting: RewritingSetting

    async def critique(self, ask: CritiqueAsk) -> Critique:
        """Return the model's reasons (APO) or its reasoning (PE2); raises ProviderError."""
        options = self.setting.options
        temperature = self.setting.temperature(options.critique_temperature)
        call = Call((Turn("user", self.setting.question(ask)),), options.critique_tokens, temperature, ask.replicate)
        reply = spoken((await self.model.complete(call)).text).strip()
        return self.setting.critique(reply, ask)


@dataclass(frozen=True, slots=True)
class RewritingProposer:
    """The proposer in the conversation of a beam method, for all four modes of locality."""

    model: Model
    setting: RewritingSetting

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return new prompts or, with "enforce", fillings of the spans; all of them can be applied.

        Raises ReplyError when too many replies are malformed, and ProviderError.
        """
        prompt = ask.marked.prompt
        call = Call((), self._tokens(prompt), self._temperature(ask), ask.seed)
        turns, thought = await self._opening(ask, call)
        scoped = ask.locality == "enforce"
        call = replace(call, turns=then(turns, self._fill(ask) if scoped else self._write(ask)))
        answer = await converse(
            self.model,
            call,
            (lambda reply: _fillings(reply, ask)) if scoped else (lambda reply: _texts(reply, prompt, ask.n)),
            reasks=self.setting.options.tag_reasks,
        )
        calls = thought + answer.malformed + 1
        return Proposals(proposals=tuple(answer.value), malformed=answer.malformed, calls=calls)

    def _tokens(self, prompt: Prompt) -> int:
        return max(self.setting.options.rewrite_tokens, len(prompt.text) // 2)

    def _temperature(self, ask: ProposeAsk) -> float | None:
        options = self.setting.options
        wanted = options.vary_temperature if ask.purpose == "vary" else options.rewrite_temperature
        return self.setting.temperature(wanted)

    async def _opening(self, ask: ProposeAsk, call: Call) -> tuple[tuple[Turn, ...], int]:
        """Return the conversation before the turn that writes, and the number of model calls that it took."""
        prompt = ask.marked.prompt
        turns = self.setting.context(ask, prompt)
        if ask.locality == "think":
            options = self.setting.options
            wanted = options.rewrite_temperature if options.tag_temperature < 0 else options.tag_temperature
            turns = then(turns, load("rewrite_think", {"goal"}).substitute(goal=_goal(ask.purpose)))
            asked = replace(call, turns=turns, max_tokens=THOUGHT_TOKENS, temperature=self.setting.temperature(wanted))
            return (*turns, Turn("assistant", (await self.model.complete(asked)).text)), 1
        if ask.said:
            turns = then(turns, tag_instruction(prompt, ask.purpose, ask.tag_budget))
            return (*turns, Turn("assistant", ask.said)), 0
        return turns, 0

    def _write(self, ask: ProposeAsk) -> str:
        return load("rewrite_write", {"scope", "goal", "caps", "protected", "n"}).substitute(
            scope=_scope(ask),
            goal=_goal(ask.purpose),
            caps=_caps(ask),
            protected=_protected(ask.marked.prompt),
            n=several(ask.n, "new prompt", different=True),
        )

    def _fill(self, ask: ProposeAsk) -> str:
        return load("rewrite_fill", {"slotted", "goal", "caps", "n"}).substitute(
            slotted=fenced(slotted(ask.marked), limit=LONGEST_PROMPT),
            goal=_goal(ask.purpose),
            caps=_caps(ask),
            n=several(ask.n, "option", different=True),
        )


def _scope(ask: ProposeAsk) -> str:
    if ask.locality != "nudge":
        return load("rewrite_scope_global", set()).substitute().strip()
    if ask.said:
        return load("rewrite_scope_tagged", set()).substitute().strip()
    tagged = fenced(ask.tagged or ask.marked.render(), limit=LONGEST_PROMPT)
    return load("rewrite_scope_quoted", {"tagged"}).substitute(tagged=tagged).strip()


def _caps(ask: ProposeAsk) -> str:
    caps = []
    if ask.max_words:
        caps.append(f" The whole prompt shall have fewer than {ask.max_words} words.")
    if ask.step_size:
        caps.append(f" Change at most {ask.step_size} words.")
    if ask.growth:
        caps.append(f" Replace what a tag holds by at most {ask.growth} words.")
    return "".join(caps)


def _texts(reply: str, prompt: Prompt, n: int) -> list[Proposal]:
    """Parse new prompts that keep all protected text; raises ReplyError."""
    found = []
    for text in new_prompts(reply)[:n]:
        try:
            rewritten(prompt, text)
        except EditRejected as exc:
            raise ReplyError(str(exc)) from None
        found.append(Proposal(text=text))
    return found


def _fillings(reply: str, ask: ProposeAsk) -> list[Proposal]:
    """Parse fillings that can be spliced in and have at most ``ask.growth`` words (0: no limit); raises ReplyError."""
    found = []
    for option in slot_options(reply, len(ask.marked.spans))[: ask.n]:
        replacements = tuple(Replacement(number, text) for number, text in sorted(option.items()))
        longest = max(len(text.split()) for _, text in replacements)
        if ask.growth and longest > ask.growth:
            raise ReplyError(f"a slot is filled with {longest} words; at most {ask.growth} are allowed")
        try:
            splice(ask.marked, replacements)
        except EditRejected as exc:
            raise ReplyError(str(exc)) from None
        found.append(Proposal(replacements=replacements))
    return found


@dataclass(frozen=True, slots=True)
class Inducer:
    """Asks for an instruction that fits examples: APE's forward generation (Zhou et al. 2022, section 3.1)."""

    model: Model
    temperature: float | None
    max_tokens: int = INDUCED_TOKENS

    async def induce(self, ask: InduceAsk) -> Induced:
        """Return an instruction; raises ReplyError after two unusable replies, and ProviderError."""
        pairs = [
            "\n".join([*(f"{name}: {value}" for name, value in row.variables.items()), f"answer: {row.target}"])
            for row in ask.rows
        ]
        template = load("rewrite_induce", {"examples"})
        question = template.substitute(examples=fenced("\n\n".join(pairs), limit=20_000))
        call = Call((Turn("user", question),), self.max_tokens, self.temperature, ask.replicate)
        answer = await converse(self.model, call, lambda reply: new_prompts(reply)[0], reasks=1)
        return Induced(text=answer.value, calls=answer.malformed + 1)
