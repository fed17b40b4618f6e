"""Examples from files as people have them, and honest splits.

Read: JSON lines and CSV with ``input`` and ``target``, a JSON list of such objects, and three sets
as they are published: BIG-bench Hard JSON, GSM8K JSON lines, MultiArith JSON.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from lpo_agent.core.messages import Row
from lpo_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SHARES: Final = {"train": 0.3, "dev": 0.3, "test": 0.4}
NO_TEST_BELOW: Final = 10
LABELS: Final = 20
LABEL_WORDS: Final = 5


class Example(BaseModel):
    """One example: the ``input`` (text, or the template's variables by name) and the wanted answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str | dict[str, str]
    target: str


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to judge by once.

    ``leaked``: rows dropped from train and dev because they stand in test too.
    """

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    leaked: int = 0


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file; raises DataError with file, line or row, and what to do."""
    text = _read_text(path)
    if path.suffix.lower() == ".csv":
        records = _from_csv(text, path)
    elif (document := _document(text)) is not None:
        records = _from_document(document, path)
    else:
        records = _from_lines(text, path)
    examples: list[Example] = []
    for where, record in records:
        example = _example(record, where)
        if examples and variables(example.input) != variables(examples[0].input):
            names, first = ", ".join(variables(example.input)), ", ".join(variables(examples[0].input))
            raise DataError(f"{where}: has the variables {names}, but the first row has {first}")
        examples.append(example)
    if not examples:
        raise DataError(f"{path}: no rows; each row needs an input and a target")
    return examples


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as exc:
        raise DataError(f"{path}: cannot be read: {exc.strerror}") from None


def _document(text: str) -> object:
    """Return the value of a text that is one JSON array or object over several lines, else None."""
    first = text.lstrip()[:1]
    lines = [line for line in text.splitlines() if line.strip()]
    if first not in {"[", "{"} or (first == "{" and len(lines) > 1 and _is_json(lines[0])):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) or "examples" in value else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _from_document(document: Any, path: Path) -> Iterator[tuple[str, object]]:
    rows = document if isinstance(document, list) else document["examples"]
    if not isinstance(rows, list):
        raise DataError(f'{path}: "examples" is not a list')
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _from_lines(text: str, path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{path}, row {number}", json.loads(line)
        except ValueError as exc:
            problem = str(exc).split(": line", maxsplit=1)[0]
            raise DataError(f"{path}, line {number}: not valid JSON ({problem})") from None


def _from_csv(text: str, path: Path) -> Iterator[tuple[str, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}, row {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: has not as many fields as the header")
            yield where, row if "input" in row else _gathered(row)
    except csv.Error as exc:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({exc})") from None


def _gathered(row: Mapping[str, str]) -> dict[str, object]:
    inputs = {name: value for name, value in row.items() if name != "target"}
    return {"input": inputs} | ({"target": row["target"]} if "target" in row else {})


def _example(record: object, where: str) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"{where}: not an object with an input and a target")
    record = _published(record, where)
    for name in ("input", "target"):
        if name not in record:
            has = ", ".join(map(str, record)) or "nothing"
            raise DataError(f"{where}: has no {name!r} (it has: {has})")
    given = record["input"]
    if isinstance(given, dict):
        value: str | dict[str, str] = {str(key): _text(v, where, str(key)) for key, v in given.items()}
        if bad := [key for key in value if not key.isidentifier()]:
            raise DataError(f"{where}: {bad[0]!r} cannot be the name of a variable; use letters, digits and _")
    else:
        value = _text(given, where, "input")
    return Example(input=value, target=_text(record["target"], where, "target"))


def _published(record: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a row of GSM8K or MultiArith as input and target; other rows as they are."""
    if {"question", "answer"} <= record.keys() and "input" not in record:
        _, mark, answer = str(record["answer"]).rpartition("####")
        if not mark:
            raise DataError(f"{where}: the answer has no #### before the result, as GSM8K has")
        return {"input": record["question"], "target": answer.strip().replace(",", "")}
    if {"sQuestion", "lSolutions"} <= record.keys():
        solutions = record["lSolutions"]
        if not isinstance(solutions, list) or not solutions:
            raise DataError(f"{where}: lSolutions is not a list with a number")
        return {"input": str(record["sQuestion"]).strip(), "target": f"{float(solutions[0]):g}"}
    return record


def _text(value: object, where: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise DataError(f"{where}: {name!r} is {json.dumps(value)[:40]}, not text or a number")


def variables(given: str | dict[str, str]) -> tuple[str, ...]:
    """Return the names of the template's variables that an input gives, sorted."""
    return tuple(sorted(given)) if isinstance(given, dict) else ("input",)


def split(
    *,
    data: Sequence[Example] | None = None,
    train: Sequence[Example] | None = None,
    dev: Sequence[Example] | None = None,
    test: Sequence[Example] | None = None,
    seed: int = 0,
) -> Splits:
    """Return the splits: those given as they are, the others from ``data``.

    ``data`` is shuffled by ``seed`` and divided 30/30/40 into train, dev and test, each class in
    proportion where there are at most 20 different targets; below ten rows nothing is kept for
    test. ``train`` alone is halved into train and dev; ``dev`` alone serves as train too. Raises
    DataError for fewer than two rows to learn and choose by.
    """
    given = {"train": train, "dev": dev, "test": test}
    parts = {name: list(rows) for name, rows in given.items() if rows is not None}
    if data is not None:
        missing = [name for name in SHARES if name not in parts]
        parts |= _divide(list(data), missing, seed)
    elif "dev" not in parts and "train" in parts:
        parts |= _divide(parts["train"], ["train", "dev"], seed)
    parts.setdefault("dev", [])
    parts.setdefault("train", list(parts["dev"]))
    parts.setdefault("test", [])
    if len({*map(_identity, parts["train"] + parts["dev"])}) < 2:
        raise DataError("one example only is too few to choose a prompt by; give at least 10, better 100")
    return _without_leaks({name: _rows(name, parts[name]) for name in SHARES})


def _divide(examples: list[Example], names: Sequence[str], seed: int) -> dict[str, list[Example]]:
    """Deal the examples to the named splits by their shares, class by class."""
    rng = random.Random(seed)
    rng.shuffle(examples)
    targets = {example.target for example in examples}
    if len(targets) <= LABELS:
        examples.sort(key=lambda example: example.target)
    shares = {n: 0.0 if n == "test" and len(examples) < NO_TEST_BELOW else SHARES[n] for n in names}
    whole = sum(shares.values()) or 1.0
    parts: dict[str, list[Example]] = {name: [] for name in names}
    for count, example in enumerate(examples, start=1):
        owed = {name: share / whole * count - len(parts[name]) for name, share in shares.items()}
        parts[max(owed, key=lambda name: owed[name])].append(example)
    for rows in parts.values():
        rng.shuffle(rows)
    return parts


def _rows(name: str, examples: Iterable[Example]) -> tuple[Row, ...]:
    return tuple(
        Row(
            id=f"{name}:{number}",
            variables=example.input if isinstance(example.input, dict) else {"input": example.input},
            target=example.target,
        )
        for number, example in enumerate(examples)
    )


def _identity(example: Example) -> tuple[str, str]:
    return json.dumps(example.input, sort_keys=True), example.target


def _without_leaks(parts: dict[str, tuple[Row, ...]]) -> Splits:
    tested = {(tuple(sorted(row.variables.items())), row.target) for row in parts["test"]}

    def fresh(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(row for row in rows if (tuple(sorted(row.variables.items())), row.target) not in tested)

    train, dev = fresh(parts["train"]), fresh(parts["dev"])
    leaked = len(parts["train"]) + len(parts["dev"]) - len(train) - len(dev)
    if not train or not dev:
        raise DataError("every row to learn and choose by stands in the test split too; give separate rows")
    return Splits(train, dev, parts["test"], leaked)


def whole(examples: Sequence[Example]) -> Splits:
    """Return splits with every example in dev and nothing elsewhere, for evaluation."""
    return Splits((), _rows("item", examples), ())


def variables_of(rows: Sequence[Row]) -> frozenset[str]:
    """Return the names of the variables that the rows give."""
    return frozenset(rows[0].variables) if rows else frozenset()


def labels_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the possible answers, sorted, where they are few and short; else nothing.

    Few: at most 20, and each seen twice on average. Short: at most five words.
    """
    seen: dict[str, int] = defaultdict(int)
    for row in rows:
        seen[row.target] += 1
    few = 1 < len(seen) <= LABELS and 2 * len(seen) <= len(rows)
    short = all(0 < len(target.split()) <= LABEL_WORDS for target in seen)
    return tuple(sorted(seen)) if few and short else ()


def to_json(splits: Splits) -> str:
    """Return the splits as text, to be kept with a run."""
    parts = {name: [row.model_dump() for row in getattr(splits, name)] for name in SHARES}
    return json.dumps(parts | {"leaked": splits.leaked})


def from_json(text: str) -> Splits:
    """Return the splits that :func:`to_json` wrote."""
    content = json.loads(text)
    train, dev, test = (tuple(Row.model_validate(row) for row in content[name]) for name in SHARES)
    return Splits(train, dev, test, content["leaked"])
