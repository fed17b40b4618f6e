"""Tests of telling faults of form from faults of content, and of the estimate of the gain."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core.messages import Row
from lpo_agent.core.result import AgreementResult
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.data import Splits
from lpo_agent.search.faults import AnswerForm, count
from lpo_agent.search.headroom import advise, estimate, shrunken

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = AnswerForm(("not valid", "valid"), numeric=False, longest=2, max_tokens=16)
NUMBERS = AnswerForm((), numeric=True, longest=1, max_tokens=64)
TEXTS = AnswerForm((), numeric=False, longest=2, max_tokens=64)


def row(target: str, name: str = "r") -> Row:
    return Row(id=name, variables={"input": "x"}, target=target)


def rows(*targets: str) -> tuple[Row, ...]:
    return tuple(row(each, f"r:{number}") for number, each in enumerate(targets))


@pytest.mark.parametrize(
    ("form", "target", "output", "fault"),
    [
        (LABELS, "valid", "", "empty"),
        (LABELS, "valid", "**Valid.**", "unread"),
        (LABELS, "not valid", "It is not valid!", "unread"),
        (LABELS, "valid", "not valid", "wrong"),
        (LABELS, "valid", "It is valid, or else it is not valid.", "several"),
        (LABELS, "valid", "I cannot say.", "no answer"),
        (LABELS, "valid", "Let us see what the premises say about the two men and", "cut off"),
        (AnswerForm(("no", "yes"), numeric=False, longest=1, max_tokens=64), "yes", "Yes or no?", "several"),
        (NUMBERS, "1,200", "That makes $1200 in 3 days", "unread"),
        (NUMBERS, "12", "About 13.", "wrong"),
        (NUMBERS, "12", "A dozen.", "no answer"),
        (TEXTS, "Paris", "The capital is paris, of course", "unread"),
        (TEXTS, "Paris", "Rome", "wrong"),
        (TEXTS, "Paris", "I think that it could be one of many " * 3 + "places.", "too long"),
        (TEXTS, "Paris", "Parisian", "wrong"),
    ],
)
def test_the_fault_of_an_answer(form: AnswerForm, target: str, output: str, fault: str) -> None:
    assert form.fault(Scored(value=0.0, output=output), row(target)) == fault
    assert form.fault(Scored(value=1.0, output=output), row(target)) is None


def test_faults_are_counted_with_what_they_cost() -> None:
    answers = [
        (row("valid"), Scored(value=1.0, output="valid")),
        (row("valid"), Scored(value=0.0, output="hm.")),
        (row("valid"), Scored(value=0.5, output="not valid")),
        (row("valid"), Unscored(reason="no reply")),
    ]
    found = count(LABELS, answers)
    assert (found.rows, found.right, found.form, found.content) == (3, 1, 1, 1)
    assert found.kinds == {"no answer": 1, "wrong": 1}
    assert found.lost_by_form == pytest.approx(1 / 3)
    assert found.lost_by_content == pytest.approx(0.5 / 3)


@given(st.lists(st.sampled_from(["valid", "not valid", "", "hm", "so " * 30]), min_size=1, max_size=40))
def test_what_is_lost_adds_up(outputs: Sequence[str]) -> None:
    answers = [(row("valid"), Scored(value=float(each == "valid"), output=each)) for each in outputs]
    found = count(LABELS, answers)
    score = sum(answer.value for _, answer in answers) / len(answers)
    assert found.right + found.form + found.content == found.rows == len(outputs)
    assert found.lost_by_form + found.lost_by_content == pytest.approx(1 - score)


def test_the_gain_of_a_change_without_effect_is_rarely_called_sure() -> None:
    rng, sure = random.Random(7), 0
    for _ in range(400):
        gain, error = shrunken([rng.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(12)])
        sure += gain - 1.96 * error > 0
    assert sure <= 20


def test_the_estimate_lies_in_its_interval_and_below_what_is_lost() -> None:
    answers = [(row("valid"), Scored(value=float(n < 6), output="valid" if n < 6 else "hm.")) for n in range(24)]
    found = estimate([float(n < 6) for n in range(24)], count(LABELS, answers), [[1.0] * 9 + [0.0] * 3, [0.0] * 12])
    assert found is not None
    assert 0.2 < found.low < found.likely <= 0.75 < found.high < 0.95
    assert estimate([], count(LABELS, []), []) is None


def test_the_advice_names_what_speaks_against_a_search() -> None:
    many = rows(*["valid", "not valid"] * 60)
    splits = Splits(many[:40], many[40:60], many[60:])
    good = [(each, Scored(value=1.0, output=each.target)) for each in many[:24]]
    bad = [(each, Scored(value=0.0, output="hm.")) for each in many[:24]]
    half = [*good[:12], *bad[:12]]
    scores = [1.0] * 12 + [0.0] * 12

    perfect = count(LABELS, good)
    gain = estimate([1.0] * 24, perfect, [])
    worth, (reason,) = advise(perfect, gain, None, splits)
    assert (worth, reason) == ("no", "all 24 items are right already; at most 0.14 can be gained")
    faults = count(LABELS, half)
    gain = estimate(scores, faults, [[0.5, 0.5] * 6])
    assert advise(faults, gain, AgreementResult(n=12, same=12), splits).worth == "yes"
    worth, (reason,) = advise(faults, gain, AgreementResult(n=12, same=6), splits)
    assert (worth, reason) == ("perhaps", "only 6 of 12 items got the same score when they were asked again")
    worth, (reason,) = advise(faults, gain, None, Splits(many[:40], many[40:60], ()))
    assert (worth, reason) == ("perhaps", "there is no test split, so no gain can be proved")
    worth, reasons = advise(faults, gain, None, Splits(many[:8], many[8:12], many[60:66]))
    assert worth == "perhaps"
    assert [each.split()[0] for each in reasons] == ["train", "the"]
    alike = rows(*["valid"] * 90)
    assert advise(faults, gain, None, Splits(alike[:30], alike[30:60], alike[60:])).worth == "no"
    assert advise(count(LABELS, []), None, None, splits) == ("no", ("no item could be scored",))
