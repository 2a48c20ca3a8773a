"""The harness of the hostile files sees what it is there to see."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from commands import main
from confining import confined, confined_each


@pytest.fixture
def writable(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_what_stays_inside_is_clean(writable: Path) -> None:
    def action() -> int:
        (writable / "folder").mkdir()
        (writable / "folder" / "a").write_text("x")
        os.replace(writable / "folder" / "a", writable / "b")
        print("said", (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item())
        return 3

    found = confined(action, writable)
    assert found.clean, found
    assert (found.code, found.output.split()[0]) == (3, "said")
    assert (writable / "b").read_text() == "x"


def test_an_exit_code_of_the_command_line(writable: Path) -> None:
    found = confined(lambda: main(["audit", "none.pt", "--data", "none", "--out", writable]), writable)
    assert found.clean, found
    assert found.code == 2
    assert "error: expected a data set" in found.output


@pytest.mark.parametrize("how", ["system", "popen"])
def test_an_execution_is_seen(writable: Path, how: str) -> None:
    act = {"system": lambda: os.system("true"), "popen": lambda: subprocess.run([sys.executable, "-V"]).returncode}
    found = confined(act[how], writable)
    assert len(found.executed) >= 1
    assert not found.clean


def test_writes_outside_are_seen(writable: Path) -> None:
    outside = writable.parent / "escaped"
    (writable / "inside").write_text("")

    def action() -> None:
        outside.write_text("x")
        os.replace(writable / "inside", writable.parent / "moved")
        (writable / ".." / "made").mkdir()
        (writable / "link").symlink_to(outside)
        (writable / "link").write_text("y")

    found = confined(action, writable)
    assert {str(writable.parent / name) for name in ("escaped", "moved", "made")} <= set(found.outside)
    assert found.code == 0


def test_paths_are_those_of_the_folder_they_start_from(writable: Path) -> None:
    """shutil.rmtree removes by the names in an open folder."""
    (writable / "tree" / "a").mkdir(parents=True)
    (writable / "tree" / "b").write_text("")
    found = confined(lambda: shutil.rmtree(writable / "tree"), writable)
    assert found.clean, found
    assert not (writable / "tree").exists()
    (writable.parent / "other").mkdir()
    (writable.parent / "other" / "b").write_text("")
    found = confined(lambda: shutil.rmtree(writable.parent / "other"), writable)
    assert str(writable.parent / "other" / "b") in found.outside


def test_writes_of_native_code_are_seen(writable: Path) -> None:
    path = str(writable.parent / "native")
    found = confined(lambda: torch.from_file(path, shared=True, size=4).fill_(1) is None, writable)
    assert found.outside == (path,)


def test_a_hang_is_ended(writable: Path) -> None:
    found = confined(lambda: time.sleep(60), writable, seconds=0.3)
    assert found.hung
    assert found.seconds < 10
    assert found.code == -9


def test_too_much_memory_is_refused(writable: Path) -> None:
    assert confined(lambda: len(bytearray(10**8)) * 0, writable, megabytes=400).code == 0
    found = confined(lambda: len(bytearray(10**9)) * 0, writable, megabytes=400)
    assert found.code == 1
    assert "MemoryError" in found.output


def test_an_exception_leaves_its_traceback(writable: Path) -> None:
    found = confined(lambda: 1 // 0, writable)
    assert found.code == 1
    assert "Traceback" in found.output
    assert not found.clean


def test_each_action_has_an_outcome_of_its_own(writable: Path) -> None:
    """Also after one that ends the process, and one that never returns."""

    def writes(name: str) -> None:
        print("wrote", name)
        (writable.parent / name).write_text("x")

    native = str(writable.parent / "native")
    found = confined_each(
        {
            "first": lambda: writes("a"),
            "gone": lambda: os._exit(7),
            "native": lambda: torch.from_file(native, shared=True, size=4).fill_(1) is None,
            "hangs": lambda: time.sleep(60),
            "raises": lambda: 1 // 0,
            "runs": lambda: os.system("true"),
            "last": lambda: len(writable.name),
        },
        writable,
        seconds=0.5,
    )
    assert list(found) == ["first", "gone", "native", "hangs", "raises", "runs", "last"]
    assert [outcome.code for outcome in found.values()] == [0, 7, 0, -9, 1, 0, 3]
    assert [name for name, outcome in found.items() if outcome.hung] == ["hangs"]
    assert {name: outcome.outside for name, outcome in found.items() if outcome.outside} == {
        "first": (str(writable.parent / "a"),),
        "native": (native,),
    }
    assert [name for name, outcome in found.items() if outcome.executed] == ["runs"]
    assert found["first"].output == "wrote a\n"
    assert "ZeroDivisionError" in found["raises"].output
    assert not found["last"].output
