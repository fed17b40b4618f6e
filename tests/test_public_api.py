"""Tests of the public API: all names exist and have docstrings, and other packages use only public names."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lpo_agent
from lpo_agent.plugins import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

PUBLIC = (
    "lpo_agent",
    "lpo_agent.bench",
    "lpo_agent.errors",
    "lpo_agent.events",
    "lpo_agent.plugins",
    "lpo_agent.report",
    "lpo_agent.results",
)
"""The public modules; each lists its public names in ``__all__``."""

OUTSIDE = ("lpo_agent/cli", "servers/lpo_mcp")
"""Folders that are written against the public API alone."""


def names_of(module: str) -> list[str]:
    listed: list[str] = import_module(module).__all__
    return listed


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield module and name of all that a file imports, type checking included; None: the module itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)


def allowed(module: str, name: str | None, own: str) -> bool:
    """Tell whether a file of the package ``own`` may import this."""
    if module.partition(".")[0] != "lpo_agent" or f"{module}.".startswith(f"{own}.") or f"{module}.{name}" == own:
        return True
    return f"{module}.{name}" in PUBLIC or (module in PUBLIC and (name is None or name in names_of(module)))


@pytest.mark.parametrize("folder", OUTSIDE)
def test_code_outside_of_the_library_imports_public_names_only(folder: str) -> None:
    own = folder.removeprefix("servers/").replace("/", ".")
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}: {module} {name or ''}"
        for path in files
        for module, name in imports(path)
        if not allowed(module, name, own)
    ]
    assert not wrong, wrong


def test_the_rule_rejects_what_is_not_public() -> None:
    assert allowed("lpo_agent", "optimize", "lpo_agent.cli")
    assert allowed("lpo_agent.events", "fold", "lpo_agent.cli")
    assert allowed("lpo_agent.cli.show", "console", "lpo_agent.cli")
    assert allowed("lpo_agent", "cli", "lpo_agent.cli")
    assert allowed("pathlib", "Path", "lpo_agent.cli")
    assert not allowed("lpo_agent", "journal", "lpo_agent.cli")
    assert not allowed("lpo_agent.journal", "open_journal", "lpo_agent.cli")
    assert not allowed("lpo_agent.journal", None, "lpo_agent.cli")
    assert not allowed("lpo_agent.bench.grid", "Bench", "lpo_agent.cli")
    assert not allowed("lpo_agent.cli.show", "console", "lpo_mcp")


def test_code_outside_of_the_library_compares_no_method_names() -> None:
    for folder in OUTSIDE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare):
                    named = {value.value for value in ast.walk(node) if isinstance(value, ast.Constant)}
                    assert not named & set(METHODS.names()), f"{path}, line {node.lineno}"


@pytest.mark.parametrize("module", ["lpo_agent", "lpo_agent.bench"])
def test_all_has_exactly_the_names_that_are_imported_lazily(module: str) -> None:
    package = import_module(module)
    eager = {"__version__"} if module == "lpo_agent" else set()
    assert set(package.__all__) == package._HOMES.keys() | eager
    assert len(package.__all__) == len(set(package.__all__))


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there_and_described(module: str) -> None:
    package = import_module(module)
    assert package.__doc__
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, f"{module}.{name}"
            assert not (inspect.isclass(value) and value.__doc__.startswith(f"{name}(")), f"{module}.{name}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    for module in (lpo_agent, lpo_agent.bench):
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018 - it is the look-up that fails


def test_no_public_name_is_also_a_module_of_the_package() -> None:
    """A module takes the place of a name of the package as soon as it is imported."""
    modules = {path.stem for path in (ROOT / "lpo_agent").iterdir()}
    assert not modules & set(lpo_agent.__all__)


def test_a_type_checker_sees_the_same_names() -> None:
    """Names that are imported late have a second list, for type checkers; this compares it with the first."""
    for module in ("lpo_agent", "lpo_agent.bench"):
        path = Path(str(import_module(module).__file__))
        (block,) = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        ]
        found = {
            alias.name: node.module
            for node in ast.walk(block)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        homes = {name: f"{module}.{home}" for name, home in import_module(module)._HOMES.items()}
        assert found == homes


def test_each_public_module_can_be_the_first_import() -> None:
    """An import that works only after another one hides a circle."""
    code = "import sys; from importlib import import_module; import_module(sys.argv[1])"
    for module in PUBLIC:
        subprocess.run([sys.executable, "-c", code, module], check=True)
