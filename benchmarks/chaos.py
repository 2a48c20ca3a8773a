"""An audit on a Ray cluster whose workers are killed at random, every few seconds: the run must be that of one process,
and nothing that has landed may be computed again.

    python benchmarks/chaos.py --images 400 --batch 10 --seed 0

A cluster on this machine, one worker a core, one thread each. Each worker writes down when it begins a shard; this
process, when its part has been written. A worker takes seconds to start, and a shard on which three die fails its
method: kill less often where a shard takes seconds, too. Linux.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402

from robusteval import Run, open_checkpoint, read_images, run_audit  # noqa: E402
from robusteval.auditing.engines import Engine, Result, Work, local  # noqa: E402
from robusteval.auditing.stages.base import Context, Shard, Stage  # noqa: E402
from robusteval.auditing.stages.part import Part  # noqa: E402
from robusteval.auditing.working import working  # noqa: E402
from robusteval.core.methods import Step  # noqa: E402
from robusteval.models.extras import imported  # noqa: E402
from same_runs import differences  # noqa: E402
from switching import children  # noqa: E402

PROTOCOL = """
[budgets]
linf = [0.1]
l2 = [0.5]
[[attacks]]
method = "pgd"
norm = "linf"
steps = 100
[[attacks]]
method = "pgd"
norm = "l2"
steps = 100
[[metrics]]
method = "noise"
sigmas = [0.1]
samples = 100
[[certificates]]
method = "smoothing"
norm = "l2"
sigma = 0.25
n0 = 100
n = 200
"""


@dataclass(frozen=True)
class Found:
    """How it ended. shards: those of the run; computed: how often one was begun; twice: how often one was begun after
    its part had landed; seconds: in one process, and on the cluster."""

    shards: int
    computed: int
    twice: int
    differences: list[str]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Noted:
    """A stage that writes down when a shard begins, in seconds of the machine's clock that nobody sets."""

    stage: Stage
    log: Path

    @property
    def name(self) -> str:
        return self.stage.name

    def batches(self, shard: Shard, size: int) -> Iterator[Shard]:
        return self.stage.batches(shard, size)

    def compute(self, context: Context, shard: Shard, step: Step) -> Part:
        with self.log.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([self.name, shard.name, time.monotonic()]) + "\n")
        return self.stage.compute(context, shard, step)

    def joined(self, parts: Sequence[Part]) -> Part:
        return self.stage.joined(parts)


class Killer:
    """Kills one of the actors that work for this process, whenever it is told to."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.kills = draw, 0

    def kill(self) -> None:
        if actors := actors_below(os.getpid()):
            os.kill(self.draw.choice(actors), signal.SIGKILL)
            self.kills += 1

    @contextmanager
    def every(self, least: float, most: float) -> Iterator[None]:
        """Within, one dies every so many seconds."""
        ended = Event()

        def go_on() -> None:
            while not ended.wait(self.draw.uniform(least, most)):
                self.kill()

        thread = Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def disturbed(
    engine: Engine, folder: Path, images: int, batch: int, disturbing: Callable[[int], None] = lambda landed: None
) -> Found:
    """Audit so many images in this process, and by an engine of Ray whose workers somebody kills: `disturbing` is told
    how many parts have landed."""
    log, landed = folder / "begun.jsonl", dict[tuple[str, str], float]()
    (folder / "p.toml").write_text(PROTOCOL, encoding="utf-8", newline="\n")

    def noting(work: Work, shards: Iterable[Shard], step: Step) -> Iterator[Result]:
        noted: Any = Noted(work.stage, log)
        for result in engine(Work(noted, work.context), shards, step):
            yield result
            landed[work.stage.name, result.shard.name] = time.monotonic()  # asked for the next, it has written this
            disturbing(len(landed))

    imported("ray.cloudpickle", "ray", "for chaos").register_pickle_by_value(sys.modules[__name__])
    began = time.monotonic()
    alone = _audit(folder, "alone", images, batch, local)
    between = time.monotonic()
    run = _audit(folder, "disturbed", images, batch, noting)
    ended = time.monotonic()
    begun = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return Found(
        shards=len(landed),
        computed=len(begun),
        twice=sum(at > landed.get((stage, shard), math.inf) for stage, shard, at in begun),
        differences=differences(alone, run, pages=False),
        seconds=(between - began, ended - between),
    )


def actors_below(process: int) -> list[int]:
    """The processes of the actors that work for one, by the names that Ray gives them."""
    found = []
    for child in children(process):
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes()
            found += [child] if name.startswith(b"ray::Computing") else actors_below(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(found)


def _audit(folder: Path, name: str, images: int, batch: int, engine: Engine) -> Run:
    data = read_images("digits", images)
    weights = ROOT / "robusteval" / "demo" / "digits-standard.safetensors"
    model = open_checkpoint(str(weights), "digits-cnn", input_shape=data.shape)
    protocol, out = str(folder / "p.toml"), folder / name
    return run_audit(model, data, protocol, out, batch_size=batch, device="cpu", limit=images, engine=engine)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--every", type=float, nargs=2, default=(3.0, 8.0), help="seconds, at least and at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    told, killer = list[str](), Killer(random.Random(given.seed))
    with (
        TemporaryDirectory(prefix="chaos") as place,
        working(None, "cpu", told.append, engine="ray") as engine,
        killer.every(*given.every),
    ):
        found = disturbed(engine, Path(place), given.images, given.batch)
    for line in (*told, *found.differences):
        print(line)
    print(
        f"{found.shards} shards, {killer.kills} kills, {found.computed - found.shards} shards lost under way and "
        f"computed again, {found.twice} computed again after they had landed, {len(found.differences)} differences; "
        f"{found.seconds[0]:.0f} s in one process, {found.seconds[1]:.0f} s on the cluster"
    )
    return 1 if found.differences or found.twice else 0


if __name__ == "__main__":
    sys.exit(main())
