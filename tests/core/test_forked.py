"""Work spread over forked processes: all of it, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from robusteval.core import forked
from robusteval.core.forked import on_all_cores

linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux forks here")


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_cores", lambda: 3)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 2500])
def test_each_item_is_computed_once(count: int) -> None:
    found = list(on_all_cores(lambda x: x * x, range(count)))
    assert sorted(found) == [(i, i * i) for i in range(count)]


@linux
def test_several_processes_do_it_and_none_is_left() -> None:
    def process(_: int) -> int:
        time.sleep(0.05)
        return os.getpid()

    pids = {pid for _, pid in on_all_cores(process, range(9))}
    assert len(pids) == 3
    assert os.getpid() not in pids
    assert not any(map(is_there, pids))


def test_results_larger_than_a_pipe() -> None:
    found = dict(on_all_cores(lambda n: bytes([n]) * 10**6, range(6)))
    assert all(found[n] == bytes([n]) * 10**6 for n in range(6))


@linux
def test_what_a_killed_process_leaves_is_computed_here() -> None:
    here = os.getpid()

    def compute(i: int) -> int:
        if i == 4 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return -i

    assert sorted(on_all_cores(compute, range(10))) == [(i, -i) for i in range(10)]


def test_an_error_is_raised_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        list(on_all_cores(lambda i: 1 // (i - 5), range(10)))
    assert capfd.readouterr() == ("", "")


@linux
def test_who_takes_no_more_leaves_no_process(tmp_path: Path) -> None:
    def process(i: int) -> int:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60 * (i > 0))
        return i

    results = on_all_cores(process, range(3))
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert pids
    assert not any(map(is_there, pids))


@linux
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """However that ends: their next result finds no reader."""
    pid = os.fork()
    if not pid:

        def process(_: int) -> None:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(0.1)

        for _ in on_all_cores(process, range(1000)):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    until = time.monotonic() + 10
    while time.monotonic() < until and any(is_there(int(path.name)) for path in tmp_path.iterdir()):
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir() if is_there(int(path.name))] == []


def is_there(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
