"""What is known of a method stands on the method: no other file compares with its name, or looks something up by it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import robusteval
from robusteval.attacks import ATTACKS
from robusteval.certify import CERTIFICATES
from robusteval.defenses import DEFENSES
from robusteval.metrics import METRICS

ROOT = Path(robusteval.__file__).parent
REGISTRIES = (ATTACKS, CERTIFICATES, METRICS, DEFENSES)
HOMES = {name: registry.origin(name).reference.split(":")[0] for registry in REGISTRIES for name in registry.builtin}
"""The module of each method of this package."""
ALLOWED = ("attacks/__init__.py", "certify/__init__.py", "metrics/__init__.py", "defenses/__init__.py")
"""The registries."""
LABELS = "reports/papers/"
"""Tables of a paper ask for the labels that its own protocol gives."""
OTHER_SENSES = {
    ("core/device.py", "auto"),  # a device
    ("attacks/search/ascent.py", "sgr"),  # a preset of a paper
    ("defenses/sgr.py", "lrc"),  # where Sigma comes from
    ("defenses/perturbed_augmentation.py", "lrc"),  # a perturbation
    ("defenses/perturbed_augmentation.py", "fgsm"),  # a perturbation
    ("auditing/request.py", "auto"),  # a batch size
    ("auditing/split.py", "auto"),  # a number of processes
    ("attacks/external/autoattack.py", "standard"),  # a version of AutoAttack
    ("analysis/metrics/covariance.py", "covariance"),  # a column
    ("reports/chapters/covariance.py", "covariance"),  # a column
}
"""(file, word): names of methods that mean something else there."""


def constants(tree: ast.Module) -> dict[str, str]:
    """The strings that a module names: NAME = "string", and A, B = "one", "two"."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found[name.id] = value.value
    return found


def imported(tree: ast.Module, modules: Mapping[str, ast.Module]) -> dict[str, str]:
    """The strings that it imports by name from modules of the package."""
    return {
        alias.asname or alias.name: known[alias.name]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (source := modules.get(node.module or ""))
        and (known := constants(source))
        for alias in node.names
        if alias.name in known
    }


def compared(tree: ast.Module) -> Iterator[ast.expr]:
    """What stands in a comparison, as a key of a dictionary, or in a case; of tuples, lists and sets their members."""
    for node in ast.walk(tree):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            found = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            found = [*node.keys]
        elif isinstance(node, ast.MatchValue):
            found = [node.value]
        for part in found:
            if isinstance(part, ast.Tuple | ast.List | ast.Set):
                yield from part.elts
            elif part is not None:
                yield part


def branches(path: str, tree: ast.Module, modules: Mapping[str, ast.Module]) -> list[str]:
    """Where a file compares with a name of a method of another file."""
    own = "robusteval." + path.removesuffix(".py").replace("/", ".")
    known = imported(tree, modules) | constants(tree)
    found = []
    for part in compared(tree):
        word = (
            part.value if isinstance(part, ast.Constant) else known.get(part.id) if isinstance(part, ast.Name) else ""
        )
        if isinstance(word, str) and HOMES.get(word, own) != own and (path, word) not in OTHER_SENSES:
            found.append(f"{path}, line {part.lineno}: '{word}'")
    return found


def test_no_file_branches_on_the_name_of_a_method() -> None:
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
    modules = {"robusteval." + path.removesuffix(".py").replace("/", "."): tree for path, tree in trees.items()}
    read = {path: tree for path, tree in trees.items() if path not in ALLOWED and not path.startswith(LABELS)}
    found = [line for path, tree in read.items() for line in branches(path, tree, modules)]
    assert not found, "ask for what the method declares (quantities, follows, ensemble) instead:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "found = entry.method == 'gradient-masking'",
        "METRIC = 'gradient-masking'\nfound = entry.method != METRIC",
        "from robusteval.elsewhere import METRIC\nfound = entry.method == METRIC",
        "found = entry.method in ('auto', 'pgd')",
        "titles = {'l-bound': 'L-bound'}",
        "match entry.method:\n    case 'square':\n        found = True",
    ],
)
def test_such_a_branch_is_seen(code: str) -> None:
    elsewhere = {"robusteval.elsewhere": ast.parse("METRIC = 'gradient-masking'")}
    assert branches("analysis/any.py", ast.parse(code), elsewhere)


def test_a_method_may_name_itself() -> None:
    assert not branches("attacks/square.py", ast.parse("found = name == 'square'"), {})
