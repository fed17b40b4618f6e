"""Reads examples from files; :mod:`lpo_agent.splitting` divides them into train, dev and test.

Supported are JSON lines and CSV with ``input`` and ``target``, a JSON list of such objects, and three data
sets in the form in which they are published: BIG-bench Hard (JSON), GSM8K (JSON lines) and MultiArith (JSON).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass as slim

from lpo_agent.core.messages import Row  # noqa: TC001 - pydantic reads the types of Splits
from lpo_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

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
            check_same_variables(example, examples[0], where)
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


def check_same_variables(example: Example, first: Example, where: str) -> None:
    """Raise DataError if an example has other variables than the first one; ``where``: its place, for the message."""
    has, wanted = variables(example.input), variables(first.input)
    if has != wanted:
        raise DataError(
            f"{where}: has the variables {', '.join(has)}, but the first row has {', '.join(wanted)}; "
            "give every row the same"
        )


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
