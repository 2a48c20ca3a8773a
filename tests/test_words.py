"""A name means one thing in the whole package: public classes and functions of its files are defined once."""

from __future__ import annotations

import ast
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import robusteval

ROOT = Path(robusteval.__file__).parent

GENERAL = {
    "audit": ("cli/audits.py", "auditing/verb.py"),
    "leaderboard": ("cli/app.py", "reports/leaderboard/__init__.py"),
    "verify": ("cli/app.py", "auditing/verify.py"),
    "main": ("cli/app.py", "training/zoo.py"),
    "train": ("cli/training.py", "training/loop.py"),
    "plots": ("reports/chapters/*", "reports/figures/distances.py", "reports/leaderboard/figures.py"),
    "grids": ("reports/chapters/*", "reports/leaderboard/grids.py"),
    "tables": ("reports/papers/*",),
    "figures": ("reports/papers/*",),
    "table": ("reports/formats/latex.py", "reports/formats/markdown.py"),
    "escaped": ("reports/formats/latex.py", "reports/formats/markdown.py"),
}
"""Names that mean the same wherever they stand, and the files that may define them: a command and what it runs; what a
script runs; the figures and grids of a part of a report; a paper's tables and figures; a grid and a text in a format
of text."""


def definitions() -> dict[str, set[str]]:
    """The files that define each public class or function at their top level."""
    found = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name].add(path.relative_to(ROOT).as_posix())
    return found


def aliases() -> dict[str, dict[str, str]]:
    """What each public alias of a type stands for, by the file that defines it."""
    found = defaultdict[str, dict[str, str]](dict)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]) if name[0].isupper() and not name.isupper():
                    found[name][path.relative_to(ROOT).as_posix()] = ast.unparse(node.value)
    return found


def collisions() -> dict[str, set[str]]:
    """The names with more than one meaning: all files of a general name that may define it count as one."""
    found = {}
    for name, files in definitions().items():
        general = {f for f in files if any(fnmatch(f, pattern) for pattern in GENERAL.get(name, ()))}
        if len(files - general) + bool(general) > 1:
            found[name] = files
    return found


def test_a_name_means_one_thing() -> None:
    found = {name: sorted(files) for name, files in collisions().items()}
    assert not found, f"expected names of their own for what these files define, got {found}"


def test_general_names_are_used() -> None:
    """A general name that a single file defines needs no exception."""
    found = definitions()
    alone = [name for name in GENERAL if len(found.get(name, ())) < 2]
    assert not alone, f"expected general names of several files in GENERAL, got {alone}"


def test_an_alias_stands_for_one_type_and_is_no_class() -> None:
    """Files may shorten the same type to the same name."""
    defined = definitions()
    found = {
        name: [*meant, *defined.get(name, ())]
        for name, meant in aliases().items()
        if len(set(meant.values())) > 1 or name in defined
    }
    assert not found, f"expected names of their own for what these files define, got {found}"
