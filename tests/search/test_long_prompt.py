"""A prompt of about 8,000 tokens with one faulty sentence is mended by an optimizer that quotes it imperfectly."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import lpo_agent
from lpo_agent import Environment
from lpo_agent.models.providers.scripted import ScriptedModel

if TYPE_CHECKING:
    from pathlib import Path

    from lpo_agent.models.base import Call

pytestmark = pytest.mark.anyio

FAULT = (
    "For refunds, always write the amount in \u201ccents\u201d \u2014  it\u2019s what the desk expects, "
    "even if dollars are asked for."
)
TOPICS = (
    *("Greetings", "Parcels", "Letters", "Customs", "Weekends", "Holidays", "Complaints", "Invoices", "Addresses"),
    *("Pickup", "Lockers", "Returns", "Damage", "Insurance", "Tracking", "Drivers", "Refunds", "Payments", "Accounts"),
    *("Passwords", "Privacy", "Languages", "Tone", "Length", "Dates", "Currencies", "Signatures", "Handover"),
    *("Escalation", "Closing"),
)


def section(number: int, topic: str) -> str:
    rules = [
        f"- In matters of {topic.lower()}, rule {number}.{n}: the clerk \u201cchecks\u201d the file first, then "
        f"decides what applies, and never promises what case {number * 31 + n} of the handbook doesn\u2019t allow."
        for n in range(7)
    ]
    if topic == "Refunds":
        rules[3] = f"- {FAULT}"
    return f"## {number}. {topic}\n\n" + "\n".join(rules)


PROMPT = "You are a clerk of a parcel service.\n\n{}\n\nQuestion: {{input}}\nAnswer:".format(
    "\n\n".join(section(number, topic) for number, topic in enumerate(TOPICS, start=1))
)
ROWS = [
    {"input": f"{'refund' if n % 2 else 'parcel'} {n}", "target": f"{n} {'dollars' if n % 2 else 'kilos'}"}
    for n in range(160)
]


def task(call: Call) -> str:
    """Answer refunds wrongly while the fault stands, and one row in ten in any case."""
    text = call.turns[-1].content
    kind, number = re.findall(r"\b(refund|parcel) (\d+)", text)[-1]
    if int(number) % 10 == 0:
        return "I do not know."
    if kind == "parcel":
        return f"{number} kilos"
    return f"{number}00 cents" if FAULT in text else f"{number} dollars"


def sloppy(words: str) -> str:
    """Quote as models do: with straight quotes, a plain dash, lost spaces and another case."""
    for curly, straight in (("\u201c", '"'), ("\u201d", '"'), ("\u2019", "'"), ("\u2014", "-"), ("  ", "")):
        words = words.replace(curly, straight)
    return words.replace("amount in", "amountin").capitalize()


def optimizer(call: Call) -> str:
    text = call.turns[0].content
    if text.startswith("You review a prompt"):
        cause = "The section on refunds asks for cents."
        return json.dumps(
            {"classes": [{"name": "wrong unit", "count": 9, "cause": cause}], "summary": "Mind the unit."}
        )
    if text.startswith("You improve a long prompt"):
        (number,) = re.findall(r"^(\d+)\. lines .*Refunds$", text, re.MULTILINE)
        return f"The unit is wrong there.\n```json\n{{'sections': [{number}, 1]}}\n```"
    shown = re.findall(r"^(\d+)\| (.*)$", text, re.MULTILINE)
    edits = [
        {
            "line": int(line),
            "quote": "the clerk checks the file",
            "action": "insert after",
            "options": ["twice", "well"],
        }
        for line, words in shown
        if "refunds, rule 17.5" in words
    ]
    edits += [
        {
            "line": int(line) - 1,
            "quote": sloppy(words.removeprefix("- ")[:52]),
            "action": "replace",
            "options": ["For refunds, write the amount in whole dollars", "State the amount of a refund in dollars"],
            "strategy": "rule",
            "error": "wrong unit",
        }
        for line, words in shown
        if "refunds, always" in words
    ]
    return f"<think>Which unit?</think>{json.dumps({'edits': edits})[:-1]}, {{'line': 3, 'quo"


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_the_fault_is_found_and_mended(tmp_path: Path, seed: int) -> None:
    assert len(PROMPT) > 32_000  # about 8,000 tokens
    writer = ScriptedModel(optimizer)
    result = await lpo_agent.optimize(
        PROMPT,
        ROWS,
        model=ScriptedModel(task),
        optimizer_model=writer,
        method="lpo",
        metric="exact",
        budget={"calls": 600},
        seed=seed,
        env=Environment(tmp_path),
    )
    assert FAULT not in result.best.prompt
    assert "in dollars" in result.best.prompt or "whole dollars" in result.best.prompt
    assert result.verdict == "improved"
    assert result.usage.calls <= 600
    marking = [optimizer(call) for call in writer.calls if "long prompt" in call.turns[0].content[:40]]
    marking += [optimizer(call) for call in writer.calls if "quote the words" in call.turns[0].content[:80]]
    assert marking
    assert sum(map(len, marking)) / 3 < 1_500 * len(marking) / 2  # at three characters a token
    asked = [call for call in writer.calls if "quote the words" in call.turns[0].content[:80]]
    assert all(len(call.turns[0].content) < 16_000 for call in asked)
