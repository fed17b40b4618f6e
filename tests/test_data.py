"""Tests of reading data files, and of splitting rows."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lpo_agent.core.messages import Row
from lpo_agent.data import (
    Example,
    Splits,
    digest,
    from_json,
    labels_of,
    read_examples,
    to_json,
    variables_of,
)
from lpo_agent.errors import DataError
from lpo_agent.splitting import conflicts, split, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCH = Path(os.environ.get("LPO_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")

EXAMPLES = st.lists(st.builds(Example, input=st.text(max_size=8), target=st.sampled_from("abc")), max_size=60)
ROWS = st.builds(
    Row,
    id=st.text(max_size=5),
    variables=st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3),
    target=st.text(max_size=10),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def numbered(n: int, classes: int = 1) -> list[Example]:
    return [Example(input=f"question {i}", target=f"class {i % classes}") for i in range(n)]


def inputs(rows: Sequence[Row]) -> list[str]:
    return [row.variables["input"] for row in rows]


def pairs(examples: Sequence[Example]) -> list[tuple[Any, str]]:
    return [(example.input, example.target) for example in examples]


# --- Files that are read


def test_json_lines(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", '{"input": "2+2?", "target": "4", "id": 7}\n\n{"input": "ü\u2028ü", "target": ""}')
    assert pairs(read_examples(path)) == [("2+2?", "4"), ("ü\u2028ü", "")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a"])
def test_json_is_known_by_its_content(write: Callable[..., Path], name: str) -> None:
    lines = '{"input": "a", "target": "1"}\n{"input": "b", "target": "2"}\n'
    listed = '[\n {"input": "a", "target": "1"},\n {"input": "b", "target": "2"}\n]'
    wanted = [("a", "1"), ("b", "2")]
    assert pairs(read_examples(write(name, lines))) == wanted
    assert pairs(read_examples(write(name, listed))) == wanted
    assert pairs(read_examples(write(name, '{\n "input": "a",\n "target": "1"\n}'))) == wanted[:1]


def test_byte_order_mark_and_windows_line_ends(write: Callable[..., Path]) -> None:
    lines = b'\xef\xbb\xbf{"input": "a", "target": "1"}\r\n\r\n{"input": "b", "target": "2"}\r\n'
    assert pairs(read_examples(write("a.jsonl", lines))) == [("a", "1"), ("b", "2")]
    table = b"\xef\xbb\xbfinput,target\r\na,1\r\n"
    assert pairs(read_examples(write("a.csv", table))) == [("a", "1")]


def test_numbers_and_booleans_become_the_text_in_the_file(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", '{"input": {"x": 1.50, "y": true}, "target": 12345678901234567890123}')
    assert pairs(read_examples(path)) == [({"x": "1.50", "y": "true"}, "12345678901234567890123")]


def test_csv_with_quotes_and_further_columns(write: Callable[..., Path]) -> None:
    path = write("a.csv", 'id,input, target\n1,"a, ""b""\nc",x\n\n2,d,\n')
    assert pairs(read_examples(path)) == [('a, "b"\nc', "x"), ("d", "")]


def test_csv_columns_are_variables_where_there_is_no_input(write: Callable[..., Path]) -> None:
    path = write("a.CSV", "question,target,hint\nwhy?,because,none\n")
    assert pairs(read_examples(path)) == [({"question": "why?", "hint": "none"}, "because")]


def test_gsm8k_as_published(write: Callable[..., Path]) -> None:
    row = {"question": "How many?", "answer": "Half is 48/2 = <<48/2=24>>24.\n#### 1,024"}
    assert pairs(read_examples(write("test.jsonl", json.dumps(row) + "\n"))) == [("How many?", "1024")]


def test_big_bench_hard_as_published(write: Callable[..., Path]) -> None:
    content = {"canary": "do not train on this", "examples": [{"input": "Options:\n(A) x\n(B) y", "target": "(A)"}]}
    for text in (json.dumps(content), json.dumps(content, indent=2)):
        assert pairs(read_examples(write("date.json", text))) == [("Options:\n(A) x\n(B) y", "(A)")]


@pytest.mark.parametrize(
    ("solution", "target"), [(27.0, "27"), (1234567.0, "1234567"), (2.5, "2.5"), (-3.0, "-3"), (8, "8")]
)
def test_multiarith_as_published(write: Callable[..., Path], solution: float, target: str) -> None:
    row = {"iIndex": 0, "sQuestion": " How many? ", "lEquations": ["X=(64.0-(37.0))"], "lSolutions": [solution]}
    assert pairs(read_examples(write("MultiArith.json", json.dumps([row])))) == [("How many?", target)]


# --- Files that are refused, each with the place and what to do


GOOD = '{"input": "a", "target": "1"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl: no rows; each row needs"),
        ("a.jsonl", " \n\n", "no rows"),
        ("a.csv", "", "no rows"),
        ("a.csv", "input,target\n\n", "no rows"),
        ("a.json", "[]", "no rows"),
        ("a.json", '{"examples": []}', "no rows"),
        ("a.json", '{"examples": 3}', '"examples" is not a list'),
        (
            "a.jsonl",
            GOOD.encode() + b'{"input": "\xff"}',
            r"line 2: not UTF-8 text \(byte 41\); save the file as UTF-8",
        ),
        ("a.jsonl", GOOD.encode("utf-16"), "not UTF-8"),
        ("a.jsonl", GOOD + "\n{'input'}", r"line 3: not valid JSON \(.*\); write one JSON object a line"),
        ("a.jsonl", "input,target\na,b", r"line 1: not valid JSON .* must be named \.csv"),
        ("a.json", '{"examples": [\n{"input": "a"\n', "line 3: not valid JSON"),
        ("a.json", '[\n{"input": "a", "target": "b"},\n]', "line [23]: not valid JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", GOOD + '{"input": ' + "[" * 100_000, "line 2: .*nested too deeply"),
        ("a.jsonl", GOOD + '{"inptu": "a", "target": "b"}', r"line 2: has no 'input' \(it has: inptu, target\)"),
        ("a.jsonl", '{"input": "a"}', r"1: has no 'target' \(it has: input\)"),
        ("a.jsonl", "{}", r"has no 'input' \(it has: nothing\)"),
        ("a.json", '[{"input": "a", "target": "b"}, 3]', "row 2: is text or a number, not an object"),
        ("a.jsonl", GOOD + "null", "line 2: is null, not an object"),
        ("a.jsonl", '{"input": null, "target": "b"}', "1: 'input' is null, not text"),
        ("a.jsonl", '{"input": "a", "target": ["b"]}', "1: 'target' is a list, not text"),
        ("a.jsonl", '{"input": "a", "target": {}}', "1: 'target' is an object, not text"),
        ("a.jsonl", '{"input": {"x": null}, "target": "b"}', "1: 'x' is null"),
        ("a.jsonl", '{"input": {}, "target": "b"}', "1: the input has no variables"),
        ("a.jsonl", '{"input": {"my x": "a"}, "target": "b"}', "1: 'my x' cannot be the name of a variable"),
        ("a.jsonl", '{"input": {"é": "a"}, "target": "b"}', "'é' cannot be the name"),
        ("a.jsonl", GOOD + '{"input": {"x": "a"}, "target": "b"}', "line 2: has the variables x, but .* has input;"),
        ("a.jsonl", '{"input": "\\ud83d", "target": "b"}', r"1: the text has a lone surrogate \('\\ud83d'\)"),
        ("a.csv", "input;target\na;b\n", r"line 2: has no 'input' \(it has: input;target\)"),
        ("a.csv", "input,target\na,b\na,b,c\n", "line 3: has 3 fields, but the header has 2; put fields"),
        ("a.csv", "input,target\na\n", "line 2: has 1 fields"),
        ("a.csv", 'input,target\n"a"b,c\n', "line 2: not valid CSV"),
        ("a.csv", 'input,target\n"a,b\n', "not valid CSV"),
        ("a.csv", "x,x,target\na,b,c\n", "line 1: there are two columns 'x'; rename one"),
        ("a.csv", "my x,target\na,b\n", "line 2: 'my x' cannot be the name of a variable"),
        ("a.csv", "target\nb\n", "the input has no variables"),
        ("a.jsonl", '{"question": "a", "answer": "b"}', "1: the answer has no #### .* rename question and answer"),
        ("a.json", '[{"sQuestion": "a", "lSolutions": []}]', "row 1: lSolutions is not a list of one number"),
        ("a.json", '[{"sQuestion": "a", "lSolutions": ["x"]}]', "lSolutions is not a list of one number"),
        ("a.json", '[{"sQuestion": null, "lSolutions": [1.0]}]', "row 1: 'sQuestion' is null"),
    ],
)
def test_a_bad_file_is_refused(write: Callable[..., Path], name: str, content: str | bytes, message: str) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=message) as caught:
        read_examples(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl: there is no such file; check the path"):
        read_examples(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match="is a directory; name a file in it"):
        read_examples(tmp_path)


def test_an_error_does_not_show_the_row(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", '{"input": "a", "target": ["secret"]}')
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert "secret" not in str(caught.value)


def test_a_caller_s_own_examples_are_checked_too() -> None:
    with pytest.raises(ValidationError, match="cannot be the name of a variable"):
        Example(input={"my x": "a"}, target="b")
    with pytest.raises(ValidationError, match="lone surrogate"):
        Example(input="a", target="\udc00")


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8))
def test_json_lines_keep_any_text(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    lines = [json.dumps({"input": given, "target": target}, ensure_ascii=False) for given, target in rows]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert pairs(read_examples(path)) == rows


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        path = tmp_path_factory.mktemp("any") / name
        path.write_bytes(content)
        with suppress(DataError):
            assert read_examples(path)


# --- Splits


@given(EXAMPLES, st.integers(0, 5))
def test_a_split_is_a_partition_and_repeats(examples: list[Example], seed: int) -> None:
    try:
        parts = split(data=examples, seed=seed)
    except DataError:
        assert len({*pairs(examples)}) < len(examples) or len(examples) < 2
        return
    assert parts == split(data=examples, seed=seed)
    tested = {(row.variables["input"], row.target) for row in parts.test}
    learned = [(row.variables["input"], row.target) for row in (*parts.train, *parts.dev)]
    assert not tested.intersection(learned)
    kept = Counter(learned + [(row.variables["input"], row.target) for row in parts.test])
    dropped = Counter(pairs(examples)) - kept
    assert kept <= Counter(pairs(examples))
    chosen = {row.variables["input"] for row in parts.dev}
    assert dropped.total() == parts.leaked + parts.shared
    assert all(row in tested or row[0] in chosen for row in dropped)
    assert parts.train
    assert parts.dev
    assert parts.test or len(examples) < 10


@given(st.integers(10, 120), st.integers(1, 20), st.integers(0, 3))
def test_each_split_has_each_class_in_proportion(n: int, classes: int, seed: int) -> None:
    examples = numbered(n, classes)
    parts = split(data=examples, seed=seed)
    for name, share in (("train", 0.4), ("dev", 0.2), ("test", 0.4)):
        rows = getattr(parts, name)
        assert abs(len(rows) - share * n) <= 1
        counts = Counter(row.target for row in rows)
        for target, size in Counter(example.target for example in examples).items():
            assert abs(counts[target] - share * size) < 1.5


def test_another_seed_gives_another_split() -> None:
    assert split(data=numbered(40), seed=1) != split(data=numbered(40), seed=2)
    assert split(data=numbered(40, classes=40), seed=1) != split(data=numbered(40, classes=40), seed=2)


def test_the_caller_s_list_is_not_changed() -> None:
    examples = numbered(30)
    split(data=examples, seed=1)
    assert examples == numbered(30)


@pytest.mark.parametrize(
    ("n", "sizes"), [(2, (1, 1, 0)), (3, (2, 1, 0)), (9, (6, 3, 0)), (10, (4, 2, 4)), (100, (40, 20, 40))]
)
def test_sizes_of_the_splits(n: int, sizes: tuple[int, int, int]) -> None:
    parts = split(data=numbered(n))
    assert (len(parts.train), len(parts.dev), len(parts.test)) == sizes


def test_rows_have_an_id_that_names_their_split_and_the_template_s_variables() -> None:
    given = [Example(input={"city": c, "year": "1"}, target="t") for c in "abcd"]
    parts = split(train=given[:1], dev=given[1:2], test=given[2:])
    assert parts.train == (Row(id="train:0", variables={"city": "a", "year": "1"}, target="t"),)
    assert [row.id for row in (*parts.dev, *parts.test)] == ["dev:0", "test:0", "test:1"]
    assert inputs(split(dev=numbered(2)).dev) == ["question 0", "question 1"]


@pytest.mark.parametrize(
    ("most", "sizes"), [(None, (40, 20, 40)), (0, (67, 33, 0)), (12, (68, 20, 12)), (90, (40, 20, 40))]
)
def test_a_capped_test_split_leaves_its_other_rows_to_train(most: int | None, sizes: tuple[int, int, int]) -> None:
    parts = split(data=numbered(100), most_test=most)
    assert (len(parts.train), len(parts.dev), len(parts.test)) == sizes
    assert not {*inputs(parts.test)} & {*inputs(parts.train), *inputs(parts.dev)}


def test_without_a_test_split_the_given_splits_stay() -> None:
    parts = split(train=numbered(9)[:6], dev=numbered(9)[6:], most_test=0)
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (6, 3, 0)


def test_train_rows_whose_input_is_in_dev_are_removed() -> None:
    rows = numbered(12)
    again = [Example(input=rows[8].input, target="another"), rows[9]]
    parts = split(train=[*rows[:8], *again], dev=rows[8:])
    assert (inputs(parts.train), parts.shared) == ([row.input for row in rows[:8]], 2)
    assert conflicts([*parts.train, *parts.dev]) == 0
    kept = split(train=[*rows[:8], *again], dev=rows[8:], keep_leaks=True)
    assert (len(kept.train), kept.shared) == (10, 0)
    assert conflicts([*kept.train, *kept.dev]) == 1


def test_train_and_dev_may_have_the_same_rows() -> None:
    parts = split(train=numbered(4), dev=numbered(4))
    assert (inputs(parts.train), parts.shared) == (inputs(parts.dev), 0)


def test_given_splits_stay_and_the_data_fills_the_others() -> None:
    given = numbered(50)
    parts = split(data=given[20:], dev=given[:20])
    assert inputs(parts.dev) == [example.input for example in given[:20]]
    assert (len(parts.train), len(parts.test)) == (15, 15)
    parts = split(data=given[4:], train=given[:2], dev=given[2:4])
    assert len(parts.test) == 46


def test_dev_alone_serves_as_train_too() -> None:
    parts = split(dev=numbered(4))
    assert inputs(parts.train) == inputs(parts.dev)
    assert not {row.id for row in parts.train} & {row.id for row in parts.dev}
    assert parts.test == ()


def test_train_alone_is_divided_two_to_one() -> None:
    given = numbered(30)
    parts = split(train=given[:20], test=given[20:])
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (13, 7, 10)
    assert sorted(inputs((*parts.train, *parts.dev))) == sorted(str(example.input) for example in given[:20])


def test_rows_of_the_test_split_are_removed_from_other_splits() -> None:
    given = numbered(6)
    parts = split(train=given[:3], dev=[*given[3:5], given[2]], test=[given[2], given[5]])
    assert inputs(parts.train) == ["question 0", "question 1"]
    assert inputs(parts.dev) == ["question 3", "question 4"]
    assert inputs(parts.test) == ["question 2", "question 5"]
    assert parts.leaked == 2
    assert split(dev=given[:3], test=given[2:3]).leaked == 1


def test_the_same_input_with_another_target_is_no_duplicate() -> None:
    given = [*numbered(2), Example(input="question 0", target="other")]
    assert split(dev=given[:2], test=given[2:]).leaked == 0


def test_text_and_its_object_form_are_the_same_example() -> None:
    text, same = Example(input="a", target="t"), Example(input={"input": "a"}, target="t")
    assert split(dev=[text, *numbered(2)], test=[same]).leaked == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": numbered(1)}, "one example, or none .* give at least 2"),
        ({"data": [*numbered(1), *numbered(1)]}, "one example"),
        ({"train": numbered(1)}, "one example"),
        ({"dev": numbered(1)}, "one example"),
        ({"dev": []}, "one example, or none"),
        ({}, "one example, or none"),
        ({"test": numbered(5)}, "one example, or none"),
        ({"train": numbered(4), "dev": numbered(2), "test": numbered(2)}, "every row of dev is in the test split"),
        ({"train": numbered(2), "dev": numbered(4), "test": numbered(2)}, "every row of train is in the test"),
        (dict.fromkeys(("data", "train", "dev", "test"), numbered(4)), "data has nothing to fill; leave one"),
        (
            {"train": numbered(2), "dev": [Example(input={"x": "a"}, target="b")] * 2},
            "dev, row 1: has the variables x, but the first row has input",
        ),
    ],
)
def test_unusable_splits_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(**given)


def test_an_evaluation_takes_every_example() -> None:
    examples = [*numbered(2), *numbered(1)]
    assert inputs(whole(examples).dev) == [example.input for example in examples]
    assert len({row.id for row in whole(examples).dev}) == 3
    with pytest.raises(DataError, match="data, row 3: has the variables x"):
        whole([*numbered(2), Example(input={"x": "a"}, target="b")])


# --- Facts about rows


def rows_with(*targets: str) -> list[Row]:
    return [Row(id=str(i), variables={"input": "x"}, target=target) for i, target in enumerate(targets)]


def test_labels_are_few_short_and_repeated() -> None:
    assert labels_of(rows_with("no", "yes", "no", "yes")) == ("no", "yes")
    assert labels_of(rows_with("no", "yes", "no")) == ()
    assert labels_of(rows_with("no", "no", "no")) == ()
    assert labels_of(rows_with("no", "", "no", "")) == ()
    assert labels_of(rows_with(*["one two three four five", "b"] * 2)) != ()
    assert labels_of(rows_with(*["one two three four five six", "b"] * 2)) == ()
    assert len(labels_of(rows_with(*map(str, [*range(20)] * 2)))) == 20
    assert labels_of(rows_with(*map(str, [*range(21)] * 2))) == ()
    assert labels_of(rows_with(*map(str, [*range(21)] * 2)), most=21) != ()
    assert labels_of([]) == ()


def test_variables_are_those_of_the_rows() -> None:
    assert variables_of(split(dev=[Example(input={"a": "1", "b": c}, target="t") for c in "xy"]).dev) == {"a", "b"}
    assert variables_of([]) == frozenset()


@given(st.lists(ROWS, max_size=4), st.lists(ROWS, max_size=4), st.lists(ROWS, max_size=4), st.integers(0, 9))
def test_splits_can_be_stored_and_read(train: list[Row], dev: list[Row], test: list[Row], leaked: int) -> None:
    splits = Splits(tuple(train), tuple(dev), tuple(test), leaked)
    assert from_json(to_json(splits)) == splits


@given(st.lists(ROWS, max_size=4), st.lists(ROWS, max_size=4))
def test_a_digest_depends_on_the_content(some: list[Row], others: list[Row]) -> None:
    same = [(row.variables, row.target) for row in some] == [(row.variables, row.target) for row in others]
    assert (digest(some) == digest(others)) == same
    assert digest(some) == digest([replace(row, id="other") for row in some])


# --- Real files


@pytest.mark.benchmark_data
@pytest.mark.skipif(not BENCH.is_dir(), reason=f"no benchmark items at {BENCH}; set LPO_BENCH_DATA")
def test_benchmark_files_are_read_whole() -> None:
    files = sorted(BENCH.rglob("*.jsonl"))
    assert files
    for path in files:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        assert pairs(read_examples(path)) == [(line["input"], line["target"]) for line in lines]
