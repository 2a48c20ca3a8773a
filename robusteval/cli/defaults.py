"""robusteval.toml in the working directory: options of commands that are not given on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from robusteval.core.errors import UserError, nearest
from robusteval.core.toml_files import read_toml

FILE = Path("robusteval.toml")
SPOKEN = ("trust", "sign", "allowed-signers", "address")
"""Options that only the command line gives: they are permissions, and a cluster runs what it likes."""
AUDIT, PLAN = "audit", "plan"


def options_of(context: typer.Context) -> dict[str, dict[str, str]]:
    """The options of each command of a group, without their dashes, each with the name of its parameter."""
    commands = getattr(context.command, "commands", {})
    return {
        name: {flag.removeprefix("--"): p.name for p in command.params for flag in p.opts if flag.startswith("--")}
        for name, command in commands.items()
    }


def read_defaults(options: Mapping[str, Mapping[str, str]], path: Path = FILE) -> dict[str, dict[str, Any]]:
    """The options of each command, as click takes its default map; none where there is no file. `options` are those of
    each command, without their dashes, each with the name of its parameter. A plan has those of the audit that it
    plans.

    The file is data and permits nothing: what runs a program (a Python file, a protocol's file, --trust) stands on the
    command line. Raises UserError, which names the table and the key.
    """
    if not path.is_file():
        return {}
    found = {command: _table(command, table, options, path) for command, table in read_toml(path).items()}
    if PLAN in options:
        shared = {name: value for name, value in found.get(AUDIT, {}).items() if name in options[PLAN].values()}
        found[PLAN] = shared | found.get(PLAN, {})
    return found


def _table(command: str, table: Any, options: Mapping[str, Mapping[str, str]], path: Path) -> dict[str, Any]:
    if command not in options or not isinstance(table, dict):
        raise UserError(f"expected tables of commands in {path}, got '{command}' ({nearest(command, options)})")
    known = options[command]
    found = {}
    for key, value in table.items():
        if key not in known:
            raise UserError(f"expected an option of {command} in {path}, got '{key}' ({nearest(key, known)})")
        if key in SPOKEN or any(_runs(text) for text in (value if isinstance(value, list) else [value])):
            raise UserError(f"expected {command}.{key} on the command line, got it in {path}, which permits no program")
        found[known[key]] = value
    return found


def _runs(value: object) -> bool:
    """Whether a value may name a program: a Python file, or a protocol that may name some."""
    text = str(value).lower()
    return ".py:" in text or text.endswith((".py", ".toml"))
