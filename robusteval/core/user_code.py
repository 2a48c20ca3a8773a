"""FILE.py:NAME, a function or a class in a Python file. Such a file is run only for a user who named it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robusteval.core.errors import UserError, nearest
from robusteval.core.limits import TEXT_BYTES, read_limited

USER_MODULE = "robusteval_user_"
"""How the names of the modules begin that such files become."""


class NotPermittedError(UserError):
    """What was read names a Python file that the user did not."""


def file_and_name(spec: str) -> tuple[str, str] | None:
    """The file and the name of FILE.py:NAME; None for anything else."""
    path, colon, name = spec.rpartition(":")
    return (path, name) if colon and path.endswith(".py") else None


def beside(file: str, folder: Path) -> Path:
    """A Python file that settings in `folder` name. Naming the settings permits to run a file that lies beside them
    or below, and no other. Raises UserError."""
    if "\0" in file:
        raise UserError(f"expected a Python file in {folder}, got {file!r}")
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UserError(
            f"expected a Python file in {folder}, got {file}, which lies elsewhere: a path in data is no permission to "
            "run it; put it there if you trust it"
        )
    return path


def source_checksum(path: Path) -> str:
    """What is in a file: "sha256:" and the first 16 digits. Raises UserError."""
    return _checksum(_read(path))


def permitted(file: str, trusted: Collection[Path], what: str) -> list[Path]:
    """The trusted files that a record may mean by `file`: that path, or, as a run has nothing but the name of the file,
    any of that name. Raises UserError where there is none: a record is no permission to run what it names."""
    named = Path(file)
    known = [p for p in trusted if p == named] or [p for p in trusted if p.name == named.name]
    if not known:
        raise NotPermittedError(
            f"expected permission to run {file} for {what}, got none; if you trust that file: "
            f"robusteval verify RUN --trust {Path(file).name}"
        )
    return known


def load_named(path: Path, name: str, what: str) -> Any:
    """The `what` (a function, a class) of that name in a file, which is run. Raises UserError."""
    module = load_file(path)
    found = getattr(module, name, None)
    if not callable(found):
        own = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"expected a {what} '{name}' in {path}, got none ({nearest(name, own)})")
    return found


@dataclass(frozen=True)
class UserFile:
    """A file that was run: the name of its module, where it lay, and what was in it then. Another process runs it from
    this, on another machine too, and reads no file."""

    module: str
    path: Path
    source: bytes


_RUN: dict[str, UserFile] = {}
"""Those of this process, by module."""


def files_run() -> tuple[UserFile, ...]:
    """The files that were run in this process, the first first."""
    return tuple(_RUN.values())


def load_file(path: Path) -> ModuleType:
    """The file as a module: run once, as long as its content is the same."""
    source = _read(path)
    place = hashlib.sha256(f"{path.resolve()} {_checksum(source)}".encode()).hexdigest()[:16]
    return run_again(UserFile(f"{USER_MODULE}{path.stem}_{place}", path.resolve(), source), str(path))


def run_again(file: UserFile, called: str = "") -> ModuleType:
    """The module of a file that was run elsewhere: run once here; `called` is what it is known as. Raises UserError."""
    if file.module in sys.modules:
        return sys.modules[file.module]
    called = called or str(file.path)
    module = ModuleType(file.module)
    module.__file__ = called
    # Classes look up the names in their annotations here.
    sys.modules[file.module] = module
    try:
        exec(compile(file.source, called, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[file.module]
        raise UserError(f"expected {called} to run without an error, got {type(error).__name__}: {error}") from error
    _RUN[file.module] = file
    return module


def _read(path: Path) -> bytes:
    if not os.path.exists(path):
        raise UserError(f"expected a Python file in {path}, which does not exist")
    return read_limited(path, TEXT_BYTES, "a Python file")


def _checksum(source: bytes) -> str:
    return f"sha256:{hashlib.sha256(source).hexdigest()[:16]}"
