"""Reads and checks the input of a run before any model is called: names, files, rows, prompt and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lpo_agent import data as data_files
from lpo_agent import splitting
from lpo_agent.agents.base import MARKERS, PROPOSERS
from lpo_agent.core.text import parse_prompt
from lpo_agent.errors import ConfigError, DataError
from lpo_agent.metrics import answer_tokens, as_metric, default_metric, name_of
from lpo_agent.models.providers.base import PROVIDERS, split_model
from lpo_agent.plugins import AUTO, OWN
from lpo_agent.runs.request import OwnParts, method_of
from lpo_agent.search.methods.choosing import check_options
from lpo_agent.search.task import Task

if TYPE_CHECKING:
    from lpo_agent.data import Splits
    from lpo_agent.spec import RunSpec


SEARCHES: Final = ("optimize", "mark", "headroom")
"""The kinds of run that split their rows and choose edits."""
PROBE: Final = 4
"""Calls of the test of an optimizer model, with a second try of each request."""


def check_names(spec: RunSpec, own: OwnParts) -> None:
    """Raise ConfigError for an unknown provider, marker or proposer."""
    for name, mine in ((spec.model, own.model), (spec.optimizer_model, own.optimizer_model)):
        if name is not None and mine is None:
            provider, _ = split_model(name)
            if provider not in PROVIDERS and provider not in own.providers:
                known = ", ".join(f"{known}:NAME" for known in (*PROVIDERS.names(), *own.providers))
                raise ConfigError(f"unknown model {name!r}; write one of {known}")
    for what, table, value in (("marker", MARKERS, spec.marker), ("proposer", PROPOSERS, spec.proposer)):
        if value not in {None, "auto", OWN} and value not in table:
            names = ", ".join(dict.fromkeys(("auto", *table.names())))
            raise ConfigError(f"--{what}: unknown {what} {value!r}; known are {names}")


def check_method(spec: RunSpec, own: OwnParts) -> None:
    """Raise ConfigError for an unknown method, and for options that it does not use or that are invalid."""
    method = method_of(own, settled(spec.method))
    check_options(method, spec)
    method.plan(spec)


def settled(method: str) -> str:
    """Return the method to plan with; "auto", which a probe decides later, counts as local-search."""
    return "local-search" if method == AUTO else method


def probe_calls(spec: RunSpec, own: OwnParts | None = None) -> int:
    """Return the most calls that choose the method, 0 if it is given."""
    return PROBE if spec.method == AUTO and (own is None or own.method is None) else 0


def load_task(spec: RunSpec, kind: str = "optimize", splits: Splits | None = None, own: OwnParts | None = None) -> Task:
    """Read and check everything that needs no model call.

    ``splits``: the rows of a resumed run; ``own``: objects of the caller. Raises DataError, MarkupError and
    ConfigError.
    """
    own = own or OwnParts()
    check_names(spec, own)
    if kind in SEARCHES:
        check_method(spec, own)
    splits = splits or load_splits(spec, kind)
    rows = [*splits.train, *splits.dev, *splits.test]
    labels = data_files.labels_of([*splits.train, *splits.dev])
    if own.metric is not None:
        metric_name = name_of(own.metric)
    else:
        metric_name = spec.metric or default_metric(rows, labels)
        if metric_name != "judge":
            as_metric(metric_name, labels=labels)
    prompt = parse_prompt(spec.prompt, data_files.variables_of(rows), to_change=kind in SEARCHES)
    max_tokens = spec.max_tokens or answer_tokens(metric_name, rows)
    return Task(prompt, splits, metric_name, max_tokens, labels, _notes(splits), extracts=spec.extract is not None)


def _notes(splits: Splits) -> tuple[str, ...]:
    """Return what the user should know of the rows."""
    both = splitting.conflicts([*splits.train, *splits.dev, *splits.test])
    found = {
        f"{splits.leaked} rows that are also in the test split were removed from the other splits": splits.leaked,
        f"{splits.shared} train rows whose input is also in dev were removed from train": splits.shared,
        f"{both} inputs have rows with different targets, of which no prompt can get all right": both,
    }
    if splits.train and splitting.same_inputs(splits):
        found |= {"train and dev have the same inputs, so the scores on dev are too high for a chosen prompt": 1}
    return tuple(note for note, count in found.items() if count)


def load_splits(spec: RunSpec, kind: str) -> Splits:
    """Read the spec's files or examples; an optimization splits them by the seed. Raises DataError."""
    most_test, tested = (spec.test, None) if isinstance(spec.test, int) else (None, spec.test)
    files = {"data": spec.data, "train": spec.train, "dev": spec.dev, "test": tested}
    given = {name: data_files.read_examples(path) for name, path in files.items() if path}
    if spec.examples:
        given["data"] = [*spec.examples, *given.get("data", [])]
    if not given:
        raise DataError("no examples are given; use --data FILE, or --train/--dev/--test")
    if kind not in SEARCHES:
        return splitting.whole([example for examples in given.values() for example in examples])
    if given.keys() == {"test"}:
        raise DataError("--test alone is not enough for a search; give --data or --dev too")
    data, train, dev, test = (given.get(name) for name in files)
    must = data_files.read_examples(spec.must_pass) if spec.must_pass else ()
    if most_test and data is None:
        raise DataError(f"--test {most_test} takes test rows from --data, which is not given; name a file of test rows")
    return splitting.split(data=data, train=train, dev=dev, test=test, must=must, seed=spec.seed, most_test=most_test)
