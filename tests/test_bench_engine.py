"""Test of a short run of the engine's benchmark: its counts must be right; times are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_engine.py"


SLOW = [pytest.param(part, marks=pytest.mark.slow) for part in ("faults", "kills", "limits")]


@pytest.mark.parametrize("part", [*SLOW, "tokens", "tail"])
def test_the_counts_are_right(part: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--short", "--only", part, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert any(row["high"] is not None for row in rows) or part == "tail"
    assert all(row["met"] for row in rows)
