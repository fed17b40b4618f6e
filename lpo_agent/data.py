"""Reads examples from files, and divides them into train, dev and test splits without overlap.

Supported are JSON lines and CSV with ``input`` and ``target``, a JSON list of such objects, and three data
sets in the form in which they are published: BIG-bench Hard (JSON), GSM8K (JSON lines) and MultiArith (JSON).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass as slim

from lpo_agent.core.messages import Row
from lpo_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SHARES: Final = {"train": 4, "dev": 2, "test": 4}
NO_TEST_BELOW: Final = 10
LABELS: Final = 20
LABEL_WORDS: Final = 5
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_SOLUTION: Final = re.compile(r"(-?\d+)(?:\.0+)?|-?\d+\.\d+")
_JSON: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
"""Reads numbers as the text that is in the file: 1.50 stays "1.50", and no digit is lost."""


@slim(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Example:
    """One example: the ``input`` (a text, or the values of the prompt's variables by name) and the wanted answer.

    The names of variables must be valid as ``{name}`` in a prompt. The target may be empty.
    """

    input: str | dict[str, str]
    target: str

    @field_validator("input")
    @classmethod
    def _check_names(cls, given: str | dict[str, str]) -> str | dict[str, str]:
        if given == {}:
            raise ValueError("the input has no variables; give it at least one")
        if bad := [name for name in variables(given) if not _NAME.fullmatch(name)]:
            raise ValueError(f"{bad[0]!r} cannot be the name of a variable; use letters, digits and _")
        return given

    @field_validator("input", "target")
    @classmethod
    def _check_text(cls, given: str | dict[str, str]) -> str | dict[str, str]:
        for text in given.values() if isinstance(given, dict) else (given,):
            try:
                text.encode()
            except UnicodeEncodeError as exc:
                surrogate = ascii(text[exc.start])
                raise ValueError(f"the text has a lone surrogate ({surrogate}), which is not a character") from None
        return given


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits: ``train`` to search on, ``dev`` to choose the prompt, ``test`` for one final comparison.

    On the ``must`` rows the chosen prompt may not score less than the seed prompt. ``leaked``: the number of
    rows that were removed from the other splits because they are in ``test`` too. ``shared``: the number of rows
    that were removed from ``train`` because ``dev`` has the same input.
    """

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    leaked: int = 0
    must: tuple[Row, ...] = ()
    shared: int = 0


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file; raises DataError, which names the file, the line or row, and the remedy.

    Keys or columns other than ``input`` and ``target`` are ignored. In a CSV file without a column ``input``,
    each column other than ``target`` is a variable.
    """
    examples: list[Example] = []
    for where, record in _records(_read_text(path), path):
        example = _example(record, where)
        if examples:
            _check_same_variables(example, examples[0], where)
        examples.append(example)
    if not examples:
        raise DataError(f"{path}: no rows; each row needs an input and a target")
    return examples


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text (byte {exc.start}); save the file as UTF-8") from None
    except OSError as exc:
        problem = "is a directory; name a file in it" if path.is_dir() else f"cannot be read: {exc.strerror}"
        raise DataError(f"{path}: {problem}") from None


def _records(text: str, path: Path) -> Iterator[tuple[str, object]]:
    """Yield each row with its place (file and line or row), for error messages."""
    if path.suffix.lower() == ".csv":
        return _from_csv(text, path)
    rows = _document(text, path)
    if rows is None:
        return _from_lines(text, path)
    return ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))


def _document(text: str, path: Path) -> list[object] | None:
    """Return the rows of a text that is a single JSON value, None if the text has one value on each line."""
    start = len(text) - len(text.lstrip())
    if text.startswith("[", start):
        value = _decode(text, path)
    else:
        try:
            value, end = _JSON.raw_decode(text, start)
        except (ValueError, RecursionError):
            if path.suffix.lower() == ".json":
                _decode(text, path)
            return None
        if text[end:].strip():
            return None
    if isinstance(value, dict) and "examples" in value:
        value = value["examples"]
        if not isinstance(value, list):
            raise DataError(f'{path}: "examples" is not a list; it must hold objects with input and target')
    return value if isinstance(value, list) else [value]


def _from_lines(text: str, path: Path) -> Iterator[tuple[str, object]]:
    number, start = 0, 0
    while start <= len(text):  # line by line: a list of all lines would hold the text twice
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line, start, number = text[start:end], end + 1, number + 1
        if line.strip():
            yield f"{path}, line {number}", _decode(line, path, number)


def _decode(text: str, path: Path, first_line: int = 1) -> Any:
    advice = "write one JSON object a line, or a JSON list; a CSV file must be named .csv"
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as exc:
        line = first_line + exc.lineno - 1
        raise DataError(f"{path}, line {line}: not valid JSON ({exc.msg}); {advice}") from None
    except RecursionError:
        raise DataError(f"{path}, line {first_line}: JSON nested too deeply; {advice}") from None


def _from_csv(text: str, path: Path) -> Iterator[tuple[str, object]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = (fields for fields in reader if len(fields) > 1 or "".join(fields).strip())
    try:
        names = [name.strip() for name in next(rows, [])]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise DataError(f"{path}, line 1: there are two columns {twice[0]!r}; rename one")
        for fields in rows:
            where = f"{path}, line {reader.line_num}"
            if len(fields) != len(names):
                counts = f"has {len(fields)} fields, but the header has {len(names)}"
                raise DataError(f"{where}: {counts}; put fields that hold commas in double quotes")
            yield where, _gathered(dict(zip(names, fields, strict=True)))
    except csv.Error as exc:
        advice = 'write " inside a quoted field as "", or use JSON lines'
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({exc}); {advice}") from None


def _gathered(row: Mapping[str, str]) -> Mapping[str, object]:
    """Return a CSV row with its columns as the variables of the input, unless it has a column ``input``."""
    if "input" in row or "target" not in row:
        return row
    return {"input": {name: value for name, value in row.items() if name != "target"}, "target": row["target"]}


def _example(record: object, where: str) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"{where}: is {_kind(record)}, not an object with an input and a target")
    record = _published(record, where)
    for name in ("input", "target"):
        if name not in record:
            has = ", ".join(record)[:200] or "nothing"
            raise DataError(f"{where}: has no {name!r} (it has: {has}); each row needs an input and a target")
    given = record["input"]
    value = {name: _text(v, where, name) for name, v in given.items()} if isinstance(given, dict) else None
    try:
        return Example(
            input=_text(given, where, "input") if value is None else value,
            target=_text(record["target"], where, "target"),
        )
    except ValidationError as exc:
        problem = exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise DataError(f"{where}: {problem}") from None


def _published(record: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a row of GSM8K or MultiArith with input and target; return other rows unchanged."""
    if {"question", "answer"} <= record.keys() and "input" not in record:
        _, mark, answer = str(record["answer"]).rpartition("####")
        if not mark:
            advice = "rename question and answer to input and target if this is not GSM8K"
            raise DataError(f"{where}: the answer has no #### before the result; {advice}")
        return {"input": record["question"], "target": answer.strip().replace(",", "")}
    if {"sQuestion", "lSolutions"} <= record.keys():
        solutions = record["lSolutions"]
        number = _SOLUTION.fullmatch(str(solutions[0])) if isinstance(solutions, list) and len(solutions) == 1 else None
        if number is None:
            raise DataError(f"{where}: lSolutions is not a list of one number, as in MultiArith")
        return {"input": _text(record["sQuestion"], where, "sQuestion").strip(), "target": number[1] or number[0]}
    return record


def _text(value: object, where: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    raise DataError(f"{where}: {name!r} is {_kind(value)}, not text or a number")


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text or a number", bool: "a boolean"}
    return kinds.get(type(value), "null")


def variables(given: str | dict[str, str]) -> tuple[str, ...]:
    """Return the names of the variables that an input has, sorted."""
    return tuple(sorted(given)) if isinstance(given, dict) else ("input",)


def _check_same_variables(example: Example, first: Example, where: str) -> None:
    has, wanted = variables(example.input), variables(first.input)
    if has != wanted:
        raise DataError(
            f"{where}: has the variables {', '.join(has)}, but the first row has {', '.join(wanted)}; "
            "give every row the same"
        )


def split(
    *,
    data: Sequence[Example] | None = None,
    train: Sequence[Example] | None = None,
    dev: Sequence[Example] | None = None,
    test: Sequence[Example] | None = None,
    must: Sequence[Example] = (),
    seed: int = 0,
    keep_leaks: bool = False,
    most_test: int | None = None,
) -> Splits:
    """Return the splits: given splits are used unchanged, the others are made from ``data``.

    ``data`` is shuffled by ``seed`` and divided 40/20/40 into train, dev and test. With at most 20 different
    targets the division is stratified by target. With fewer than ten rows there is no test split. Without
    ``data``, a ``train`` split without ``dev`` is divided two to one into train and dev, and a ``dev`` split
    without ``train`` is used as train too. Of ``data``, at most ``most_test`` rows become test rows (0: no test
    split); the others of its share go to train. Rows that are also in test are removed from train, dev and must, and
    train rows with the input of a dev row are removed from train, unless ``keep_leaks`` is set (to reproduce
    published splits).

    Raises DataError if train and dev have fewer than two different rows, if rows have different variables,
    and if ``data`` is given together with all three splits.
    """
    given = {"train": train, "dev": dev, "test": [] if most_test == 0 else test}
    parts = {name: list(rows) for name, rows in given.items() if rows is not None}
    parts["must"] = list(must)
    if data is not None:
        missing = [name for name in SHARES if name not in parts]
        if not missing:
            raise DataError("train, dev and test are given, so data has nothing to fill; leave one of the four out")
        parts |= _divide(data, missing, seed)
    elif "train" in parts and "dev" not in parts:
        parts |= _divide(parts["train"], ["train", "dev"], seed)
    if most_test is not None:
        _move_test_rows(parts, most_test)
    _check_examples(parts)
    if keep_leaks:
        return _checked_splits(parts)
    return _without_shared(_without_leaks(parts))


def _move_test_rows(parts: dict[str, list[Example]], most: int) -> None:
    """Move the test rows beyond the first ``most``, which are in random order, to train; or to dev without train."""
    test = parts.get("test", [])
    into = "train" if "train" in parts else "dev"
    parts[into] = [*parts.get(into, []), *test[most:]]
    parts["test"] = test[:most]


def _divide(data: Sequence[Example], names: Sequence[str], seed: int) -> dict[str, list[Example]]:
    """Divide the examples among the named splits in proportion to SHARES, stratified by target if targets are few."""
    rng, examples = random.Random(seed), list(data)
    rng.shuffle(examples)
    if len({example.target for example in examples}) <= LABELS:
        examples.sort(key=lambda example: example.target)
    shares = {name: 0 if name == "test" and len(examples) < NO_TEST_BELOW else SHARES[name] for name in names}
    total = sum(shares.values())
    parts: dict[str, list[Example]] = {name: [] for name in names}
    for count, example in enumerate(examples, start=1):
        owed = {name: share * count - total * len(parts[name]) for name, share in shares.items()}
        parts[max(owed, key=lambda name: owed[name])].append(example)
    for rows in parts.values():
        rng.shuffle(rows)
    return parts


def _check_examples(parts: Mapping[str, Sequence[Example]]) -> None:
    first: Example | None = None
    for name, examples in parts.items():
        for number, example in enumerate(examples, start=1):
            first = first or example
            _check_same_variables(example, first, f"{name}, row {number}")


def _without_leaks(parts: Mapping[str, list[Example]]) -> Splits:
    """Return the splits without the rows of train, dev and must that are in test too."""
    known = {_identity(example) for example in parts.get("test", [])}
    fresh = {
        name: [row for row in rows if name == "test" or _identity(row) not in known] for name, rows in parts.items()
    }
    leaked = sum(len(parts[name]) - len(rows) for name, rows in fresh.items())
    if leaked and not (fresh.get("train", fresh.get("dev")) and fresh.get("dev")):
        empty = "dev" if fresh.get("train", fresh.get("dev")) else "train"
        raise DataError(f"every row of {empty} is in the test split too; give {empty} rows of its own")
    return _checked_splits(fresh, leaked)


def _checked_splits(parts: Mapping[str, list[Example]], leaked: int = 0) -> Splits:
    """Return the splits, dev as train too where there is no train; raises DataError for too few different rows."""
    dev = parts.get("dev", [])
    train = parts.get("train", dev)
    if not dev or not train or len({_identity(example) for example in (*train, *dev)}) < 2:
        raise DataError(
            "train and dev together have one example, or none (equal ones count once), which is too few; "
            "give at least 2 different ones, better 100"
        )
    test, must = parts.get("test", ()), parts.get("must", ())
    return Splits(_rows("train", train), _rows("dev", dev), _rows("test", test), leaked, _rows("must", must))


def _without_shared(splits: Splits) -> Splits:
    """Return the splits without the train rows whose input stands in dev, if any train row is left then."""
    known = {_input(row) for row in splits.dev}
    fresh = tuple(row for row in splits.train if _input(row) not in known)
    return replace(splits, train=fresh, shared=len(splits.train) - len(fresh)) if fresh else splits


def same_inputs(splits: Splits) -> bool:
    """Return whether each input of train stands in dev too."""
    return {_input(row) for row in splits.train} <= {_input(row) for row in splits.dev}


def _input(row: Row) -> frozenset[tuple[str, str]]:
    return frozenset(row.variables.items())


def conflicts(rows: Iterable[Row]) -> int:
    """Return how many inputs stand in several of these rows with different targets."""
    targets: dict[frozenset[tuple[str, str]], set[str]] = {}
    for row in rows:
        targets.setdefault(_input(row), set()).add(row.target)
    return sum(len(found) > 1 for found in targets.values())


def _values(example: Example) -> dict[str, str]:
    return example.input if isinstance(example.input, dict) else {"input": example.input}


def _identity(example: Example) -> tuple[frozenset[tuple[str, str]], str]:
    return frozenset(_values(example).items()), example.target


def _rows(name: str, examples: Iterable[Example]) -> tuple[Row, ...]:
    return tuple(
        Row(id=f"{name}:{number}", variables=_values(example), target=example.target)
        for number, example in enumerate(examples)
    )


def whole(examples: Sequence[Example]) -> Splits:
    """Return splits with all examples in dev and none in train and test, for an evaluation.

    Raises DataError for rows with different variables.
    """
    _check_examples({"data": examples})
    return Splits((), _rows("item", examples), ())


def variables_of(rows: Sequence[Row]) -> frozenset[str]:
    """Return the names of the rows' variables, which are the same for all rows of a run."""
    return frozenset(rows[0].variables) if rows else frozenset()


def labels_of(rows: Sequence[Row], most: int = LABELS) -> tuple[str, ...]:
    """Return the possible answers, sorted, if they are few and short; otherwise an empty tuple.

    Few: two to ``most`` different ones, and on average two rows or more for each. Short: one to five words.
    """
    labels = {row.target for row in rows}
    few = 1 < len(labels) <= most and 2 * len(labels) <= len(rows)
    short = all(0 < len(label.split()) <= LABEL_WORDS for label in labels)
    return tuple(sorted(labels)) if few and short else ()


def digest(rows: Iterable[Row]) -> str:
    """Return a hash of the rows' content and order, as 32 hexadecimal digits; ids are ignored."""
    content = json.dumps([[row.variables, row.target] for row in rows], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def to_json(splits: Splits) -> bytes:
    """Return the splits as JSON, to be stored with a run."""
    return TypeAdapter(Splits).dump_json(splits)


def from_json(content: bytes) -> Splits:
    """Return the splits that :func:`to_json` wrote."""
    return TypeAdapter(Splits).validate_json(content)
