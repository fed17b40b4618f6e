"""Tests of guards: prompts that grow, repeat themselves, are broken or copy rows are refused; ordinary ones pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpo_agent.core import guards as guards_module
from lpo_agent.core.demos import block_text
from lpo_agent.core.guards import Guards
from lpo_agent.core.messages import Row
from lpo_agent.core.text import TAG, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = "Classify the review as good or bad.\nText: {input}\nLabel:"
REVIEW = "The waiter brought cold soup, and nobody said sorry to us."
CHINESE = "这家餐厅的服务员态度很差而且汤也是冷的我们不会再来"
ROWS = [
    Row(id="1", variables={"input": REVIEW}, target="bad"),
    Row(id="2", variables={"input": "What a lovely evening!"}, target="good"),
    Row(id="3", variables={"input": "Great"}, target="good"),
    Row(id="4", variables={"input": CHINESE}, target="good"),
    Row(id="5", variables={"input": "Why?"}, target="Because the kitchen closes at nine on all working days."),
    *(Row(id=f"l{n}", variables={"input": f"x{n}"}, target="neither good nor bad but in between") for n in range(2)),
    *(
        Row(id=f"t{n}", variables={"input": f"Which of the following options is sarcastic? No. {n}"}, target="good")
        for n in range(3)
    ),
]

ORDINARY = [
    "Classify the review as good or bad.\nText: {input}\nLabel:",
    "# Task\n\n## Rules\n\n- **Be brief.**\n- Do *not* explain -- ever.\n- Use `label: value`.\n\n---\n\n{input}",
    "Write a function.\n\n```python\ndef f(x):\n    return x[0], (x[1], {'a': [1, 2]})\n```\n\nTask: {input}",
    'Reply with JSON: {"label": "good", "why": ["a", "b"], "more": {"n": 1}}\n\n{input}',
    'Fill this in:\n{{"name": "{input}", "tags": []}}',
    "请判断下面这段评论的情感是积极还是消极。只回答“积极”或“消极”,不要解释。\n\n评论:{input}\n\n答案:",
    "次の文章を読んで、「はい」か「いいえ」で答えてください……\n\n{input}",
    "صنّف النص التالي إلى إيجابي أو سلبي، ولا تشرح جوابك.\n\nالنص: {input}\nالجواب:",  # noqa: RUF001
    "निम्नलिखित वाक्य को धीरे धीरे पढ़ो और बताओ कि वह सही है या ग़लत।\n\n{input}",
    r"Compute $\int_0^1 x^2 \, dx$ and $\left( \frac{a}{b} \right)^{2}$ for $x \in [0, 1)$ in \{1, 2, \dots\}. {input}",
    "Sum \\begin{align} a &= b \\\\ c &= d \\end{align} and x_1, x_2, ..., x_n. Then {input}",
    "Choose:\n1) good\n2) bad\na) none of it\n(b) all of it\n\n{input}",
    "* one\n* two\n  * two and a half\n+ three\n\n1. first\n2. second\n\n{input}",
    "Row, row, row your boat,\nGently down the stream!\nMerrily, merrily, merrily, merrily,\n{input}",
    "Tyger Tyger, burning bright,\nIn the forests of the night\n\nIs this a poem? {input}",
    "He had had enough... I know that that is so very very true. Hm... well? What?! {input}",
    "Run `cd ..`, then `../bin/go`, and look into ../lib, .env and a..b for 1..5 of it. {input}",
    "for (;;) { a[i] = std::max(b, c); } // what does it do? int main() { return 0; } {input}",
    "<instructions>\nBe kind.\n</instructions>\n<text>\n{input}\n</text>",
    "| a | b |\n| --- | --- |\n| 1 | 2 |\n\nAnswer the question on the table: {input}",
    "Antworte mit „ja“ oder „nein“. Das ist wichtig; nichts sonst. {input}",
    "Répondez par « oui » ou « non ». Assurez-vous que vous vous relisez. {input}",
    'The screen is 27" wide. Is it a "big" one :) or a small one :( ? {input}',
    "SELECT a, b FROM t WHERE x = 'it''s' AND y IN (1, 2);\n\nWhat does this select? a,,b is CSV. {input}",
    "Let's think step by step. Then give the answer after '####'. Don't guess (it's wrong).\n\nQ: {input}\nA:",
    "อ่านข้อความต่อไปนี้แล้วตอบว่าใช่หรือไม่ใช่ {input}",
]
ADDED = [
    "Be brief.",
    "Answer with one word (no more).",
    "- Think first, then answer.",
    'Reply with "good" or "bad".',
    "Choose: a) good, b) bad, c) neither.",
    "Wait... is it so?",
    "Use `x = [1, 2` only if needed.",
    "只回答一个词。",
    "It is worth $5, e.g., or 1,000.50 in [0, 1).",
    "```json\n{}\n```",
]


def guards(seed: str = SEED, most_words: int | None = None) -> Guards:
    return Guards.of(Prompt(text=seed), ROWS, most_words)


@pytest.mark.parametrize("seed", ORDINARY)
@pytest.mark.parametrize("added", ["", *ADDED])
def test_ordinary_prompts_with_a_small_edit_pass(seed: str, added: str) -> None:
    guard = guards(seed)
    assert guard.refuse(f"{seed}\n\n{added}") is None
    assert guard.refuse(f"{added}\n\n{seed}") is None
    assert "Tyger" in seed or guards().refuse(f"{added}\n{seed}") is None


@given(st.text(), st.sampled_from(ADDED))
def test_a_seed_is_never_refused(text: str, added: str) -> None:
    if TAG.search(text):
        return
    assert guards(text).refuse(text) is None
    guards(text).refuse(f"{added} {text}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{SEED} {'more of it, '.join(map(str, range(400)))}", "words"),
        (f"{SEED} {'answer with one word ' * 8}", "repeats"),
        (f"{SEED} {'只回答一个词' * 8}", "repeats"),
        (f"{SEED} Answer with the the label.", "twice"),
        (f"{SEED} Answer answer now.", "twice"),
        (f"{SEED} good,, or bad.", "punctuation"),
        (f"{SEED} good, , bad.", "punctuation"),
        (f"{SEED} Be brief. . Please.", "punctuation"),
        (f"{SEED} Be brief.., please", "punctuation"),
        (f"{SEED} Be brief.. Please.", "punctuation"),
        (f"{SEED} Be brief..", "punctuation"),
        (f"{SEED} Be brief,.", "punctuation"),
        (f"{SEED} 好\uff0c\uff0c坏", "punctuation"),
        (f"{SEED} 好。。", "punctuation"),
        (f"{SEED} Say it (briefly.", "pair up"),
        (f"{SEED} Say it briefly).", "pair up"),
        (f"{SEED} Say [good, bad", "pair up"),
        (f"{SEED} Say {{good", "pair up"),
        (f"{SEED} 说「好", "pair up"),
        (f'{SEED} Say "good or "bad".', "left open"),
        (f"{SEED} Say \u201cgood.", "left open"),
        (f"{SEED} Dites « oui.", "left open"),
        (f"{SEED} Say `good.", "left open"),
        (f"{SEED}\n```json\n[1]", "fence"),
        (f"{REVIEW}\n{SEED}", "copies"),
        (f"As in: brought COLD soup and, nobody (said) sorry -> bad.\n{SEED}", "copies"),
        (f"What a lovely evening is good.\n{SEED}", "copies"),
        (f"The kitchen closes at nine on Sundays.\n{SEED}", "copies"),
        (f"{CHINESE[3:15]}\n{SEED}", "copies"),
    ],
)
def test_invalid_prompts_are_refused_with_a_reason(text: str, reason: str) -> None:
    assert reason in (guards().refuse(text) or "")


@pytest.mark.parametrize(
    "added",
    [
        "Answer good or bad, nothing else.",
        "If nobody said sorry to you, it is bad.",
        "A lovely evening is good.",
        "Great is good.",
        "Or neither good nor bad, but in between.",
        "Which of the following options is sarcastic?",
        CHINESE[3:14],
        "Because the kitchen closes at ten.",
    ],
)
def test_labels_common_words_and_short_runs_are_no_copies(added: str) -> None:
    assert guards().refuse(f"{added}\n{SEED}") is None


def test_faults_of_the_seed_do_not_count_against_a_proposal() -> None:
    seed = f"{REVIEW} is is bad,, ok.. (so. {CHINESE}\n```\n{{input}} “"
    assert guards(seed).refuse(f"Now: {seed}") is None
    assert guards(seed).refuse(f"The the: {seed}") == "a word stands twice in succession"


def test_no_reason_quotes_a_row() -> None:
    said = guards().refuse(f"{REVIEW}\n{SEED}")
    assert said is not None
    assert not set(said.split()) & set(REVIEW.split()) - {"a", "to"}


def test_growth_is_capped_by_the_seed_or_by_the_caller() -> None:
    assert guards().most_words == 610
    assert guards("word " * 400).most_words == 1200
    assert guards(most_words=12).refuse(f"{SEED} And then some.") == "it has 13 words, and at most 12 are allowed"
    assert guards("把文本分类" * 100).most_words == 1500


def test_demonstrations_are_not_checked() -> None:
    demos = frozenset(block_text(row) for row in ROWS)
    text = "\n\n".join([*sorted(demos), SEED])
    assert guards(most_words=12).refuse(text, demos) is None
    assert guards(most_words=999).refuse(text) is not None
    changed = text.replace("cold soup", "hot soup")
    assert guards(most_words=99).refuse(changed, demos) == "it copies a run of words from a training example"


def test_rows_are_read_once_and_a_prompt_is_checked_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are: what is counted is how often any text is cut into words."""
    read, cut = list[str](), guards_module._streams

    def note(text: str) -> Iterator[tuple[list[int], int, bool]]:
        read.append(text)
        yield from cut(text)

    monkeypatch.setattr(guards_module, "_streams", note)
    rows = [
        Row(id=str(n), variables={"input": " ".join(f"w{(n * 131 + i * i) % 9973}" for i in range(100))}, target="a")
        for n in range(500)
    ]
    guard = Guards.of(Prompt(text=SEED), rows)
    inputs = [row.variables["input"] for row in rows]
    assert sorted(text for text in read if text in set(inputs)) == sorted(inputs)
    assert len(read) <= len(rows) + 2  # the rows, their one target, and the seed prompt
    read.clear()
    assert guard.refuse(f"{SEED} Be brief.") is None
    assert guard.refuse(f"{inputs[77][40:90]}\n{SEED}") is not None
    assert len(read) == 2


def test_no_sentence_stands_twice_unless_it_did_in_the_seed_prompt() -> None:
    seed = Prompt(text="Read the note. Sort it.\nNote: {input}\nAnswer: no\nAnswer: no")
    guards = Guards.of(seed, ())
    assert guards.refuse("Read the note. Be brief. Sort it. be  brief.\nNote: {input}") == "a sentence stands twice"
    assert guards.refuse("Read the note. Be brief. Sort it.\nNote: {input}\nAnswer: no\nAnswer: no") is None
    twice = Prompt(text="Be brief. Read the note. Be brief.\n{input}")
    assert Guards.of(twice, ()).refuse("Be brief. Read the note well. Be brief.\n{input}") is None
