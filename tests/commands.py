"""The command line as the tests call it: in a process of its own, or in this one, which spares seconds of imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner

from robusteval.cli.app import app

ROOT = Path(__file__).parents[1]
WIDE = {"COLUMNS": "200"}
"""Nothing is broken into lines."""


def in_a_process(
    *arguments: object, folder: Path | None = None, path: Path | str = ""
) -> subprocess.CompletedProcess[str]:
    """As a user meets it, in `folder`; `path` are more folders of packages."""
    folders = os.pathsep.join(map(str, (ROOT, *([path] if path else []))))
    command = [sys.executable, "-m", "robusteval", *map(str, arguments)]
    environment = os.environ | WIDE | {"PYTHONPATH": folders}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In this process; an exception that would be a traceback is raised."""
    words = [str(argument) for argument in arguments]
    done = CliRunner(env=WIDE).invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def main(arguments: Sequence[object]) -> int:
    """In this process, with its own stdout and stderr, as the console script does; the exit code."""
    try:
        app([str(argument) for argument in arguments], prog_name="robusteval")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
