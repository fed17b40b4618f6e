"""A metric file of the user is executed when it is loaded, not for every item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import lpo_agent
from lpo_agent import Completion, Environment, Usage

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
with open({log!r}, "a") as log:
    log.write("x")

def right(output, target, row):
    return 1.0
"""


class Model:
    async def complete(self, call: Any) -> Completion:
        return Completion("7", Usage(1, 1))


@pytest.mark.anyio
async def test_a_metrics_file_is_not_executed_for_every_item(tmp_path: Path) -> None:
    file, log = tmp_path / "mine.py", tmp_path / "log"
    file.write_text(FILE.format(log=str(log)), encoding="utf-8")
    rows = [{"input": str(n), "target": str(n)} for n in range(40)]
    env = Environment(tmp_path)
    result = await lpo_agent.evaluate("Say {input}", rows, model=Model(), metric=f"{file}:right", env=env)
    assert result.score.n == 40
    assert len(log.read_text(encoding="utf-8")) <= 2  # when it is checked, and when the scorer is made
