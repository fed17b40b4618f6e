"""Short general instructions about an answer's form and care, made for a task from facts about its training rows.

They need no model, and help real models on real tasks: the label set, one word, the answer only, step by step, a role,
a cue at the end. Each has a theme; instructions of one theme say nearly the same, and their effects are learned
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpo_agent.core.task_facts import TaskFacts

Home = Literal["start", "any", "end"]
"""Where a fragment may stand: before all else, at every insertion point, or as a cue after all else."""


class Fragment(NamedTuple):
    """An instruction, its theme, and where it may stand."""

    text: str
    theme: str
    home: Home = "any"


GENERAL: Final = (
    Fragment("Do not explain.", "silent"),
    Fragment("Reply with the answer only.", "only"),
    Fragment("Be brief.", "short"),
    Fragment("Think step by step.", "steps"),
    Fragment("Read carefully.", "care"),
    Fragment("You are an expert.", "role", "start"),
    Fragment("Answer:", "cue", "end"),
    Fragment("Nothing else.", "only"),
    Fragment("Begin with the answer.", "format"),
    Fragment("Decide what is correct.", "decide"),
    Fragment("Give exactly one answer.", "answer"),
)
"""For every task, the most promising first within each theme."""
NUMBERS: Final = (
    Fragment("The answer is a number.", "labels"),
    Fragment("Give the final number only.", "only"),
    Fragment("Write the calculation, then the final number.", "steps"),
)


def fragments_of(facts: TaskFacts) -> list[Fragment]:
    """Return the fragments for a task, the most promising first."""
    if facts.labels:
        return [*_of_labels(facts), *GENERAL, *_of_words(facts)]
    if facts.numeric:
        return [*NUMBERS, *GENERAL]
    if 0 < facts.longest <= 3:
        return [Fragment(f"Answer with at most {_words(facts.longest)}.", "short"), *GENERAL]
    return list(GENERAL)


def _words(count: int) -> str:
    return "one word" if count == 1 else f"{count} words"


def _of_labels(facts: TaskFacts) -> Iterator[Fragment]:
    listed, options = ", ".join(facts.labels), _options(facts.labels)
    single = all(" " not in label for label in facts.labels)
    shape = "word" if single else "label"
    yield Fragment(f"Answer with one {shape}: {options}.", "labels")
    yield Fragment(f"{options[:1].upper()}{options[1:]}?", "labels")
    yield Fragment(f"Choose one option: {listed}.", "kind")
    yield Fragment(f"Reply with one {shape}.", "short")
    yield Fragment("Classify it.", "kind")
    yield Fragment(f"Decide whether it is {options}.", "decide")
    if all(label == label.lower() for label in facts.labels):
        yield Fragment("Write in lowercase.", "format")
    yield Fragment("Label:", "cue", "end")


def _options(labels: tuple[str, ...]) -> str:
    return f"{', '.join(labels[:-1])} or {labels[-1]}" if len(labels) > 1 else labels[0]


def _of_words(facts: TaskFacts) -> Iterator[Fragment]:
    """Yield what the inputs of each label typically hold, where training rows tell the labels apart by words."""
    hinted = "; ".join(f"{label} ({', '.join(words)})" if words else label for label, words in facts.hints)
    if any(words for _, words in facts.hints):
        yield Fragment(f"Typical words: {hinted}.", "hints")
