"""Several processes share an audit: the same run to the last bit, whoever is killed, and the same errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from commands import here
from robusteval import Run, read_images, run_audit
from robusteval.auditing.engines import local
from robusteval.auditing.working import working
from robusteval.core.errors import UserError
from robusteval.core.user_code import load_named
from robusteval.models.making import make_classifier
from same_runs import differences
from switching import Bench, bench_in, children, is_alive, wait_for


@pytest.fixture(scope="module")
def bench(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    told: list[str] = []
    torch.set_num_threads(1)
    with working(2, "cpu", told.append) as engine:
        yield bench_in(tmp_path_factory.mktemp("workers"), demo_folder, engine, told)


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Run:
    return bench.audit("alone", local)


def test_a_killed_worker_changes_nothing(bench: Bench, alone: Run) -> None:
    with bench.switched("die once"):
        run = bench.audit("killed")
    assert [line.split(",")[0] for line in bench.told] == ["a worker ended by signal 9 (SIGKILL)"]
    assert run.manifest.complete
    assert differences(alone, run, pages=False) == []


@pytest.mark.slow
def test_a_shard_that_kills_each_worker_fails_its_method(bench: Bench, alone: Run) -> None:
    with bench.switched("die"):
        run = bench.audit("deadly")
    failed = {s.name: s.reason for s in run.manifest.stages if s.status != "done"}
    assert [*failed] == ["gaussian-noise"]
    assert (
        "expected shard 00000 of gaussian-noise from a worker, got 3 that ended by signal 9" in failed["gaussian-noise"]
    )
    assert run.table("witnesses").equals(alone.table("witnesses"))


def test_an_error_reads_as_in_one_process(bench: Bench) -> None:
    with bench.switched("raise"):
        runs = [bench.audit("raises alone", local), bench.audit("raises")]
    one, other = ([(s.name, s.status, s.reason) for s in run.manifest.stages] for run in runs)
    assert one == other
    assert ("gaussian-noise", "failed") in [found[:2] for found in one]
    for run in runs:
        kept = (run.path / "failures" / "gaussian-noise.txt").read_text()
        assert kept.startswith("Traceback")
        assert kept.endswith("ValueError: a pixel below zero\n")


@pytest.mark.slow
def test_an_audit_that_is_killed_or_stopped_goes_on(bench: Bench, alone: Run) -> None:
    landed: dict[Path, int] = {}
    with bench.switched("slow"):
        for number in (signal.SIGKILL, signal.SIGINT):
            audit = bench.command("stopped")
            assert audit.stderr is not None
            enough = len(landed) + 2
            wait_for(lambda enough=enough: len(bench.parts("stopped")) >= enough)  # type: ignore[misc]
            workers = children(audit.pid)
            assert len(workers) >= 2
            # The terminal sends a Ctrl-C to all.
            (os.kill if number == signal.SIGKILL else os.killpg)(audit.pid, number)
            said = audit.stderr.read()
            assert audit.wait() == (130 if number == signal.SIGINT else -number)
            assert "Traceback" not in said
            assert ("Stopped. What was computed is kept" in said) == (number == signal.SIGINT)
            for worker in workers:
                wait_for(lambda worker=worker: not is_alive(worker))  # type: ignore[misc]
            assert landed.items() <= bench.parts("stopped").items()
            landed = bench.parts("stopped")
    run = bench.audit("stopped")
    assert landed.items() <= bench.parts("stopped").items()
    assert differences(alone, run, pages=False) == []


def test_a_file_that_is_run_when_workers_are_at_work_is_known_to_them(bench: Bench, tmp_path: Path) -> None:
    bench.audit("before")  # they have started by now
    source = "from torch import nn\n\nclass Later(nn.Linear):\n    pass\n"
    (tmp_path / "later.py").write_text(source, encoding="utf-8")
    layer = load_named(tmp_path / "later.py", "Later", "class")
    model = make_classifier("later", nn.Sequential(nn.Flatten(), layer(64, 10)), (1, 8, 8))
    protocol = bench.folder / "ibp.toml"
    protocol.write_text('certificates = [{method = "ibp", norm = "linf"}]', encoding="utf-8")
    run = run_audit(
        model,
        read_images("digits", 4),
        str(protocol),
        tmp_path / "run",
        batch_size=2,
        device="cpu",
        engine=bench.engine,
    )
    assert run.manifest.complete


def test_what_cannot_be_sent_is_said(bench: Bench) -> None:
    class Local(nn.Linear):
        pass

    model = make_classifier("local", nn.Sequential(nn.Flatten(), Local(64, 10)), (1, 8, 8))
    with pytest.raises(UserError, match="expected what --workers can send to other processes, got the model local: "):
        run_audit(model, read_images("digits", 4), "quick", bench.folder / "local", device="cpu", engine=bench.engine)


@pytest.mark.parametrize("workers", ["0", "-1", "257"])
def test_numbers_of_workers(workers: str, demo_folder: Path, tmp_path: Path) -> None:
    words = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    done = here(*words, "--limit", 2, "--batch-size", 2, "--out", tmp_path / "run", "--workers", workers)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: expected --workers auto, or of at least 1 and at most 256, got {workers}" in done.stderr
