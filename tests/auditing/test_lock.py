"""Two processes on one run: the second is told and touches nothing, and the lock dies with its owner."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from robusteval import Images, Run, UserError, run_audit, verify
from robusteval.auditing.together import audit_together
from robusteval.models.making import make_classifier
from robusteval.reports import write_report
from robusteval.reports.pages_again import compare_pages
from robusteval.results.lock import LOCK, locked

PROTOCOL = '[budgets]\nlinf = [0.1]\n[[attacks]]\nmethod = "fgsm"\nnorm = "linf"\n'


class Slow(torch.nn.Sequential):
    """Waits for ever as soon as a file is there."""

    waits = Path("/nowhere")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while self.waits.exists():
            time.sleep(0.02)
        y: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y


def audit(folder: Path, out: Path) -> Run:
    torch.manual_seed(0)
    network = Slow(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    pixels = torch.rand(6, 1, 4, 4)
    images = Images(tuple("abcdef"), pixels, network(pixels).argmax(1), source="made")
    (folder / "small.toml").write_text(PROTOCOL)
    model = make_classifier("slow", network, (1, 4, 4))
    return run_audit(model, images, str(folder / "small.toml"), out, batch_size=2)


@contextmanager
def another(action: Callable[[], object]) -> Iterator[int]:
    """A process of its own, killed in the end."""
    pid = os.fork()
    if not pid:
        try:
            action()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_the_second_is_told_and_touches_nothing_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = out / "parts" / "clean" / "00000.parquet"
    whole = audit(tmp_path, tmp_path / "other")

    def never_ends() -> None:
        Slow.waits = first
        audit(tmp_path, out)

    with another(never_ends) as pid:
        wait_for(first)
        before = content(out)
        with pytest.raises(UserError, match=f"another that is at work in it .process {pid}.") as found:
            audit(tmp_path, out)
        assert "\n" not in str(found.value)
        assert content(out) == before
    assert (out / LOCK).exists(), "left by the one that was killed"
    run = audit(tmp_path, out)
    assert run.manifest.complete
    assert run.table("witnesses").equals(whole.table("witnesses"))
    assert not (out / LOCK).exists()


def test_readers_take_no_offence_at_a_lock(tmp_path: Path) -> None:
    run = audit(tmp_path, tmp_path / "run")
    write_report(run)
    with locked(run.path):
        assert (run.path / LOCK).is_file()
        torch.manual_seed(0)
        model = make_classifier("slow", Slow(torch.nn.Flatten(), torch.nn.Linear(16, 3)), (1, 4, 4))
        assert list(verify(Run.open(run.path), model)) == []
        assert compare_pages(Run.open(run.path)).findings == ()


def test_a_lock_is_for_one_whoever_asks_and_free_after_an_error(tmp_path: Path) -> None:
    def fails() -> None:
        with locked(tmp_path):
            for _ in range(2):
                with pytest.raises(UserError, match="for this audit alone"), locked(tmp_path):
                    raise AssertionError
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_of_many_at_once_one_works_at_a_time(tmp_path: Path) -> None:
    """Each adds 1 to a number whenever it has the lock; none is lost."""
    number = tmp_path / "number"
    number.write_text("0")

    def count() -> None:
        left = 30
        while left:
            try:
                with locked(tmp_path / "run"):
                    found = int(number.read_text())
                    time.sleep(0.001)
                    number.write_text(str(found + 1))
                left -= 1
            except UserError:
                time.sleep(0.0005)

    pids = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            count()
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    assert number.read_text() == "90"


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"\.lock"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_several_models_are_one_audit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    models = [make_classifier(name, network, (1, 4, 4)) for name in ("one", "two")]
    pixels = torch.rand(4, 1, 4, 4)
    images = Images(tuple("abcd"), pixels, network(pixels).argmax(1), source="made")
    (tmp_path / "small.toml").write_text(PROTOCOL)
    with locked(tmp_path / "runs"):
        before = content(tmp_path)
        with pytest.raises(UserError, match="another that is at work"):
            audit_together(models, images, str(tmp_path / "small.toml"), tmp_path / "runs")
        assert content(tmp_path) == before
    ends: list[tuple[str, bool, list[str]]] = []

    def ended(run: Run) -> None:
        ends.append((run.path.name, run.manifest.complete, sorted(p.name for p in run.path.parent.iterdir())))

    runs = audit_together(models, images, str(tmp_path / "small.toml"), tmp_path / "runs", ended=ended)
    assert [run.manifest.complete for run in runs] == [True, True]
    # Each of them before the next one begins, and the lock held.
    assert ends == [("one", True, [LOCK, "one"]), ("two", True, [LOCK, "one", "two"])]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("fails", ["ftruncate", "write"])
def test_where_the_lock_cannot_be_written_it_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, fails, full)
        with pytest.raises(UserError, match=r"\.lock, got: No space left") as found, locked(tmp_path / "run"):
            raise AssertionError
    assert len(os.listdir("/proc/self/fd")) == before, found
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        pass
    assert not list((tmp_path / "run").iterdir())


def test_a_worker_that_outlives_the_one_who_holds_the_lock_does_not_hold_it(tmp_path: Path) -> None:
    """Forked, as the workers of a pool are, while its parent is in the run; the parent is killed."""
    ready, release = os.pipe()

    def holds() -> None:
        with locked(tmp_path / "run"):
            if not os.fork():
                os.write(release, str(os.getpid()).encode())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)

    with another(holds) as pid:
        worker = int(os.read(ready, 20))
        with pytest.raises(UserError, match=f"process {pid}"), locked(tmp_path / "run"):
            raise AssertionError
    try:
        os.kill(worker, 0)
        with locked(tmp_path / "run"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_worker_that_ends_in_order_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    """It comes out of the block, too, and removes nothing."""
    told, tell = os.pipe()
    with another(lambda: works(tmp_path / "run", tell)) as pid:
        assert os.read(told, 1) == b"1"
        assert (tmp_path / "run" / LOCK).exists()
        with pytest.raises(UserError, match=f"process {pid}"), locked(tmp_path / "run"):
            raise AssertionError


def works(folder: Path, tell: int) -> None:
    """Holds a folder, for ever, and says when a worker of it came to its end."""
    with locked(folder):
        worker = os.fork()
        if worker:
            os.waitpid(worker, 0)
            os.write(tell, b"1")
            time.sleep(60)
    os._exit(0)
