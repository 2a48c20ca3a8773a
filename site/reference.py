"""A hook of mkdocs: the pages of the API, one entry for each public name and each method of the registries.

Which names there are is read out of the files, not imported: the site's environment needs no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import griffe
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
    "robusteval.core.methods.Guarantee",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """The Markdown of each page of the reference."""
    front = [f"::: robusteval.{home}.{name}" for name, home in sorted(homes().items())]
    package = griffe.load("robusteval", search_paths=[PACKAGE.parent], resolve_aliases=True)
    found = {"front": "\n\n".join(["# robusteval", "`import robusteval as rv` gives these, and each method.", *front])}
    for group, about in METHODS.items():
        methods = registry(group).items()
        entries = [f"## {name}\n\n{method(package[path_of(where)], where)}" for name, where in methods]
        found[group] = "\n\n".join([f"# {group.capitalize()}: settings", about, *entries])
    found["foundations"] = "\n\n".join(["# To write methods with", *(f"::: {name}" for name in FOUNDATIONS)])
    return found


def path_of(where: str) -> str:
    """`module:Class` below the package, with dots."""
    return where.replace(":", ".").removeprefix("robusteval.")


def method(found: griffe.Object | griffe.Alias, where: str) -> str:
    """What a method says of itself, and a table of its settings."""
    text = f"::: {where.replace(':', '.')}\n    options:\n      members: false"
    if not (rows := list(settings(found))):
        return f"{text}\n\nNo settings."
    return "\n".join([text, "", "| setting | type | default | |", "| --- | --- | --- | --- |", *rows])


def settings(found: griffe.Object | griffe.Alias) -> Iterator[str]:
    """A row for each field of a class and of those that it inherits from."""
    for name, member in found.all_members.items():
        # Of a class variable griffe knows that no instance has it; a name or title has no annotation at all.
        if not member.is_attribute or name.startswith("_") or "instance-attribute" not in member.labels:
            continue
        if member.annotation is None:
            continue
        default = "required" if member.value is None else f"`{member.value}`"
        about = " ".join(member.docstring.value.split()).replace("|", "\\|") if member.docstring else ""
        yield f"| `{name}` | `{member.annotation}` | {default} | {about} |"


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
