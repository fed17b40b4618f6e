"""What a caller may do wrong with objects of their own: said in one sentence, before a run is created if possible."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import lpo_agent
from lpo_agent import Completion, Environment, Usage
from lpo_agent.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

ROWS = [{"input": f"We sold {n} pears.", "target": str(n)} for n in range(40)]


class Echo:
    """A model that repeats the number once it is asked for one."""

    def __init__(self, **identity: Any) -> None:
        self.identity = identity

    async def complete(self, call: Any) -> Any:
        text = call.turns[-1].content
        return Completion(text.split()[-2] if "number" in text else "hm", Usage(3, 1))


class Empty:
    """Has none of the methods that any part needs."""


class BadProvider:
    """Opens what is no model, or has a bug, or is no context manager."""

    def __init__(self, how: str) -> None:
        self.how = how

    def open(self, name: str, connection: Any) -> Any:
        return self._open() if self.how != "no block" else Empty()

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        if self.how == "bug":
            raise KeyError(self.how)
        yield Empty()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": Empty()}, "^model: a Empty has no method complete; give a name or an object with async"),
    "a number as a model": ({"model": 5}, "^model: a int has no method complete"),
    "a class as a model": ({"model": Echo}, "^model: Echo is a class; give an object of it$"),
    "an identity that is no JSON": ({"model": Echo(weights=object())}, "^model: the identity of a model is a mapping"),
    "no optimizer model": ({"optimizer_model": Empty()}, "^optimizer_model: a Empty has no method complete"),
    "no method": ({"method": Empty()}, "^method: a Empty has no method search"),
    "no marker": ({"marker": Empty()}, "^marker: a Empty has no method mark"),
    "no proposer": ({"proposer": Empty()}, "^proposer: a Empty has no method propose"),
    "no bus": ({"bus": Empty()}, "^bus: a Empty has no method request; give a name or .* request and serve$"),
    "no metric": ({"metric": Empty()}, "^the metric is a Empty; give a name"),
    "no provider": ({"model": "mine:x", "providers": {"mine": Empty()}}, "^provider: a Empty has no method open"),
    "no providers": ({"providers": [Empty()]}, "^providers: give a mapping"),
    "the name of a provider of the package": (
        {"providers": {"openai": BadProvider("")}},
        "^providers: 'openai' is a provider of the package itself; choose another name$",
    ),
    "dollars without a price": ({"budget": lpo_agent.Budget(usd=1)}, "^the price of own:Echo is not known"),
    "a method's option that is no number": ({"method_options": {"tags": "x"}, "method": "pe2"}, "^--set.*tags"),
    "a method's option out of range": ({"method_options": {"tags": -3}, "method": "pe2"}, "^--set.*tags"),
    "an option of another method": ({"class_gate": 0.0, "method": "ape"}, "^--class-gate is for --method"),
    "branches of another method": ({"branches": 9, "method": "ape"}, "^--branches is for --method"),
    "rows that are none": ({"rows": 5}, "^examples: give a list of rows"),
    "a bus that is not there": ({"bus": "nats://127.0.0.1:1"}, "cannot connect to a NATS server|needs asyncio"),
    "a bus without its file": ({"bus": "nats://127.0.0.1:1?creds=/none"}, "^--bus: creds=/none: there is no such file"),
    "a bus of another kind": ({"bus": "http://127.0.0.1"}, "^--bus: write memory, nats://HOST:PORT"),
}


async def optimize(home: Path, **given: Any) -> Any:
    rows, env = given.pop("rows", ROWS), Environment(home)
    options: dict[str, Any] = {"model": Echo(), "metric": "numeric", "method": "local-search", "steps": 1}
    return await lpo_agent.optimize("Say it: {input}", rows, env=env, **options | given)


@pytest.mark.parametrize(("given", "says"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_work_is_refused_before_a_run_is_created(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        await optimize(tmp_path, **given)
    assert await lpo_agent.list_runs(env=Environment(tmp_path)) == []


async def test_a_run_whose_bus_is_bad_is_refused_however_it_is_opened(tmp_path: Path) -> None:
    env = Environment(tmp_path)
    spec = lpo_agent.make_spec({"prompt": "Say it.", "examples": ROWS, "model": "own:Echo"})
    with pytest.raises(ConfigError, match="write memory"):
        async with lpo_agent.open_run(spec, model=Echo(), bus="junk", env=env):
            raise AssertionError
    async with lpo_agent.open_session(model=Echo(), bus="nats://127.0.0.1:1", env=env) as session:
        with pytest.raises(ConfigError, match=r"cannot connect|needs asyncio"):
            await session.start(spec)
    assert await lpo_agent.list_runs(env=env) == []


@pytest.mark.parametrize(
    ("kind", "other", "says"),
    [
        ("evalute", None, "^kind: 'evalute' is no kind of run; known are optimize, evaluate, compare, mark, headroom$"),
        ("compare", None, "^other_prompt: give the prompt to compare with$"),
        ("compare", " ", "^the prompt is empty$"),
        ("compare", "Say {inptu}", "^placeholder {inptu} names nothing in the data"),
    ],
)
async def test_a_run_of_no_kind_or_without_its_second_prompt_is_refused(
    tmp_path: Path, kind: Any, other: str | None, says: str
) -> None:
    spec = lpo_agent.make_spec({"prompt": "Say it: {input}", "examples": ROWS, "model": "own:x"})
    opened = lpo_agent.open_run(spec, kind=kind, other_prompt=other, model=Echo(), env=Environment(tmp_path))
    with pytest.raises(InputError, match=says):
        async with opened:
            raise AssertionError
    assert await lpo_agent.list_runs(env=Environment(tmp_path)) == []


class Buggy:
    """A marker, a proposer and a method that raise, or return nothing."""

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises

    async def mark(self, ask: Any) -> Any:
        if self.raises:
            raise KeyError("pears")

    propose = search = mark


@pytest.mark.parametrize(
    ("part", "wanted"),
    [("marker", "Marks"), ("proposer", "Proposals"), ("method", "a list of Candidate")],
)
@pytest.mark.parametrize("raises", [True, False])
async def test_a_bug_in_an_object_of_the_callers_ends_the_run_and_is_named(
    tmp_path: Path, part: str, wanted: str, *, raises: bool
) -> None:
    given: dict[str, Any] = {"method": "lpo", "marker": "random"} | {part: Buggy(raises=raises)}
    if part == "method":
        del given["marker"]
    says = f"^{part} Buggy raised KeyError: 'pears'" if raises else f"^{part} Buggy.* return .*{wanted}"
    with pytest.raises(ConfigError, match=says):
        await optimize(tmp_path, **given)
    (run,) = await lpo_agent.list_runs(env=Environment(tmp_path))
    assert run.status == "failed"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("bug", "provider 'mine' raised KeyError: 'bug'"),
        ("no block", "provider 'mine' raised TypeError"),
        ("no model", "provider 'mine' opened a Empty, which has no method complete"),
    ],
)
async def test_a_provider_with_a_bug_is_named(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine:x: {says}"):
        await optimize(tmp_path, model="mine:x", providers={"mine": BadProvider(how)})


BAD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "returned a value of type NoneType; return a Completion"),
    "a text": ("7", "returned a value of type str; return a Completion"),
    "no text": (Completion(None), "text is a NoneType; it must be a str"),  # type: ignore[arg-type]
    "half a character": (Completion("\udc80"), "text is not valid Unicode"),
    "no usage": (Completion("7", None), "usage is not a Usage with two counts"),  # type: ignore[arg-type]
    "fewer than no tokens": (Completion("7", Usage(-5, 1)), "usage is not a Usage with two counts"),
    "half a token": (Completion("7", Usage(1.5, 1)), "usage is not a Usage with two counts"),  # type: ignore[arg-type]
    "too many tokens": (Completion("7", Usage(10**30, 1)), "usage is not a Usage with two counts"),
    "no bool": (Completion("7", truncated="no"), "truncated is not a bool"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("returned", "says"), BAD.values(), ids=BAD.keys())
async def test_what_a_model_may_not_return_leaves_items_unscored(tmp_path: Path, returned: Any, says: str) -> None:
    class Junk:
        async def complete(self, call: Any) -> Any:
            return returned

    result = await lpo_agent.evaluate("{input}", ROWS[:3], model=Junk(), metric="numeric", env=Environment(tmp_path))
    assert (result.status, result.score.n, result.score.unscored) == ("failed", 0, 3)
    assert all(says in reason for _, reason in result.unscored)


async def test_code_that_would_end_the_process_leaves_items_unscored(tmp_path: Path) -> None:
    def leave(output: str, target: str, row: Any) -> float:
        raise SystemExit(3)

    class Leaving:
        async def complete(self, call: Any) -> Any:
            raise SystemExit(3)

    env = Environment(tmp_path)
    judged = await lpo_agent.evaluate("{input}", ROWS[:3], model=Echo(), metric=leave, env=env)
    asked = await lpo_agent.evaluate("{input}", ROWS[:3], model=Leaving(), metric="exact", env=env)
    assert [reason for _, reason in judged.unscored] == ["metric: leave raised SystemExit: 3"] * 3
    assert [reason for _, reason in asked.unscored] == ["RequestRejected: own:Leaving raised SystemExit: 3"] * 3
