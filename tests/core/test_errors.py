"""The tree of errors: which class a failure that came over the bus turns back into."""

from __future__ import annotations

import inspect

import pytest

from lpo_agent import errors, metrics
from lpo_agent.errors import LpoError, MetricError, RequestFailed, worst
from lpo_agent.failure import Failure

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LpoError)]


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not RequestFailed])
def test_a_failure_that_came_over_the_bus_turns_back_into_its_error(kind: type[LpoError]) -> None:
    found = worst(RequestFailed(Failure(kind=kind.__name__, detail="the reason")))
    assert type(found) is kind
    assert str(found) == "the reason"


@pytest.mark.parametrize("kind", ["RequestFailed", "leaves", "Final", "KeyError", ""])
def test_a_name_that_is_no_error_of_the_tree_stays_a_failed_request(kind: str) -> None:
    failed = RequestFailed(Failure(kind=kind, detail="the reason"))
    assert worst(failed) is failed


@pytest.mark.parametrize("kind", TREE)
def test_the_drawn_tree_names_every_error(kind: type[LpoError]) -> None:
    assert f" {kind.__name__} " in " ".join((errors.__doc__ or "").split()) + " "


def test_a_metric_error_is_in_the_tree_and_still_exported_by_metrics() -> None:
    assert metrics.MetricError is MetricError
    assert MetricError.exit_code == 1
