"""Every block of the tutorials, run in its order in an empty folder: `make site`.

A Python or TOML block whose first line is `# NAME` is the file of that name; other Python runs, each page in a
namespace of its own; the commands of a console block run in this process, and what is shown below one must be what it
prints.
"""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import here

PAGES = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w-]+\.\w+)\n")


def run_console(text: str) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        program, *words = shlex.split(command)
        assert program == "robusteval"
        done = here(*words)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert doctest.OutputChecker().check_output(shown, done.stdout, doctest.ELLIPSIS), f"{command}\n{done.stdout}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_tutorial(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    names: dict[str, Any] = {}
    blocks = _BLOCK.findall(path.read_text(encoding="utf-8"))
    assert len(blocks) > 3
    for language, text in blocks:
        assert language in ("python", "toml", "console"), f"a block of {path.name} that nothing runs: {language}"
        if file := _FILE.match(text):
            Path(file[1]).write_text(text, encoding="utf-8")
        elif language == "console":
            run_console(text)
        else:
            assert language == "python", f"a TOML block of {path.name} without a file's name"
            exec(compile(text, path.name, "exec"), names)
    for name in set(sys.modules) - modules:
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def test_there_are_tutorials() -> None:
    assert {"own-model", "paper-table", "certification", "adding-an-attack"} <= {path.stem for path in PAGES}
