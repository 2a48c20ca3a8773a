"""The layout is the architecture: imports point down the list of packages, and what only reads loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import robusteval

ROOT = Path(robusteval.__file__).parent
FLOORS = (
    "cli",
    "training",
    "reports",
    "analysis",
    "auditing",
    "sanity",
    "results",
    "defenses",
    "metrics",
    "certify",
    "attacks",
    "numerics",
    "models",
    "data",
    "files",
    "core",
)
"""From the top down: a package imports those below it, never one above."""
FILES = sorted(ROOT.rglob("*.py"))


LONGEST = 250
"""Lines of a file; a longer one says why in its docstring."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file names in imports, wherever in the file, but for type checkers alone."""
    tree = ast.parse(path.read_text())
    for_checkers = {id(n) for node in ast.walk(tree) if _is_for_checkers(node) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "robusteval")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "robusteval":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def floor(module: str) -> int | None:
    """Where a module stands, counted from the top; None for the front of the package."""
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] in FLOORS else None


def test_every_file_has_a_floor() -> None:
    loose = {path.name for path in ROOT.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}
    folders = {path.relative_to(ROOT).parts[0] for path in FILES} - loose
    assert folders == set(FLOORS)


def test_imports_point_down() -> None:
    up = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports(path)
        if (own := floor(module)) is not None and (its := floor(other)) is not None and its < own
    ]
    assert not up, "\n".join(up)


def test_the_front_is_for_users() -> None:
    """It stands above all, and nothing asks it but what shows itself in a notebook: its headline, or as a figure."""
    asking = {module for module, path in MODULES.items() if floor(module) is not None and "robusteval" in imports(path)}
    shown = {"results.run", "attacks.result", "certify.base", "metrics.base", "analysis.leaderboard.board"}
    assert asking == {f"robusteval.{module}" for module in shown}


def test_no_file_imports_itself_through_others() -> None:
    """A package's __init__ stands for what it hands on, so that it may name the files of its own package."""
    edges = {module: {o for o in imports(path) if o != module} for module, path in MODULES.items()}
    fronts = {name_of(path) for path in FILES if path.name == "__init__.py"}
    left = {m: {o for o in others if o not in fronts} for m, others in edges.items() if m not in fronts}
    while free := [m for m, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"in circles, or above one: {sorted(left)}"


@pytest.mark.parametrize(
    ("packages", "banned"),
    [(("analysis", "results"), ("torch", "matplotlib")), (("reports",), ("torch", "matplotlib"))],
    ids=["analysis", "reports"],
)
def test_what_reads_a_run_loads_no_torch_and_no_plotting(packages: tuple[str, ...], banned: tuple[str, ...]) -> None:
    modules = [m for m in MODULES if m.split(".")[1:2] and m.split(".")[1] in packages]
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules!r}]"
    code += f"; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_torch_nor_tables_nor_plotting() -> None:
    code = "import sys, robusteval, robusteval.cli.app; "
    code += "print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_long_files_say_why() -> None:
    for path in FILES:
        text = path.read_text()
        if text.count("\n") > LONGEST:
            assert "Longer than 250 lines" in (ast.get_docstring(ast.parse(text)) or ""), path
