"""Linux, macOS and Windows: what the code takes for granted of a system, and what can be tried of the others on one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import ROOT, in_a_process
from robusteval.core.errors import UserError
from robusteval.results.below import write_below
from robusteval.results.run import Run

FILES = [path for folder in ("robusteval", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
OF_POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
"""Modules that Windows lacks."""
CALLS_OF_POSIX = {"fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "mkfifo", "sysconf", "statvfs", "uname"}
"""Functions of os that Windows lacks."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, dict[str, ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield node, name, {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}


def is_binary(node: ast.Call, named: dict[str, ast.expr]) -> bool:
    modes = [a.value for a in (*node.args[:2], *named.values()) if isinstance(a, ast.Constant)]
    return any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)


def careless(source: str) -> list[str]:
    """Texts read or written in the system's encoding or with its ends of lines, and paths kept with its separators."""
    found = []
    for node, name, named in calls(ast.parse(source)):
        of_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
            "os",
            "Image",
            "gzip",
            "Run",
        )
        opens = name in ("open", "fdopen", "NamedTemporaryFile", "TextIOWrapper") and not of_os
        if (
            opens
            and not is_binary(node, named)
            and "encoding" not in named
            and ast.unparse(node.func) != "members.open"
        ):
            found.append(f"line {node.lineno}: {name} without an encoding")
        if name in ("read_text", "write_text") and "encoding" not in named:
            found.append(f"line {node.lineno}: {name} without an encoding")
        if name == "write_text" and "newline" not in named:
            found.append(f"line {node.lineno}: write_text without a newline")
        if name in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & named.keys() - {"encoding"}:
            found.append(f"line {node.lineno}: {name} of a text without an encoding")
        if name == "str" and node.args and "relative_to(" in ast.unparse(node.args[0]):
            found.append(f"line {node.lineno}: a path below a folder without as_posix()")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "path.write_text(text, encoding='utf-8')",
        "open(path)",
        "path.open('w')",
        "subprocess.run(command, text=True)",
        "str(path.relative_to(folder))",
    ],
)
def test_carelessness_is_found(source: str) -> None:
    assert careless(source)


def test_careful_code_passes() -> None:
    careful = "path.read_text(encoding='utf-8'); open(path, 'rb'); path.open(mode='wb'); os.open(path, flags)"
    assert not careless(careful)


def test_encodings_and_ends_of_lines_are_named() -> None:
    found = [f"{p.relative_to(ROOT)}, {line}" for p in FILES for line in careless(p.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def guarded(tree: ast.AST) -> set[int]:
    """What runs on some systems only: below an `if` that asks for the system or for the function."""
    asked = ("sys.platform", "os.name", "hasattr")
    branches = [n for n in ast.walk(tree) if isinstance(n, ast.If) and any(a in ast.unparse(n.test) for a in asked)]
    return {id(inner) for branch in branches for inner in ast.walk(branch)}


def test_what_windows_lacks_is_used_behind_a_question() -> None:
    found = []
    for path in (ROOT / "robusteval").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        behind = guarded(tree)
        for node in ast.walk(tree):
            if id(node) in behind:
                continue
            names = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
                names |= {node.attr} & CALLS_OF_POSIX
            if names & (OF_POSIX | CALLS_OF_POSIX):
                found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert not found, "\n".join(found)


def illegal(names: list[str]) -> list[str]:
    """Paths that Windows does not take, or that are one where case makes no difference."""
    lower = Counter(name.lower() for name in names)
    return [
        name
        for name in names
        if lower[name.lower()] > 1
        or any(set(part) & set('<>:"|?*\\') or part[-1] in ". " for part in name.split("/"))
        or any(part.split(".")[0].lower() in RESERVED for part in name.split("/"))
    ]


def test_names_of_files_that_windows_does_not_take_are_found() -> None:
    assert illegal(["a/x:y.csv", "a/Table.csv", "a/table.csv", "b/aux.txt", "c./d", "e/fine-8.255.csv"]) == [
        "a/x:y.csv", "a/Table.csv", "a/table.csv", "b/aux.txt", "c./d",
    ]  # fmt: skip


def test_every_system_takes_the_names_of_the_files_of_a_run_and_of_the_code(run: Run, page: str) -> None:
    assert page
    folders = (run.path, ROOT / "robusteval", ROOT / "tests", ROOT / "docs", ROOT / "benchmarks")
    for folder in folders:
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
        assert len(names) > 5
        assert not illegal(names)


@pytest.mark.parametrize(
    "name", ["..\\x", "a\\..\\..\\x", "C:\\x", "C:x", "\\\\server\\share\\x", "\\x", "../x", "/x", ""]
)
def test_no_name_leads_elsewhere_on_windows(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which leads elsewhere"):
        write_below(tmp_path, name, "text")
    assert not list(tmp_path.iterdir())


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A system whose own encoding is not UTF-8: here ASCII, as it is cp1252 on Windows."""


def test_an_audit_where_the_system_knows_ascii_only(
    protocol_file: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for name, environment in (("plain", PLAIN), ("usual", {})):
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            given = ["--arch", "digits-cnn", "--data", "digits", "--limit", "3", "--protocol", protocol_file]
            given += ["--batch-size", "8", "--out", tmp_path / name]
            done = in_a_process("audit", demo_folder / "digits-standard.safetensors", *given)
        assert done.returncode == 0, done.stderr
        assert b"\r" not in (tmp_path / name / "manifest.json").read_bytes()
        tables.append((tmp_path / name / "tables" / "bounds.csv").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_terminal_of_few_characters_gets_the_lists(encoding: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    for words in (["list", "attacks"], ["audit", "--help"]):
        command = [sys.executable, "-m", "robusteval", *words]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)


ON_WINDOWS = """
import errno, os, sys, types
from pathlib import Path
import pandas, pydantic  # what asks the system while it is imported does so before

held = set()

def locking(opened, mode, count):
    place = os.fstat(opened).st_ino
    if place in held:
        raise PermissionError(errno.EACCES, "another has it")
    held.add(place)

sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.platform = "win32"
del os.register_at_fork, os.O_NOFOLLOW

from robusteval.core.errors import UserError
from robusteval.results.lock import locked

with locked(Path("run")):
    try:
        with locked(Path("run")):
            print("twice")
    except UserError as error:
        print(f"{error}")
print(Path("run").exists())
"""


def test_a_run_is_held_on_windows_too(tmp_path: Path) -> None:
    """With what Windows has in the place of fcntl, and without what it lacks."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ON_WINDOWS], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("expected run for this audit alone, got another that is at work in it (process ")
    assert second == "False"
