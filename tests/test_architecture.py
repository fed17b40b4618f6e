"""Imports point inward, heavy things are imported late, and the house rules hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lpo_agent"

# Who may import whom, by first folder or module under lpo_agent. A room that is not listed may be
# imported by nobody but the composition root and the outside.
ALLOWED = {
    "errors": {"core"},
    "core": {"core", "errors"},
    "prompts": {"prompts"},
    "loading": {"errors"},
    "bus": {"bus", "core", "errors"},
    "agents": {"agents", "core", "errors", "prompts", "metrics", "models.base", "models.conversation"},
    "metrics": {"metrics", "core", "errors", "loading", "prompts", "models.base", "models.conversation", "data"},
    "data": {"core", "errors"},
    "journal": {"journal", "core", "errors", "models.base"},
    "models": {"models", "core", "errors", "loading", "journal"},
    "search": {"search", "core", "errors", "bus.base", "spec"},
    "bench": {"bench", "core", "errors", "spec", "data"},
    "report": {"report", "core", "errors"},
    "telemetry": {"core", "errors", "journal"},
    "spec": {"core", "data", "errors"},
}
FREE = {"runs", "workers", "environment", "cli", "__init__", "__main__", "schema"}
FREE_MODULES = {"bench.running"}  # a run as those in runs are


def modules() -> list[tuple[str, Path]]:
    return [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path) for path in PACKAGE.rglob("*.py")]


def imported(tree: ast.AST) -> set[str]:
    """Return what is imported from this package, type checking included, without the package's name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lpo_agent"):
            base = node.module.removeprefix("lpo_agent").lstrip(".")
            names |= {base} if base else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("lpo_agent.") for a in node.names if a.name.startswith("lpo_agent.")}
    return names


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_inward(name: str, path: Path) -> None:
    room = name.partition(".")[0]
    if room in FREE or name in FREE_MODULES:
        return
    wrong = {
        other
        for other in imported(ast.parse(path.read_text(encoding="utf-8")))
        if not any(other == allowed or other.startswith(f"{allowed}.") for allowed in ALLOWED[room])
    }
    assert not wrong, f"{name} may not import {sorted(wrong)}"


def test_the_mcp_server_keeps_to_the_house_rules() -> None:
    for path in (ROOT / "servers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{path.name} is too long"
        for node in ast.walk(ast.parse(text)):
            broad = isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") == "Exception"
            assert not broad or path.name in {"tasks.py", "manager.py"}, path.name  # the tools' boundary; a run's
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < 60, f"{path.name}, {node.name} is too long"


def test_the_core_never_awaits() -> None:
    for name, path in modules():
        if name.startswith("core."):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [n for n in ast.walk(tree) if isinstance(n, ast.Await | ast.AsyncFunctionDef)], name


def test_broad_excepts_stand_only_at_boundaries() -> None:
    found = set()
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") in {"Exception", "BaseException"}:
                found.add(name)
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), name
    # The bus and the command line are boundaries, and so is the user's own code: metrics, modules.
    assert found <= {"bus.memory", "bus.nats_codec", "cli.__init__", "loading", "metrics.judges"}


def test_modules_and_functions_stay_small() -> None:
    sizes = []
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{name} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                assert size <= 60, f"{name}.{node.name} has {size} lines"
                sizes.append(size)
    assert len(sizes) > 100


@pytest.mark.parametrize("heavy", ["openai", "anthropic", "aiohttp", "rich", "xllamacpp", "sqlite3", "pydantic"])
def test_importing_the_package_imports_nothing_heavy(heavy: str) -> None:
    code = f"import sys, lpo_agent; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
