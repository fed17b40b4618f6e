"""Tests of the run's side of working with workers: requests, costs, stored answers, retries and final failures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from lpo_agent.agents.base import AgentSetting
from lpo_agent.agents.team import Team
from lpo_agent.bus.base import TOO_LARGE
from lpo_agent.core.budget import Budget, Ledger
from lpo_agent.core.messages import MARK, SCORE, Critique, MarkAsk, Row, ScoreAsk, ScoreReply
from lpo_agent.core.scores import Scored, Unscored
from lpo_agent.core.text import Prompt
from lpo_agent.errors import RequestFailed
from lpo_agent.failure import Failure
from lpo_agent.journal import open_journal
from lpo_agent.models.billing import Billing
from lpo_agent.models.middleware import Allowance, SharedModel, compose
from lpo_agent.models.prices import load_prices
from lpo_agent.models.ratelimit.limiter import Limiter
from lpo_agent.search.methods.pool import LPO
from lpo_agent.workers.messages import CallReply, CallRequest, PaidAnswer
from lpo_agent.workers.worker_bus import WorkerBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lpo_agent.models.base import Call, Completion

pytestmark = pytest.mark.anyio


@dataclass
class Network:
    """Stands in for the connection to workers: each request gets the next of ``replies``. ``asked`` keeps requests."""

    replies: list[CallReply | Failure]
    asked: list[CallRequest[Any]] = field(default_factory=list)

    async def request(self, _: object, message: CallRequest[Any], *, timeout: float) -> CallReply:  # noqa: ASYNC109
        assert timeout > 3600
        self.asked.append(message)
        reply = self.replies.pop(0)
        if isinstance(reply, Failure):
            raise RequestFailed(reply)
        return reply


class Nobody:
    """A model that must not be called here: workers call it."""

    name = "local:m"
    identity: ClassVar[dict[str, object]] = {"name": "m"}

    async def complete(self, call: Call) -> Completion:
        raise AssertionError(call)


def said(text: str, tokens: int = 3) -> CallReply:
    return CallReply(
        answer=PaidAnswer(model="local:m", text=text, truncated=False, input_tokens=tokens, output_tokens=1)
    )


def failed(kind: str, *, retryable: bool = True, unsure: bool = False) -> CallReply:
    return CallReply(failed=Failure(kind=kind, detail="broken", retryable=retryable, unsure=unsure))


@dataclass
class Run:
    """A run whose agents work at workers behind ``network``."""

    bus: WorkerBus
    ledger: Ledger

    async def score(self, text: str = "q") -> ScoreReply:
        return await self.bus.request(SCORE, ScoreAsk(text=text, row=Row("r", {"input": "1"}, "1")), timeout=1e9)


@asynccontextmanager
async def run(
    home: Path, *replies: CallReply | Failure, extract: str | None = None, allowed: int | None = None, **caps: int
) -> AsyncIterator[tuple[Run, Network]]:
    async with open_journal(home / "journal.sqlite3") as journal:
        ledger, network = Ledger(Budget(**caps)), Network(list(replies))
        billing = Billing((ledger,), load_prices(None))
        allowance = None if allowed is None else Allowance(Ledger(Budget(calls=allowed)), "no calls are left")
        shared = SharedModel(Nobody(), Limiter())
        model = compose(shared, journal, billing, run_id="run", cache=True, allowance=allowance)
        team = Team(AgentSetting(method="lpo", metric="exact", extract=extract), LPO.writers)
        given: Any = network
        yield Run(WorkerBus(given, "run", "setting", team, model, model, anyio.CapacityLimiter(8)), ledger), network


@pytest.mark.parametrize("kind", ["RateLimited", "TransientError", "Outage"])
async def test_a_failed_call_is_retried_and_both_calls_count(tmp_path: Path, kind: str) -> None:
    async with run(tmp_path, failed(kind), said("1")) as (here, _):
        reply = await here.score()
        totals = here.ledger.totals
        assert (totals.calls, totals.failed_calls, totals.input_tokens, totals.unsure_tokens) == (2, 1, 3, 0)
    assert reply == ScoreReply(outcome=Scored(value=1.0, output="1"))


@pytest.mark.parametrize("lost", ["WorkersLost", "Unavailable"])
async def test_the_possible_cost_of_a_lost_worker_counts_for_the_budget(tmp_path: Path, lost: str) -> None:
    async with run(tmp_path, Failure(kind=lost, detail="gone"), said("1")) as (here, _):
        await here.score()
        totals = here.ledger.totals
        assert (totals.calls, totals.failed_calls) == (2, 1)
        assert totals.unsure_tokens > 256


async def test_a_final_failure_leaves_the_item_unscored_or_ends_the_run(tmp_path: Path) -> None:
    refused, no_key = failed("RequestRejected", retryable=False), failed("AuthError", retryable=False)
    broken = Failure(kind="ConfigError", detail="no such setting")
    async with run(tmp_path, refused, no_key, broken) as (here, _):
        assert (await here.score()).outcome == Unscored(reason="RequestRejected: broken")
        for text, reason in (("other", "AuthError"), ("third", "no such setting")):
            with pytest.raises(RequestFailed, match=reason):
                await here.score(text)
        assert here.ledger.totals.failed_calls == 3


async def test_an_item_too_large_for_the_bus_is_unscored_alone(tmp_path: Path) -> None:
    replies = (TOO_LARGE, TOO_LARGE.model_copy(update={"unsure": True}), said("1"))
    async with run(tmp_path, *replies) as (here, _):
        outcomes = [(await here.score(text)).outcome for text in ("request", "reply", "fits")]
        totals = here.ledger.totals
        assert (totals.calls, totals.failed_calls) == (2, 1)  # for the request that was too large, none was made
        assert totals.unsure_tokens > 256
    assert [isinstance(each, Scored) for each in outcomes] == [False, False, True]


async def test_an_item_of_several_calls_is_requested_call_by_call(tmp_path: Path) -> None:
    replies = (said("long"), failed("TransientError"), said("1"))
    async with run(tmp_path, *replies, extract="The answer is") as (here, network):
        await here.score()
        assert [each.known for each in network.asked] == [(), ("long",), ("long",)]
        totals = here.ledger.totals
        assert (totals.calls, totals.failed_calls, totals.input_tokens) == (3, 1, 6)
        known = await here.score()
        assert here.ledger.totals.cached_calls == 2
    assert known.outcome == Scored(value=1.0, output="long\nThe answer is 1")
    assert len(network.asked) == 3


async def test_a_worker_cannot_influence_how_an_answer_is_judged(tmp_path: Path) -> None:
    """The answer is judged here: a worker cannot say that a wrong answer is right."""
    async with run(tmp_path, said("wrong")) as (here, _):
        assert (await here.score()).outcome == Scored(value=0.0, output="wrong", feedback='expected exactly "1"')


async def test_workers_are_not_asked_beyond_the_budget(tmp_path: Path) -> None:
    async with run(tmp_path, said("1"), calls=1) as (here, network):
        await here.score()
        with pytest.raises(RequestFailed, match="budget of 1 calls"):
            await here.score("other")
    assert len(network.asked) == 1


async def test_search_calls_are_counted_exactly_if_an_item_takes_several(tmp_path: Path) -> None:
    async with run(tmp_path, said("long"), said("1"), said("long"), extract="So:", allowed=3) as (here, network):
        await here.score()
        with pytest.raises(RequestFailed, match="no calls are left"):
            await here.score("other")
    assert len(network.asked) == 3


async def test_identical_items_are_requested_once(tmp_path: Path) -> None:
    async with run(tmp_path, said("1")) as (here, network), anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(here.score)
    assert len(network.asked) == 1


async def test_a_conversation_with_a_marker_is_replayed_in_the_run(tmp_path: Path) -> None:
    """The first reply holds no edit, so the marker asks again; both calls are made by workers and booked."""
    replies = (said("What?"), said('{"line": 1, "quote": "it", "action": "replace", "options": ["the team"]}'))
    async with run(tmp_path, *replies) as (here, network):
        ask = MarkAsk(prompt=Prompt(text="Say it: {input}"), critique=Critique(text="It is vague."))
        marks = await here.bus.request(MARK, ask, timeout=1e9)
        assert [each.known for each in network.asked] == [(), ("What?",)]
        assert here.ledger.totals.calls == 2
    assert [(mark.span.start, mark.span.end) for mark in marks.marks] == [(4, 6)]
    assert marks.malformed == 1
