"""Tells what is wrong with answers: their form, which an instruction about the form can mend, or their content.

It compares answers with the targets and with the set of labels, for all metrics alike. So for metrics that do not
look for the target in the answer (a judge, the caller's own), the form is a guess.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lpo_agent.core.result import FaultCounts
from lpo_agent.core.scores import Scored
from lpo_agent.metrics.rules import NUMBER, as_whole_words, normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.search.task import Task

Fault = Literal["empty", "unread", "several", "no answer", "cut off", "too long", "wrong"]
"""What is wrong with an answer; all but "wrong" are faults of form.

"unread": the right answer stands in it, but it got no full score. "several", "no answer": it names several labels, or
no label or number. "cut off": it seems to have reached the limit of tokens.
"""
WRONG: Final = "wrong"
CHARACTERS_PER_TOKEN: Final = 3
"""An answer with this many characters for each allowed token, and without an end, counts as cut off."""
ENDS: Final = (".", "!", "?", ")", "]", "}", '"', "'", "`")
SPARE_WORDS: Final = 10


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form that the targets have: one of the labels, a number, or a text of at most ``longest`` words.

    ``max_tokens``: the limit of an answer.
    """

    labels: tuple[str, ...]
    numeric: bool
    longest: int
    max_tokens: int

    def fault(self, answer: Scored, row: Row) -> Fault | None:
        """Return what is wrong with an answer, None for one with the full score."""
        if answer.value >= 1.0:
            return None
        text = answer.output.strip()
        if not text:
            return "empty"
        if self.labels:
            return self._fault_of_label(text, row)
        return self._fault_of_number(text, row) if self.numeric else self._fault_of_text(text, row)

    def _fault_of_label(self, text: str, row: Row) -> Fault:
        named = _named(text, [*self.labels, row.target])
        if len(named) == 1:
            return "unread" if normalize(row.target) in named else WRONG
        if self._cut_off(text):
            return "cut off"
        return "several" if named else "no answer"

    def _fault_of_number(self, text: str, row: Row) -> Fault:
        found = NUMBER.findall(text)
        if _plain(row.target) in {_plain(each) for each in found}:
            return "unread"
        if self._cut_off(text):
            return "cut off"
        return WRONG if found else "no answer"

    def _fault_of_text(self, text: str, row: Row) -> Fault:
        if row.target.strip() and _names(text, row.target):
            return "unread"
        if self._cut_off(text):
            return "cut off"
        most = max(3 * self.longest, self.longest + SPARE_WORDS)
        return "too long" if len(text.split()) > most else WRONG

    def _cut_off(self, text: str) -> bool:
        return len(text) >= CHARACTERS_PER_TOKEN * self.max_tokens and not text.endswith(ENDS)


def _named(text: str, labels: Sequence[str]) -> set[str]:
    """Return the normal forms of the labels that a text names; "not valid" does not name "valid" too."""
    left, found = normalize(text), set[str]()
    for label in sorted({normalize(each) for each in labels}, key=len, reverse=True):
        pattern = as_whole_words(re.escape(label), label)
        if label and re.search(pattern, left):
            found.add(label)
            left = re.sub(pattern, " ", left)
    return found


def _names(text: str, label: str) -> bool:
    """Return whether a text holds a label as whole words, whatever its case and punctuation."""
    text, label = normalize(text), normalize(label)
    return bool(label) and re.search(as_whole_words(re.escape(label), label), text) is not None


def _plain(number: str) -> float | str:
    bare = number.strip().replace(",", "").replace("$", "").rstrip("%.")
    try:
        return float(bare)
    except ValueError:
        return bare


def form_of(task: Task) -> AnswerForm:
    """Return the form of the targets of train and dev."""
    targets = [row.target.strip() for row in (*task.splits.train, *task.splits.dev)]
    numeric = bool(targets) and all(NUMBER.fullmatch(each) for each in targets)
    longest = max((len(each.split()) for each in targets), default=0)
    return AnswerForm(task.labels, numeric, longest, task.max_tokens)


def count(form: AnswerForm, answers: Iterable[tuple[Row, object]]) -> FaultCounts:
    """Return what goes wrong in these answers; rows without a score are left out."""
    scored = [(row, answer) for row, answer in answers if isinstance(answer, Scored)]
    found = [(form.fault(answer, row), 1.0 - answer.value) for row, answer in scored]
    kinds = Counter(fault for fault, _ in found if fault is not None)
    right = sum(fault is None for fault, _ in found)
    return FaultCounts(
        rows=len(found),
        right=right,
        form=sum(kinds.values()) - kinds[WRONG],
        content=kinds[WRONG],
        kinds=dict(kinds.most_common()),
        lost_by_form=_share(found, form=True),
        lost_by_content=_share(found, form=False),
    )


def _share(found: Sequence[tuple[Fault | None, float]], *, form: bool) -> float:
    lost = sum(loss for fault, loss in found if fault is not None and (fault != WRONG) == form)
    return lost / len(found) if found else 0.0
