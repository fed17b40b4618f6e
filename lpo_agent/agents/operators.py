"""A proposer that edits marked spans by fixed operators, for models that cannot follow instructions.

The operators are delete, swap, paraphrase and add, as in GrIPS (Prasad et al. 2022, arXiv 2203.07281), and
replace. Unlike in GrIPS, added text is not taken from deleted phrases: it is made from the task's data, that
is its labels, their typical words, and the form of its answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lpo_agent.core.messages import Proposal, Proposals, ProposeAsk
from lpo_agent.core.text import Replacement, Span, splice
from lpo_agent.errors import EditRejected, ProviderError
from lpo_agent.models.base import Call, Turn
from lpo_agent.prompts import load

if TYPE_CHECKING:
    from string import Template

    from lpo_agent.agents.base import AgentSetting
    from lpo_agent.core.task_facts import TaskFacts
    from lpo_agent.core.text import MarkedPrompt
    from lpo_agent.models.base import Model

TRIES = 20
"""Random draws for each requested proposal, until enough valid ones are found."""
ODDS = {"near": (6, 4, 0, 0), "wide": (4, 4, 2, 0), "all": (0, 3, 4, 3)}
"""Weights of changing one, two, three or four spans in a proposal, by reach."""
PARAPHRASE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class OperatorProposer:
    """Draws random operators for each proposal: one or two, and up to four with a wider reach.

    Never proposes the same text twice, nor an edit of a single span that did not help there before.
    ``model`` is used by paraphrase; without it, paraphrase changes nothing.
    """

    facts: TaskFacts
    model: Model | None = None
    template: Template = field(default_factory=partial(load, "paraphrase", {"phrase"}))

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return up to ``ask.n`` proposals whose texts differ from each other and from ``ask.tried``.

        Raises ProviderError if paraphrasing fails for a reason that is fatal for all calls.
        """
        rng, seen = random.Random(ask.seed), {ask.marked.prompt.text, *ask.tried}
        failed = {(each.span, each.text.strip()) for each in ask.rejected}
        proposals: list[Proposal] = []
        calls = 0
        for _ in range(TRIES * ask.n):
            if len(proposals) == ask.n:
                break
            proposal = await self._draw(ask, rng)
            calls += proposal.note.count("paraphrase") if self.model is not None else 0
            text = _result(ask.marked, proposal)
            if text is not None and text not in seen and not _repeats(proposal, failed):
                seen.add(text)
                proposals.append(proposal)
        return Proposals(proposals=tuple(proposals), calls=calls)

    async def _draw(self, ask: ProposeAsk, rng: random.Random) -> Proposal:
        edits: dict[int, str] = {}
        notes = []
        numbers = range(len(ask.marked.spans))
        many = rng.choices(range(1, 5), ODDS[ask.reach])[0]
        for number in rng.sample(numbers, min(len(numbers), many)):
            if number not in edits:
                note, new = await self._operate(ask, number, rng)
                edits = new | edits
                notes.append(note)
        replacements = tuple(Replacement(number, text) for number, text in sorted(edits.items()))
        return Proposal(replacements=replacements, note=", ".join(notes))

    async def _operate(self, ask: ProposeAsk, number: int, rng: random.Random) -> tuple[str, dict[int, str]]:
        span, text = ask.marked.spans[number], ask.marked.prompt.text
        if span.start == span.end:
            return "add", {number: _joined(text, span, rng.choice(fragments(self.facts)))}
        operator = rng.choice(_operators(ask, number))
        if operator == "swap":
            other = rng.choice([n for n, s in enumerate(ask.marked.spans) if s.start < s.end and n != number])
            return "swap", {number: ask.marked.spans[other].of(text), other: span.of(text)}
        if operator == "paraphrase":
            return "paraphrase", {number: await self._paraphrase(span.of(text), rng)}
        if operator == "replace":
            return "replace", {number: _joined(text, span, rng.choice(fragments(self.facts)))}
        return "delete", {number: ""}

    async def _paraphrase(self, phrase: str, rng: random.Random) -> str:
        """Return a paraphrase of the phrase by the model, or the phrase itself if there is no usable one."""
        if self.model is None:
            return phrase
        turn = Turn("user", self.template.substitute(phrase=phrase))
        call = Call((turn,), PARAPHRASE_TOKENS, temperature=1.0, replicate=rng.randrange(2**31))
        try:
            reply = (await self.model.complete(call)).text
        except ProviderError as exc:
            if exc.fatal:
                raise
            return phrase
        line = reply.strip().split("\n")[0].strip(" \"'")
        return line if 0 < len(line) <= 3 * len(phrase) + 10 else phrase


def _operators(ask: ProposeAsk, number: int) -> list[str]:
    """Return the operators for a phrase, repeated by weight: phrases that do not help are deleted more often."""
    influence = ask.influences[number] if number < len(ask.influences) else None
    operators = ["delete", "replace", "paraphrase"]
    if influence is not None and influence <= 0:
        operators += ["delete"]
    if sum(span.start < span.end for span in ask.marked.spans) > 1:
        operators.append("swap")
    return operators


def fragments(facts: TaskFacts) -> list[str]:
    """Return instruction fragments for a task, about the form of the answer, the labels and their typical words."""
    general = ["Reply with the answer only.", "Do not explain.", "Answer:", "Read carefully."]
    if facts.labels:
        return [*general, *_label_fragments(facts)]
    if facts.numeric:
        return [*general, "Think step by step.", "The answer is a number.", "Give the final number only."]
    if facts.longest <= 3:
        return [*general, f"Answer with at most {facts.longest} word{'s' * (facts.longest > 1)}."]
    return general


def _label_fragments(facts: TaskFacts) -> list[str]:
    listed = ", ".join(facts.labels)
    options = f"{', '.join(facts.labels[:-1])} or {facts.labels[-1]}"
    hinted = "; ".join(f"{label} ({', '.join(words)})" if words else label for label, words in facts.hints)
    lines = "\n".join(f"{label}: {', '.join(words)}" for label, words in facts.hints if words)
    shape = "word" if all(" " not in label for label in facts.labels) else "label"
    found = [
        f"Answer with one {shape}: {options}.",
        f"Choose one of: {listed}.",
        f"The answer is one of {listed}.",
        f"Reply with only one {shape}.",
        "Label:",
        "Category:",
    ]
    return [*found, f"Choose from: {hinted}.", f"{lines}\n"] if lines else found


def _joined(text: str, span: Span, fragment: str) -> str:
    """Return the fragment, with a space at each end that would otherwise touch other text."""
    before, after = text[: span.start][-1:], text[span.end :][:1]
    left = "" if not before or before.isspace() else " "
    right = "" if not after or after.isspace() else " "
    return f"{left}{fragment}{right}"


def _repeats(proposal: Proposal, failed: set[tuple[int, str]]) -> bool:
    """Return whether the proposal is a single edit that was made at the same span before and did not help."""
    only = proposal.replacements[0] if len(proposal.replacements) == 1 else None
    return only is not None and (only.span, only.text.strip()) in failed


def _result(marked: MarkedPrompt, proposal: Proposal) -> str | None:
    try:
        child = splice(marked, proposal.replacements)
    except EditRejected:
        return None
    return child.text if child.text.strip() else None


def operator_proposer(setting: AgentSetting, model: Model) -> OperatorProposer:
    """Make the proposer that draws edit operators; ``model`` paraphrases."""
    return OperatorProposer(setting.facts, model)
