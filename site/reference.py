"""A hook of mkdocs: the pages of the API, one entry for each public name and each method of the registries.

Which names there are is read out of the files, not imported: the site's environment needs no torch.
"""

from __future__ import annotations

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[1] / "robusteval"
METHODS = {
    "attacks": "What an audit tries. Each setting is a field; `method(network, images, labels, budget=...)` runs it.",
    "certificates": "What an audit proves, or estimates. `method(network, images, labels)` runs it.",
    "metrics": "What an audit measures. `method(network, images, labels)` runs it.",
    "defenses": "How a network is trained. `rv.train(network, images, defense, settings)` runs it.",
}
FOLDERS = {"certificates": "certify"}
FOUNDATIONS = (
    "robusteval.attacks.base.Candidates",
    "robusteval.attacks.result.AttackResult",
    "robusteval.attacks.search.ball.Ball",
    "robusteval.core.streams.Streams",
    "robusteval.core.methods.Quantity",
    "robusteval.certify.base.Guarantee",
)
FIXED = "!^(name|title|summary|norms|follows|quantities|model_config)$"
"""What a method says of itself: its heading, not its settings."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """The Markdown of each page of the reference."""
    front = [f"::: robusteval.{home}.{name}" for name, home in sorted(homes().items())]
    found = {"front": "\n\n".join(["# robusteval", "`import robusteval as rv` gives these, and each method.", *front])}
    for group, about in METHODS.items():
        entries = [f"## {name}\n\n{method(where)}" for name, where in registry(group).items()]
        found[group] = "\n\n".join([f"# {group.capitalize()}: settings", about, *entries])
    found["foundations"] = "\n\n".join(["# To write methods with", *(f"::: {name}" for name in FOUNDATIONS)])
    return found


def method(where: str) -> str:
    options = f"    options:\n      inherited_members: true\n      filters: ['!^_', '{FIXED}']"
    return f"::: {where.replace(':', '.')}\n{options}"


def homes() -> dict[str, str]:
    """The file below the package in which each public name is defined."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="_HOMES")], value=value):
                found: dict[str, str] = ast.literal_eval(value)
                return found
    raise LookupError("expected _HOMES in robusteval/__init__.py")


def registry(group: str) -> dict[str, str]:
    """The methods of a group by name, as `module:Class`."""
    path = PACKAGE / FOLDERS.get(group, group) / "__init__.py"
    tables = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Dict)]
    found: dict[str, str] = ast.literal_eval(tables[0])
    return found
