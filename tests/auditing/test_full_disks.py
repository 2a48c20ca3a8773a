"""A disk that is full, a directory that is read-only: one line, nothing lost, no method that failed, and the same
command continues."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from commands import here
from confining import confined
from robusteval import Run
from robusteval.results.tables import TABLES

PROTOCOL = """
[budgets]
linf = [0.1]
[[attacks]]
method = "fgsm"
norm = "linf"
[[certificates]]
method = "smoothing"
sigma = 0.25
n0 = 10
n = 20
"""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)


@pytest.fixture(scope="module")
def command(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("protocol")
    (folder / "small.toml").write_text(PROTOCOL)
    return [
        *("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits"),
        *("--limit", 8, "--batch-size", 5, "--protocol", folder / "small.toml", "--out"),
    ]


@pytest.fixture(scope="module")
def whole(command: list[object], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert here(*command, out).returncode == 0
    return Run.open(out)


def assert_one_line_and_continued(command: list[object], out: Path, whole: Run, done: Any) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error:")]
    assert "what was computed is kept, and the same command continues" in line
    assert "Traceback" not in done.stderr
    if (out / "manifest.json").exists():
        assert not Run.open(out).manifest.failed
    assert not list(out.rglob("*.tmp"))
    assert here(*command, out).returncode == 0
    for name in TABLES:
        pd.testing.assert_frame_equal(Run.open(out).table(name), whole.table(name), check_exact=True)


@pytest.mark.parametrize("number", range(len(FULL)), ids=[errno.errorcode[n] for n in FULL])
def test_a_write_that_fails_is_one_line(
    command: list[object], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """At another write each time."""
    replace, left = os.replace, [2 + 5 * number]

    def full(one: Any, other: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(FULL[number], os.strerror(FULL[number]))
        replace(one, other)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        done = here(*command, out)
    assert os.strerror(FULL[number]) in done.stderr
    assert_one_line_and_continued(command, out, whole, done)


@pytest.mark.parametrize("most", [500, 3000, 12_000])
def test_a_disk_that_takes_so_many_bytes(command: list[object], whole: Run, tmp_path: Path, most: int) -> None:
    """By the system itself: no file grows beyond a limit, whichever library writes it."""
    out = tmp_path / "run"

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        done = here(*command, out)
        (tmp_path / "said").write_text(f"{done.returncode}\n{done.stderr}"[:most])
        return done.returncode

    outcome = confined(limited, tmp_path)
    said = (tmp_path / "said").read_text()
    assert outcome.code == 2, said
    assert "error: expected to write" in said
    assert "Traceback" not in said
    assert here(*command, out).returncode == 0
    for name in TABLES:
        pd.testing.assert_frame_equal(Run.open(out).table(name), whole.table(name), check_exact=True)


def read_only(folder: Path) -> None:
    os.chmod(folder, 0o500)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


@pytest.mark.parametrize("made", [read_only, a_file], ids=lambda m: m.__name__)
def test_a_folder_that_cannot_be_written_is_one_line(
    command: list[object], whole: Run, tmp_path: Path, made: Callable[[Path], None]
) -> None:
    if made is read_only and os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    out = tmp_path / "run"
    (out / "parts").mkdir(parents=True)
    shutil.copytree(whole.path, out, dirs_exist_ok=True)
    shutil.rmtree(out / "parts" / "fgsm-linf")
    (out / "parts" / "fgsm-linf").mkdir()
    made(out / "parts" / "fgsm-linf")
    done = here(*command, out)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), OSError(errno.ENOSPC, "full")],
    ids=["memory", "cuda", "disk"],
)
def test_a_machine_that_fails_outside_of_any_stage_is_one_line(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("robusteval.auditing.session.open_or_create", fails)
    done = here(*command, tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.count("error: expected enough memory and disk, got: ") == 1
    assert "the same command continues" in done.stderr
