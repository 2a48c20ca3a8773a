"""A Ray cluster computes an audit: the same run to the last bit, whatever is killed or lost, and the same errors."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

from chaos import Killer, actors_below, disturbed
from commands import here, in_a_process
from robusteval import Run, audit, read_images, run_audit
from robusteval.auditing.cluster import Room, room
from robusteval.auditing.engines import local
from robusteval.auditing.working import working
from robusteval.models.making import make_classifier
from same_runs import differences
from switching import Bench, bench_in, is_alive, wait_for


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node without a core, which is not lost, and two of one core each, in processes of their own."""
    pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    found = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def bench(cluster: Any, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    told: list[str] = []
    torch.set_num_threads(1)
    with working(None, "cpu", told.append, engine="ray", address=cluster.address) as engine:
        yield bench_in(tmp_path_factory.mktemp("ray"), demo_folder, engine, told)


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Run:
    return bench.audit("alone", local)


@pytest.mark.slow
def test_the_run_is_that_of_one_process(bench: Bench, alone: Run) -> None:
    run = bench.audit("same")
    assert run.manifest.complete
    assert differences(alone, run, pages=False) == []
    assert bench.told == []


def test_a_killed_actor_changes_nothing(bench: Bench, alone: Run) -> None:
    with bench.switched("die once"):
        run = bench.audit("killed")
    assert [line.split(",")[0] for line in bench.told] == [
        "a worker ended with ActorDiedError (its worker process has died)"
    ]
    assert differences(alone, run, pages=False) == []


@pytest.mark.slow
def test_a_shard_that_kills_each_actor_fails_its_method(bench: Bench, alone: Run) -> None:
    with bench.switched("die"):
        run = bench.audit("deadly")
    failed = {s.name: s.reason for s in run.manifest.stages if s.status != "done"}
    assert [*failed] == ["gaussian-noise"]
    assert "shard 00000 of gaussian-noise from a worker, got 3 that ended with ActorDied" in failed["gaussian-noise"]
    assert run.table("witnesses").equals(alone.table("witnesses"))


def test_an_error_reads_as_in_one_process(bench: Bench) -> None:
    with bench.switched("raise"):
        runs = [bench.audit("raises alone", local), bench.audit("raises")]
    one, other = ([(s.name, s.status, s.reason) for s in run.manifest.stages] for run in runs)
    assert one == other
    assert ("gaussian-noise", "failed") in [found[:2] for found in one]
    for run in runs:
        kept = (run.path / "failures" / "gaussian-noise.txt").read_text()
        assert kept.endswith("ValueError: a pixel below zero\n")


def test_a_network_that_only_a_function_knows_is_sent(bench: Bench) -> None:
    class Local(nn.Linear):
        pass

    torch.manual_seed(0)
    model = make_classifier("local", nn.Sequential(nn.Flatten(), Local(64, 10)), (1, 8, 8))
    (bench.folder / "noise.toml").write_text('[[metrics]]\nmethod = "noise"\nsigmas = [0.1]\nsamples = 2\n')
    one, other = (
        run_audit(
            model,
            read_images("digits", 4),
            str(bench.folder / "noise.toml"),
            bench.folder / f"local {name}",
            device="cpu",
            batch_size=2,
            engine=engine,
        )
        for name, engine in (("alone", local), ("ray", bench.engine))
    )
    assert differences(one, other, pages=False) == []


@pytest.mark.slow
def test_a_lost_node_changes_nothing(bench: Bench, cluster: Any, alone: Run) -> None:
    """Its actor waits for another node; the rest goes on without, and nothing that has landed is computed again."""

    def stuck() -> list[int]:
        return [int(path.name.split()[-1]) for path in bench.folder.glob("stuck in *")]

    def lose() -> None:
        try:
            wait_for(lambda: len(stuck()) == 2)
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            # An actor outlives its node by a moment, and would still answer.
            wait_for(lambda: not all(map(is_alive, stuck())))
        finally:
            (bench.folder / "stuck").unlink()

    with bench.switched("stuck"):
        thread = Thread(target=lose)
        thread.start()
        run = bench.audit("lost")
        thread.join()
    cluster.add_node(num_cpus=1)
    assert bench.told
    assert all("is computed again" in line for line in bench.told)
    assert differences(alone, run, pages=False) == []


@pytest.mark.slow
def test_chaos(bench: Bench, tmp_path: Path) -> None:
    """The short one, which kills after every eighth part; benchmarks/chaos.py is the long one, by the clock."""
    killer = Killer(random.Random(0))

    def disturb(landed: int) -> None:
        if landed % 8 == 0:
            killer.kill()

    found = disturbed(bench.engine, tmp_path, images=32, batch=4, disturbing=disturb)
    assert killer.kills >= 4
    assert found.computed >= found.shards
    assert (found.differences, found.twice) == ([], 0)


@pytest.mark.slow
def test_a_cluster_of_its_own_ends_with_a_ctrl_c(bench: Bench, alone: Run) -> None:
    """By the command, which says nothing of Ray's own; another cluster goes on."""
    with bench.switched("slow"):
        command = bench.command("own", "--engine", "ray")
        assert command.stderr is not None
        wait_for(lambda: len(bench.parts("own")) >= 3)
        actors = actors_below(command.pid)
        assert len(actors) == 2
        os.killpg(command.pid, signal.SIGINT)
        said = command.stderr.read()
        assert command.wait() == 130
    assert "Stopped. What was computed is kept" in said
    assert "Traceback" not in said
    assert "ray" not in said.lower()
    for actor in actors:
        wait_for(lambda actor=actor: not is_alive(actor))  # type: ignore[misc]
    landed = bench.parts("own")
    run = bench.audit("own")
    assert landed.items() <= bench.parts("own").items()
    assert differences(alone, run, pages=False) == []


def test_no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    done = here(*words, "--limit", 2, "--out", tmp_path / "run", "--engine", "ray")
    assert done.returncode == 2
    assert "error: expected the package ray for --engine ray, got none: pip install 'robusteval[ray]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_nobody_at_the_address(tmp_path: Path, demo_folder: Path) -> None:
    pytest.importorskip("ray")
    words = ("audit", demo_folder / "digits-standard.safetensors", "--arch", "digits-cnn", "--data", "digits")
    done = in_a_process(*words, "--limit", 2, "--out", tmp_path, "--engine", "ray", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: expected a Ray cluster at --address 127.0.0.1:1, got: ")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"engine": "dask"}, "expected --engine local or ray, got 'dask'"),
        ({"address": "auto"}, "expected --engine ray with --address auto, got local"),
        ({"engine": "ray", "workers": 0}, "expected --workers auto, or of at least 1 and at most 256, got 0"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], error: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match=error):
        audit(network, read_images("digits", 2), out=tmp_path / "run", device="cpu", **settings)


@pytest.mark.parametrize(
    ("nodes", "threads", "gpu", "workers", "expected"),
    [
        ([{"CPU": 8.0}], 2, False, None, Room(4, 2)),
        ([{"CPU": 8.0}, {"CPU": 3.0}, {"memory": 1.0}], 4, False, None, Room(3, 3)),
        ([], 4, False, None, Room(1, 1)),
        ([{"CPU": 8.0}], 8, False, 3, Room(3, 2)),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 8, False, 1, Room(1, 4)),
        ([{"CPU": 2.0}], 1, False, 5, Room(5, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}], 8, True, None, Room(8, 4, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}], 8, True, 2, Room(2, 8, 1)),
    ],
)
def test_room(nodes: list[dict[str, float]], threads: int, gpu: bool, workers: int | None, expected: Room) -> None:
    assert room(nodes, threads, gpu, workers) == expected
