"""Divides examples into train, dev and test splits, and removes the rows that would tell one split of another."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lpo_agent.core.messages import Row
from lpo_agent.data import LABELS, Splits, check_same_variables
from lpo_agent.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lpo_agent.data import Example

SHARES: Final = {"train": 4, "dev": 2, "test": 4}
NO_TEST_BELOW: Final = 10


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
            check_same_variables(example, first, f"{name}, row {number}")


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
