"""Tests of the architecture: allowed imports, lazy imports, and the rules for the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lpo_agent"

# The layers of the package, from the inside out. A part (a folder or a module of the package, or one of a few base
# modules) may import itself and parts of earlier layers, and nothing else, also under TYPE_CHECKING.
LAYERS = (
    ("failure",),
    ("errors",),
    ("core", "plugins", "loading", "environment", "prompts", "in_flight"),
    ("data", "bus.base", "models.base", "events", "options", "report", "schema"),
    ("bus", "journal", "models.conversation", "spec", "splitting"),
    ("metrics", "models", "telemetry"),
    ("agents",),
    ("search",),
    ("workers",),
    ("runs",),
    ("bench",),
    ("history", "diagnosis", "model_files"),
    ("results", "arguments"),
    ("api", "session"),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def modules() -> list[tuple[str, Path]]:
    return [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path) for path in PACKAGE.rglob("*.py")]


def part_of(module: str) -> str:
    base = ".".join(module.split(".")[:2])
    return base if base in LAYER else module.partition(".")[0]


def imported(tree: ast.AST) -> set[str]:
    """Return the modules imported from this package, type checking included, without the package's name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "lpo_agent":
            base = node.module.removeprefix("lpo_agent").lstrip(".")
            names |= {module_of(f"{base}.{alias.name}".lstrip(".")) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {module_of(a.name.removeprefix("lpo_agent.")) for a in node.names if "lpo_agent." in a.name}
    return names


def module_of(name: str) -> str:
    """Return the module with this dotted name, or the module that contains the name."""
    place = PACKAGE.joinpath(*name.split("."))
    if place.with_suffix(".py").exists() or not name:
        return name or "__init__"
    return name if (place / "__init__.py").exists() else module_of(name.rpartition(".")[0])


def graph() -> dict[str, set[str]]:
    """Return the imported modules of each module; the name of a package is that of its folder."""
    return {
        name.removesuffix(".__init__"): imported(ast.parse(path.read_text(encoding="utf-8")))
        for name, path in modules()
    }


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Return whether it ends every error: caught bare, by a broad class or by a tuple that holds one."""
    if isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None:
        return False  # it is raised again
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(getattr(each, "id", getattr(each, "attr", "")) in {"Exception", "BaseException"} for each in caught)


def broad(tree: ast.AST) -> list[int]:
    """Return the lines of handlers that catch every error; ``contextlib.suppress`` is looked at as well."""
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and catches_all(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "suppress":
            names = [getattr(each, "id", getattr(each, "attr", "")) for each in node.args]
            found += [node.lineno] if {"Exception", "BaseException"} & set(names) else []
    return sorted(found)


def test_every_part_has_a_layer() -> None:
    assert {part_of(name) for name in graph()} == set(LAYER)


@pytest.mark.parametrize(("name", "others"), sorted(graph().items()), ids=lambda value: value or "")
def test_imports_point_inward(name: str, others: set[str]) -> None:
    part = part_of(name)
    wrong = {other for other in others if part_of(other) != part and LAYER[part_of(other)] >= LAYER[part]}
    assert not wrong, f"{name} may not import {sorted(wrong)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    with suppress(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
        pytest.fail("a circle would go unseen")
    TopologicalSorter(graph()).prepare()


def test_only_methods_know_which_agents_they_bring() -> None:
    """The parts that all methods share work with agents by messages alone."""
    inner = {name: others for name, others in graph().items() if part_of(name) == "search"}
    knowing = {name for name, others in inner.items() if any(part_of(other) == "agents" for other in others)}
    assert all(name.startswith("search.methods") for name in knowing)
    assert knowing


def test_the_mcp_server_keeps_to_the_house_rules() -> None:
    for path in (ROOT / "servers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{path.name} is too long"
        assert path.name in {"tasks.py", "manager.py"} or not broad(ast.parse(text)), path.name  # ends of runs
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < 60, f"{path.name}, {node.name} is too long"


def test_the_core_never_awaits() -> None:
    for name, path in modules():
        if name.startswith("core."):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [n for n in ast.walk(tree) if isinstance(n, ast.Await | ast.AsyncFunctionDef)], name


def test_broad_excepts_are_only_at_boundaries() -> None:
    found = {name for name, path in modules() if broad(ast.parse(path.read_text(encoding="utf-8")))}
    # Two kinds of boundaries: those of a process or task, whose failures must reach somebody (the bus, the command
    # line, a run that nobody awaits yet), and code of somebody else (modules, packages, metrics, models, agents,
    # methods).
    assert found == {
        *("bus.memory", "bus.nats_codec", "cli.__init__", "runs.runner"),
        *("loading", "plugins", "metrics.custom", "models.pool", "agents.own", "search.methods.own"),
    }


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("except ValueError:", False),
        ("except (KeyError, ValueError):", False),
        ("except:", True),
        ("except BaseException:\n    raise\nexcept OSError:", False),
        ("except Exception as exc:", True),
        ("except BaseException:", True),
        ("except (ValueError, Exception):", True),
        ("except builtins.Exception:", True),
        ("except* (OSError, Exception):", True),
        ("except OSError:\n    with suppress(Exception):\n        pass\nexcept ValueError:", True),
    ],
)
def test_the_check_of_broad_excepts_finds_all_forms(words: str, seen: bool) -> None:  # noqa: FBT001 - a table's column
    assert bool(broad(ast.parse(f"try:\n    pass\n{words}\n    pass"))) == seen


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
