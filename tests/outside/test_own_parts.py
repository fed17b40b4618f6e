"""Every seam from outside: objects of another package, alone, together and by entry point."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lpo_agent
from lpo_agent import (
    Budget,
    Environment,
    Mark,
    Marks,
    Proposal,
    Proposals,
    RunResult,
    RunSpec,
    Span,
    make_spec,
    plugins,
)
from lpo_agent.errors import ConfigError
from tests.outside import acme

if TYPE_CHECKING:
    from lpo_agent import Bus, MarkAsk, Marker, Method, Metric, Model, ProposeAsk, Proposer, Provider

pytestmark = pytest.mark.anyio


def test_the_objects_are_written_with_public_names_only() -> None:
    public = {"lpo_agent": set(lpo_agent.__all__), "lpo_agent.errors": set(lpo_agent.errors.__all__)}
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lpo_agent"):
                assert {alias.name for alias in node.names} <= public[node.module or ""] | {"plugins"}, path


async def test_a_run_with_every_part_from_outside(tmp_path: Path) -> None:
    """The parts are given as their Protocols, so that the type checker compares each with its object."""
    fruit, provider, same_letters, direct = acme.FruitModel(), acme.Acme(), acme.SameLetters(), acme.DirectBus()
    model: Model = fruit
    providers: dict[str, Provider] = {"acme": provider}
    metric: Metric = same_letters
    marker: Marker = acme.LastWord()
    proposer: Proposer = acme.Suffixes()
    method: Method = acme.OneStep()
    bus: Bus = direct
    result = await lpo_agent.optimize(
        acme.SEED,
        acme.ROWS,
        model=model,
        optimizer_model="acme:critic-2",
        providers=providers,
        metric=metric,
        marker=marker,
        proposer=proposer,
        method=method,
        bus=bus,
        env=Environment(tmp_path),
    )
    assert (result.status, result.verdict) == ("completed", "improved")
    assert result.best.prompt == acme.BEST
    assert result.best.dev is not None
    assert result.best.dev.mean == 1
    assert result.method == "one-step"
    assert provider.opened == ["critic-2"]
    assert set(direct.topics) == {"score", "critique", "mark", "propose"}
    assert same_letters.judged == direct.topics.count("score")
    assert result.usage.calls == fruit.calls + 1
    assert [edit.new for edit in result.best.edits] == [" in capitals"]


SCRIPTED = f"scripted:{Path(__file__).with_name('scripted_fruit.py')}:fruit"


@pytest.mark.parametrize(
    "own",
    [
        {"model": acme.FruitModel()},
        {"model": "acme:critic", "providers": {"acme": acme.Acme()}},
        {"optimizer_model": acme.Critic("c"), "marker": acme.LastWord(), "proposer": acme.Suffixes(), "method": "lpo"},
        {"metric": acme.SameLetters()},
        {"marker": acme.LastWord(), "proposer": "operators"},
        {"proposer": acme.Suffixes(), "marker": "random"},
        {"method": acme.OneStep(), "marker": acme.LastWord(), "proposer": acme.Suffixes()},
        {"bus": acme.DirectBus()},
    ],
    ids="+".join,
)
async def test_some_parts_beside_names(tmp_path: Path, own: dict[str, Any]) -> None:
    """What is not given comes from the package."""
    parts = {"model": SCRIPTED, "method": "local-search", "budget": {"calls": 300}} | own
    result = await lpo_agent.optimize(acme.SEED, acme.ROWS, env=Environment(tmp_path), **parts)
    assert result.status in {"completed", "stopped"}  # within its 300 calls, or by them
    assert result.usage.failed_calls == 0
    assert result.usage.calls > 50


async def test_objects_serve_the_other_kinds_of_run(tmp_path: Path) -> None:
    env, model, metric = Environment(tmp_path), acme.FruitModel(), acme.SameLetters()
    scored = await lpo_agent.evaluate(acme.BEST, acme.ROWS, model=model, metric=metric, bus=acme.DirectBus(), env=env)
    assert scored.score.mean == 1
    compared = await lpo_agent.compare(acme.SEED, acme.BEST, acme.ROWS, model=model, metric=metric, env=env)
    assert compared.delta is not None
    assert (compared.delta.mean, model.calls) == (1, 4 * len(acme.ROWS) - len(acme.ROWS))
    marked = await lpo_agent.mark(acme.SEED, acme.ROWS, model=model, metric=metric, marker=acme.LastWord(), env=env)
    assert [span.text for span in marked.spans] == ["text"]


async def test_objects_are_given_again_when_a_run_is_resumed(tmp_path: Path) -> None:
    env, model = Environment(tmp_path), acme.FruitModel()
    parts: dict[str, Any] = {"marker": acme.LastWord(), "proposer": acme.Suffixes(), "method": acme.OneStep()}
    parts["metric"] = acme.SameLetters()
    spec = RunSpec(prompt=acme.SEED, examples=acme.ROWS, model="own:fruit", budget=Budget(calls=30))
    async with lpo_agent.open_run(spec, env=env, model=model, **parts) as run:
        stopped = await run.wait()
    assert stopped.status == "stopped"
    with pytest.raises(ConfigError, match="pass them again: model, metric, method, marker, proposer"):
        await lpo_agent.resume(run.run_id, env=env)
    again = await lpo_agent.resume(run.run_id, env=env, model=model, budget=Budget(calls=1000), **parts)
    assert isinstance(again, RunResult)
    assert again.best.prompt == acme.BEST
    assert model.calls <= again.usage.calls
    whole = await lpo_agent.optimize(acme.SEED, acme.ROWS, env=Environment(tmp_path / "2"), model=model, **parts)
    assert (again.best, again.test_delta) == (whole.best, whole.test_delta)


class Buggy:
    """A marker and a proposer with bugs: one returns what does not fit, the other raises."""

    async def mark(self, ask: MarkAsk) -> Marks:
        return Marks(marks=(Mark(span=Span(0, 1000), reason="all of it"),))

    async def propose(self, ask: ProposeAsk) -> Proposals:
        return Proposals(proposals=(dict[str, Proposal]()["no such key"],))


async def test_a_bug_in_an_object_is_named(tmp_path: Path) -> None:
    env, model = Environment(tmp_path), acme.FruitModel()
    given: dict[str, Any] = {"model": model, "metric": acme.SameLetters(), "method": "local-search", "env": env}
    with pytest.raises(ConfigError, match="marker Buggy returned marks that do not fit the prompt: span 0:1000"):
        await lpo_agent.optimize(acme.SEED, acme.ROWS, marker=Buggy(), **given)
    with pytest.raises(ConfigError, match="proposer Buggy raised KeyError: 'no such key'"):
        await lpo_agent.optimize(acme.SEED, acme.ROWS, proposer=Buggy(), **given)


def install(folder: Path, *, entry_points: str) -> None:
    """Make what pip leaves of an installed distribution."""
    info = folder / "acme_prompts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-prompts\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points), encoding="utf-8")


async def test_an_installed_package_adds_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path,
        entry_points="""
            [lpo_agent.providers]
            acme = tests.outside.acme:Acme
            openai = tests.outside.acme:Acme
            [lpo_agent.methods]
            one-step = tests.outside.acme:OneStep
            broken = tests.outside.no_such_module:Method
            [lpo_agent.metrics]
            same-letters = tests.outside.acme:SameLetters
        """,
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.PROVIDERS.names() == ("openai", "anthropic", "local", "scripted", "acme")
    assert not isinstance(plugins.PROVIDERS.load("openai"), acme.Acme)
    names = {"optimizer_model": "acme:critic-3", "method": "one-step", "metric": "same-letters"}
    spec = make_spec(
        {"prompt": acme.SEED, "examples": acme.ROWS, "model": "own:fruit", "budget": {"calls": 200}, **names}
    )
    async with lpo_agent.open_run(
        spec, env=Environment(tmp_path), model=acme.FruitModel(), marker=acme.LastWord(), proposer=acme.Suffixes()
    ) as run:
        result = await run.wait()
    assert (result.best.prompt, result.method) == (acme.BEST, "one-step")
    with pytest.raises(ConfigError, match=r"method 'broken': tests\.outside.no_such_module:Method cannot be imported"):
        await lpo_agent.optimize(acme.SEED, acme.ROWS, model=SCRIPTED, method="broken", env=Environment(tmp_path))
