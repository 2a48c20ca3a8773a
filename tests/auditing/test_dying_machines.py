"""What a dying machine leaves: the same command computes what is damaged again, and ends with the same tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from robusteval import Run, UserError, run_audit, verify
from robusteval.core.images import Images
from robusteval.core.progress import Silent
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier
from robusteval.results.atomic import atomically
from robusteval.results.tables import TABLES

PROTOCOL = """
[budgets]
linf = [0.05, 0.2]
[[attacks]]
method = "fgsm"
norm = "linf"
[[attacks]]
method = "deepfool"
norm = "l2"
[[certificates]]
method = "smoothing"
sigma = 0.25
n0 = 10
n = 20
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 3
[[metrics]]
method = "operator-norm"
"""
BATCH = 5


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def images() -> Images:
    torch.manual_seed(3)
    pixels = torch.rand(12, 1, 4, 4).round()
    return Images(tuple(f"i{k:02d}" for k in range(12)), pixels, network()(pixels).argmax(1), source="made")


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    last = torch.nn.Linear(8, 3)
    last.weight.data *= 10
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), last)


def model(module: torch.nn.Module | None = None) -> Classifier:
    return make_classifier("small", module or network(), (1, 4, 4))


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("protocol") / "small.toml"
    path.write_text(PROTOCOL)
    return str(path)


@pytest.fixture(scope="module")
def finished(images: Images, protocol: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_audit(model(), images, protocol, tmp_path_factory.mktemp("a") / "run", batch_size=BATCH)


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(finished.path, tmp_path / "run"))


def assert_same(one: Run, other: Run, names: tuple[str, ...] = tuple(TABLES)) -> None:
    for name in names:
        pd.testing.assert_frame_equal(one.table(name), other.table(name), check_exact=True)


def unfinished(run: Run) -> None:
    """As a kill before the end leaves a run: no tables, nothing sealed."""
    shutil.rmtree(run.path / "tables")
    run.updated(evidence={}, status="incomplete", finished=None)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_table(path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(path)


DAMAGES: tuple[Callable[[Path], object], ...] = (Path.unlink, empty, cut, flip)


@pytest.mark.parametrize("sealed", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_every_damaged_file_is_computed_again(
    finished: Run, copy: Run, images: Images, protocol: str, damage: Callable[[Path], object], sealed: bool
) -> None:
    """One file of every kind in every stage, all at once."""
    if not sealed:
        unfinished(copy)
    names = sorted(finished.manifest.evidence)
    hurt = {(Path(name).parent, *Path(name).suffixes): name for name in names}
    assert len(hurt) > 8
    for name in hurt.values():
        damage(copy.path / name)
    told = Told()
    again = run_audit(model(), images, protocol, copy.path, batch_size=BATCH, progress=told)
    assert told.warnings
    assert_same(finished, again)
    assert set(again.manifest.evidence) == set(names)
    assert list(verify(again, model())) == []


@pytest.mark.parametrize("damage", [empty, cut, another_table])
def test_a_damaged_table_is_put_together_again(
    finished: Run, copy: Run, images: Images, protocol: str, damage: Callable[[Path], object]
) -> None:
    for path in copy.path.glob("tables/*.parquet"):
        damage(path)
    assert_same(finished, run_audit(model(), images, protocol, copy.path, batch_size=BATCH))


def test_what_is_whole_is_not_computed_again(copy: Run, images: Images, protocol: str) -> None:
    hurt = copy.array_file("fgsm-linf", "00001")
    cut(hurt)
    before = {p: p.stat().st_mtime_ns for p in copy.evidence()}
    told = Told()
    run = run_audit(model(), images, protocol, copy.path, batch_size=BATCH, progress=told)
    assert [w for w in told.warnings if "damaged" in w] == [
        "witnesses/fgsm-linf/00001.safetensors is missing or damaged, it is computed again"
    ]
    changed = {p for p in run.evidence() if p.stat().st_mtime_ns != before[p]}
    assert changed == {hurt, copy.part("fgsm-linf", "00001")}


def test_a_file_that_no_shard_left_does_not_enter_the_tables(
    finished: Run, copy: Run, images: Images, protocol: str
) -> None:
    """What a shard wrote before it was killed, and does not write when it is computed again."""
    unfinished(copy)
    stray = copy.part("fgsm-linf", "00001", "measurements")
    shutil.copy(copy.part("gaussian-noise", "00001"), stray)
    assert_same(finished, run_audit(model(), images, protocol, copy.path, batch_size=BATCH))
    assert not stray.exists()


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"format": 4}', "\0" * 100])
def test_a_damaged_manifest_is_one_line_with_the_next_step(copy: Run, images: Images, protocol: str, text: str) -> None:
    (copy.path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"audit (the model again|into another directory)") as found:
        run_audit(model(), images, protocol, copy.path, batch_size=BATCH)
    assert "\n" not in str(found.value)


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_dead_processes_left_is_removed_and_what_live_ones_write_is_not(
    finished: Run, copy: Run, images: Images, protocol: str, tmp_path: Path
) -> None:
    dead, beside = dead_process(), tmp_path / "mine.1.tmp"
    left = [f"manifest.json.{dead}.tmp", f"parts/clean/00000.parquet.{dead}.tmp", f"figures/a.svg.{os.getpid()}.tmp"]
    kept = [f"report.html.{os.getppid()}.tmp", "notes.tmp", "a.b.tmp"]
    for name in [*left, *kept]:
        (copy.path / name).parent.mkdir(exist_ok=True)
        (copy.path / name).write_text("half")
    beside.write_text("half")
    assert_same(finished, run_audit(model(), images, protocol, copy.path, batch_size=BATCH))
    assert not [name for name in left if (copy.path / name).exists()]
    assert all((copy.path / name).exists() for name in kept)
    assert beside.exists()


def test_a_kill_before_the_first_manifest_stops_nothing(
    finished: Run, images: Images, protocol: str, tmp_path: Path
) -> None:
    (tmp_path / f"manifest.json.{dead_process()}.tmp").write_text("{")
    (tmp_path / ".lock").write_text("1")
    assert_same(finished, run_audit(model(), images, protocol, tmp_path, batch_size=BATCH))
    assert not list(tmp_path.glob("*.tmp"))


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, fsync = os.replace, os.fsync

    def flushed(opened: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{opened}"))
        fsync(opened)

    def renamed(one: Path, other: Path) -> None:
        done.append("renamed")
        replace(one, other)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    atomically(tmp_path / "a", lambda temporary: temporary.write_text("x"))
    assert done == [str(tmp_path / f"a.{os.getpid()}.tmp"), "renamed", str(tmp_path)]


class Small(torch.nn.Sequential):
    """A network for which memory suffices for so many images; what the error is differs from device to device."""

    most: int = 10**9
    error: BaseException = MemoryError()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise self.error
        y: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y


ERRORS = {
    "python": MemoryError(),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
}


@pytest.mark.parametrize(("kind", "most"), [("python", 1), ("cpu", 2), ("cuda", 4)])
def test_out_of_memory_halves_the_batch_and_changes_no_result(
    images: Images, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, most: int
) -> None:
    opened = model(Small(*network().children()))
    whole = run_audit(opened, images, protocol, tmp_path / "whole", batch_size=BATCH, dtype="float64")
    monkeypatch.setattr(Small, "most", most)
    monkeypatch.setattr(Small, "error", ERRORS[kind])
    told = Told()
    run = run_audit(opened, images, protocol, tmp_path / "run", batch_size=BATCH, dtype="float64", progress=told)
    assert [s.status for s in run.manifest.stages] == [s.status for s in whole.manifest.stages]
    sizes = [w for w in told.warnings if w.startswith("out of memory in ")]
    assert len(sizes) == {4: 1, 2: 1, 1: 2}[most]
    assert sizes[0].endswith(": from here on 2 images at a time")
    for name in TABLES:
        pd.testing.assert_frame_equal(run.table(name), whole.table(name), rtol=1e-9, atol=1e-9)
    assert run.manifest.batch_size == BATCH
    monkeypatch.setattr(Small, "most", 10**9)
    assert list(verify(run, opened)) == []


def test_without_memory_for_one_image_a_line_says_so_and_the_same_command_goes_on(
    images: Images, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = model(Small(*network().children()))
    whole = run_audit(opened, images, protocol, tmp_path / "whole", batch_size=BATCH)
    monkeypatch.setattr(Small, "most", 0)
    with pytest.raises(UserError, match="expected an answer of small to every image") as found:
        run_audit(opened, images, protocol, tmp_path / "run", batch_size=BATCH)
    assert "\n" not in str(found.value)
    monkeypatch.setattr(Small, "most", 10**9)
    run = run_audit(opened, images, protocol, tmp_path / "run", batch_size=BATCH)
    assert_same(whole, run)
