"""What the known answers with a prompt show: counts for the critic, and a fair choice of examples within a size."""

from __future__ import annotations

import re
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from lpo_agent.core.stats import mean

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from lpo_agent.core.messages import Trace

ROOM: Final = 24_000
"""Characters of examples that are shown to a critic at most: about 6,000 tokens."""
LEAST_ROOM: Final = 1_500
"""The same for a model that refused a longer request."""
PASSES: Final = 0.25
"""The share of that room for right answers."""
WORDY: Final = (12, 4)
"""An answer is over-long with more than so many words, and so many times the words of the longest wanted answer."""
MOST_LABELS: Final = 12
"""With more labels, only the pairs of wanted and given labels that occur most often are listed."""
NONE: Final = "none of them"
SEVERAL: Final = "several"
_EDGES: Final = " \t\r\n.,;:!?\"'`*()[]{}<>"


class Evidence(NamedTuple):
    """A report in words, with counts of all answers, and the wrong and right answers to show."""

    report: str
    failures: tuple[Trace, ...]
    passes: tuple[Trace, ...]


def evidence(traces: Sequence[Trace], labels: Sequence[str], rng: random.Random, room: int = ROOM) -> Evidence:
    """Return the evidence in the answers with one prompt; ``labels``: the possible answers, empty if not few.

    As many failures are shown as ``room`` (in characters) allows, in turn from each kind of failure.
    """
    wrong, right = divided(traces)
    failures = _fitting(_in_turn(wrong, labels, rng), int((1 - PASSES) * room))
    passes = _fitting(_in_turn(right, labels, rng), int(PASSES * room))
    return Evidence(report(traces, labels), failures, passes)


def divided(traces: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Return the wrong and the right answers; where scores are graded, wrong means below the mean and below 1."""
    scores = [trace.result.value for trace in traces]
    graded = any(0.0 < score < 1.0 for score in scores)
    limit = max(0.5, mean(scores)) if graded else 0.5
    wrong = [trace for trace in traces if trace.result.value < limit]
    return wrong, [trace for trace in traces if trace.result.value >= limit]


def given_label(output: str, labels: Sequence[str]) -> str:
    """Return the label that an answer names, or that it names none or several of them."""
    text = output.casefold().strip(_EDGES)
    for label in labels:
        if text == label.casefold().strip(_EDGES):
            return label
    named = [label for label in labels if re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", text)]
    longest = [one for one in named if not any(one != other and one.casefold() in other.casefold() for other in named)]
    return longest[0] if len(longest) == 1 else SEVERAL if longest else NONE


def _kind(trace: Trace, labels: Sequence[str]) -> tuple[str, str]:
    """Return the kind of an answer: with labels the wanted and the given one, else its form."""
    if labels:
        return trace.row.target, given_label(trace.result.output, labels)
    output = trace.result.output.strip()
    return "empty" if not output else "cut off" if trace.result.cut_off else "answer", trace.result.feedback[:40]


def _in_turn(traces: Sequence[Trace], labels: Sequence[str], rng: random.Random) -> list[Trace]:
    """Return the answers in a random order that takes one of each kind in turn."""
    groups: dict[tuple[str, str], list[Trace]] = {}
    for trace in rng.sample(list(traces), len(traces)):
        groups.setdefault(_kind(trace, labels), []).append(trace)
    return [trace for turn in zip_longest(*groups.values()) for trace in turn if trace is not None]


def length(trace: Trace) -> int:
    """Return about how many characters an example takes in a request."""
    values = sum(len(name) + len(value) for name, value in trace.row.variables.items())
    return values + len(trace.row.target) + len(trace.result.output) + len(trace.result.feedback) + 40


def _fitting(traces: Sequence[Trace], room: int) -> tuple[Trace, ...]:
    """Return the first answers that fit into the room, the first one in any case; longer ones are passed over."""
    found: list[Trace] = []
    for trace in traces:
        if not found or length(trace) <= room:
            found.append(trace)
            room -= length(trace)
    return tuple(found)


def report(traces: Sequence[Trace], labels: Sequence[str]) -> str:
    """Return in words what can be counted in the answers: score, labels, confusions, form of answers, remarks."""
    if not traces:
        return "No answers are known yet."
    wrong, right = divided(traces)
    score = mean([trace.result.value for trace in traces])
    lines = [f"Mean score {score:.2f} on {len(traces)} examples: {len(right)} right, {len(wrong)} wrong."]
    if labels:
        lines += _confusion(traces, labels)
    return "\n".join([*lines, *_forms(traces, labels), *_remarks(wrong)])


def _confusion(traces: Sequence[Trace], labels: Sequence[str]) -> list[str]:
    pairs = Counter((trace.row.target, given_label(trace.result.output, labels)) for trace in traces)
    wanted = Counter(trace.row.target for trace in traces)
    given = Counter(trace for _, trace in pairs.elements())
    lines = [f"Wanted: {_counts(wanted)}. Given: {_counts(given)}."]
    if len(wanted) > MOST_LABELS:
        missed = Counter({f"{w} -> {g}": n for (w, g), n in pairs.items() if w != g})
        return [*lines, f"Most frequent confusions (wanted -> given): {_counts(missed, MOST_LABELS)}."]
    for label, total in wanted.most_common():
        others = Counter({g: n for (w, g), n in pairs.items() if w == label and g != label})
        also = f"; given instead: {_counts(others)}" if others else ""
        lines.append(f"Where {label} is wanted: {pairs[label, label]} of {total} answers name it{also}.")
    return lines


def _counts(found: Mapping[str, int], most: int | None = None) -> str:
    return ", ".join(f"{name} {number}" for name, number in Counter(found).most_common(most))


def _forms(traces: Sequence[Trace], labels: Sequence[str]) -> list[str]:
    outputs = [trace.result.output.strip() for trace in traces]
    longest = max(len(trace.row.target.split()) for trace in traces)
    least, times = WORDY
    counts = {
        "empty": sum(not output for output in outputs),
        "cut off at the limit of length": sum(trace.result.cut_off for trace in traces),
        f"much longer than the wanted ones (of {longest} words at most)": sum(
            len(output.split()) > max(least, times * longest) for output in outputs
        ),
    }
    if labels:
        named = Counter(given_label(output, labels) for output in outputs)
        counts |= {"naming no possible answer": named[NONE], "naming several": named[SEVERAL]}
    elif all(any(map(str.isdigit, trace.row.target)) for trace in traces):
        counts["without any number"] = sum(not any(map(str.isdigit, output)) for output in outputs)
    return [f"Of {len(traces)} answers: {', '.join(f'{number} {name}' for name, number in counts.items())}."]


def _remarks(wrong: Sequence[Trace]) -> list[str]:
    remarks = Counter(remark for trace in wrong if (remark := " ".join(trace.result.feedback.split())[:120]))
    return [f"Most frequent remarks of the scorer: {_counts(remarks, 5)}."] if remarks else []
