"""Tests of what is counted in answers for the critic, and of the examples that it gets."""

from __future__ import annotations

import random

import pytest

from lpo_agent.core.evidence import divided, evidence, given_label, length, report
from lpo_agent.core.messages import Row, Trace
from lpo_agent.core.scores import Scored

LABELS = ("yes", "no", "no idea")


def trace(
    n: int, wanted: str, given: str, score: float | None = None, feedback: str = "", *, cut: bool = False
) -> Trace:
    value = float(wanted == given) if score is None else score
    return Trace(row=Row(str(n), {"input": f"question {n}"}, wanted), result=Scored(value, given, feedback, cut))


@pytest.mark.parametrize(
    ("output", "label"),
    [
        ("Yes.", "yes"),
        ("**No**", "no"),
        ("I have no idea", "no idea"),
        ("It is yes, not no", "several"),
        ("Nobody knows", "none of them"),
        ("", "none of them"),
    ],
)
def test_the_label_that_an_answer_names(output: str, label: str) -> None:
    assert given_label(output, LABELS) == label


def test_confusions_and_forms_are_counted() -> None:
    traces = [
        *(trace(n, "yes", "yes") for n in range(5)),
        *(trace(n, "no", "yes") for n in range(5, 9)),
        trace(9, "no", "", feedback="the reply is empty"),
        trace(10, "no", "well, " * 40, feedback="no label", cut=True),
    ]
    text = report(traces, LABELS[:2])
    assert "Mean score 0.45 on 11 examples: 5 right, 6 wrong." in text
    assert "Wanted: no 6, yes 5. Given: yes 9, none of them 2." in text
    assert "Where no is wanted: 0 of 6 answers name it; given instead: yes 4, none of them 2." in text
    assert "1 empty, 1 cut off at the limit of length, 1 much longer than the wanted ones (of 1 words at most)" in text
    assert "2 naming no possible answer, 0 naming several" in text
    assert "Most frequent remarks of the scorer: the reply is empty 1, no label 1." in text
    assert report([], LABELS) == "No answers are known yet."


def test_answers_without_a_number_are_counted_where_numbers_are_wanted() -> None:
    assert "1 without any number" in report([trace(0, "12", "12"), trace(1, "13", "many")], ())


def test_with_many_labels_the_most_frequent_confusions_are_listed() -> None:
    labels = [f"label {n}" for n in range(20)]
    text = report([trace(n, labels[n % 20], labels[3]) for n in range(60)], labels)
    assert "(wanted -> given): label 0 -> label 3 3, " in text
    assert "Where" not in text


def test_all_kinds_of_failures_are_shown_within_the_room() -> None:
    traces = [trace(n, "no", "yes") for n in range(200)]
    traces += [trace(900, "yes", "no"), trace(901, "yes", "hm"), *(trace(1000 + n, "no", "no") for n in range(50))]
    found = evidence(traces, LABELS, random.Random(1), room=4_000)
    kinds = {(each.row.target, each.result.output) for each in found.failures}
    assert kinds == {("no", "yes"), ("yes", "no"), ("yes", "hm")}
    assert 20 < len(found.failures) < 60
    assert sum(map(length, (*found.failures, *found.passes))) <= 4_000
    assert {each.result.output for each in found.passes} == {"no"}
    assert len(evidence(traces[200:], LABELS, random.Random(1)).failures) == 2


def test_one_example_is_shown_however_long_it_is() -> None:
    long = [trace(0, "no", "word " * 9_000)]
    assert len(evidence(long, LABELS, random.Random(1), room=500).failures) == 1


def test_graded_scores_fail_below_their_mean() -> None:
    traces = [trace(n, "x", "y", score) for n, score in enumerate((0.6, 0.7, 0.9, 1.0))]
    wrong, right = divided(traces)
    assert [each.result.value for each in wrong] == [0.6, 0.7]
    assert [each.result.value for each in right] == [0.9, 1.0]
    assert divided([trace(0, "x", "y", 1.0)])[0] == []
