"""Names that installed packages add by entry points; one that cannot be imported harms only who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lpo_agent
from lpo_agent import Environment
from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = """
from contextlib import asynccontextmanager
from lpo_agent import Completion, Judgement, Usage

class Model:
    async def complete(self, call):
        return Completion("7", Usage(1, 1))

class Provider:
    @asynccontextmanager
    async def open(self, name, connection):
        yield Model()

class Metric:
    async def judge(self, output, row):
        return Judgement(0.25)
"""
ENTRIES = """
[lpo_agent.providers]
added = added_by_test:Provider
openai = added_by_test:Provider
broken = added_by_test:Nothing
[lpo_agent.metrics]
quarter = added_by_test:Metric
gone = no_such_module_at_all:Metric
[lpo_agent.methods]
lost = added_by_test:Nothing
"""
ROWS = [{"input": str(n), "target": str(n)} for n in range(12)]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    site = tmp_path / "site"
    info = site / "added_by_test-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "added_by_test.py").write_text(PACKAGE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added-by-test\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    return Environment(tmp_path / "home")


@pytest.mark.anyio
async def test_a_package_adds_a_provider_and_a_metric(installed: Environment) -> None:
    result = await lpo_agent.evaluate("Say {input}", ROWS, model="added:x", metric="quarter", env=installed)
    assert (result.score.mean, result.score.n) == (0.25, len(ROWS))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "broken:x"}, "provider 'broken': added_by_test:Nothing cannot be imported: AttributeError"),
        ({"metric": "gone"}, "metric 'gone': no_such_module_at_all:Metric cannot be imported: ModuleNotFoundError"),
        ({"method": "lost"}, "method 'lost': added_by_test:Nothing cannot be imported: AttributeError"),
    ],
)
async def test_what_cannot_be_imported_is_named_with_its_reason(
    installed: Environment, given: dict[str, str], says: str
) -> None:
    named = {"model": "added:x", "metric": "quarter", "method": "local-search"} | given
    with pytest.raises(ConfigError, match=says):
        await lpo_agent.optimize(
            "Say {input}", ROWS, model=named["model"], metric=named["metric"], method=named["method"], env=installed
        )


@pytest.mark.anyio
async def test_a_name_of_the_package_itself_wins(installed: Environment) -> None:
    with pytest.raises(lpo_agent.LpoError, match="OPENAI_API_KEY"):
        await lpo_agent.evaluate("Say {input}", ROWS, model="openai:x", metric="quarter", env=installed)
