"""What the five scripts share: data split once, models trained and audited in processes, options of the command line.

A model is trained as `robusteval train` trains it and audited with the stages of the paper's protocol that its claims
need. Both are kept in OUT, so that a script that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robusteval import Run, open_checkpoint, read_images, read_protocol, run_audit
from robusteval.analysis.by_label import ByLabel
from robusteval.core.images import Images
from robusteval.defenses.base import Batch, Defense
from robusteval.models.architectures import build_network
from robusteval.training.make import make_model
from robusteval.training.recipe import Recipe
from robusteval.training.settings import TrainingSettings

MINUTE = 60
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """A paper's models: their names and defenses, and the options of this run."""

    paper: str
    defenses: Mapping[str, Defense]
    options: argparse.Namespace
    begun: float

    @cached_property
    def images(self) -> tuple[Images, Images]:
        """Those to train on and those to evaluate: other files, or the first and the last of one."""
        o = self.options
        everything = read_images(o.data)
        if o.train_data:
            return read_images(o.train_data, o.training), everything.first(o.images)
        training = everything.first(o.training)
        return training, everything.select(torch.arange(len(everything) - o.images, len(everything)))

    @property
    def facts(self) -> str:
        """Of its size, in words."""
        o, (training, evaluated) = self.options, self.images
        sizes = f"{len(training):,} images of {Path(training.source).name} to train on, {len(evaluated):,} to evaluate"
        return f"{sizes}, {o.epochs} epochs, {o.seeds} seeds, network {Path(o.arch).name}"

    def train(self) -> None:
        """Every model under every seed, in processes of one thread each."""
        work = [(name, seed) for seed in range(self.options.seeds) for name in self.defenses]
        self._spread(_train_one, work, "trained")

    def audit(
        self,
        names: Collection[str],
        labels: Collection[str],
        sources: Mapping[str, Sequence[str]] | None = None,
        part: str = "audit",
    ) -> dict[str, list[ByLabel]]:
        """The runs of some models, by seed, of the stages `labels` of the paper's protocol; `sources` are the models
        that transfer attacks come from, of the same seed."""
        seeds = range(self.options.seeds)
        work = [
            (name, seed, tuple(labels), tuple((sources or {}).get(name, ())), part) for name in names for seed in seeds
        ]
        runs = self._spread(_audit_one, work, f"{part} of")
        return {name: [ByLabel(Run.open(runs[name, seed])) for seed in seeds] for name in names}

    def timed(self, names: Sequence[str], rounds: int = 12) -> dict[str, Numbers]:
        """Seconds of an update of each model on one batch, (rounds,): in turns, so that a noisy machine slows all."""
        torch.set_num_threads(self.options.threads)
        training, generator = self.images[0].first(self.options.batch_size), torch.Generator().manual_seed(0)
        batch = Batch(training.pixels, training.labels, generator)
        networks = {name: build_network(self.options.arch).train() for name in names}
        states = {name: self.defenses[name].begin(networks[name], batch.pixels, generator) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds + 2):
            for name in names:
                begun = time.perf_counter()
                self.defenses[name].backward(networks[name], batch, states[name])
                seconds[name].append(time.perf_counter() - begun)
        return {name: np.array(found[2:]) for name, found in seconds.items()}

    def weights(self, name: str, seed: int) -> Path:
        return Path(self.options.out) / "models" / f"{name}-{seed}.safetensors"

    def minutes(self) -> float:
        """Taken so far, those of runs that were stopped among them; kept in OUT."""
        file = Path(self.options.out) / "minutes"
        before = float(file.read_text(encoding="utf-8")) if file.exists() else 0.0
        total = before + (time.monotonic() - self.begun) / MINUTE
        file.write_text(f"{total:.2f}", encoding="utf-8", newline="\n")
        return total

    def _spread(self, do: Callable[..., Any], work: Sequence[tuple[Any, ...]], what: str) -> dict[tuple[str, int], Any]:
        done: dict[tuple[str, int], Any] = {}
        with ProcessPoolExecutor(self.options.workers) as pool:
            tasks = {pool.submit(do, self, *item): item for item in work}
            for task in as_completed(tasks):
                name, seed = tasks[task][:2]
                done[name, seed] = task.result()
                minutes = (time.monotonic() - self.begun) / MINUTE
                print(f"{minutes:6.1f} min  {what} {name}, seed {seed} ({len(done)} of {len(work)})", flush=True)
        return done


def _train_one(study: Study, name: str, seed: int) -> None:
    torch.set_num_threads(study.options.threads)
    o, defense = study.options, study.defenses[name]
    epochs = max(1, o.epochs // defense.updates)
    settings = TrainingSettings(epochs=epochs, batch_size=o.batch_size, learning_rate=o.learning_rate, seed=seed)
    settings = settings.model_copy(update={"crop": o.crop, "flip": o.flip, "fill": o.fill})
    training, held_out = study.images
    recipe = Recipe.of(defense, settings)
    make_model(recipe, o.arch, training, study.weights(name, seed), test=held_out, device=o.device, command=sys.argv)


def _audit_one(study: Study, name: str, seed: int, labels: Collection[str], sources: Sequence[str], part: str) -> Path:
    torch.set_num_threads(study.options.threads)
    protocol = read_protocol(study.paper)
    kept: dict[str, Any] = {
        kind: tuple(entry for entry in getattr(protocol, kind) if entry.label in labels)
        for kind in ("attacks", "certificates", "metrics")
    }
    missing = set(labels) - {entry.label for entries in kept.values() for entry in entries}
    if missing:
        raise SystemExit(f"expected stages of {study.paper}, got {', '.join(sorted(missing))}")
    _, images = study.images

    def opened(model: str) -> Any:
        path = study.weights(model, seed)
        return open_checkpoint(path, study.options.arch, input_shape=images.shape)

    out = Path(study.options.out) / part / f"{name}-{seed}"
    run_audit(
        opened(name),
        images,
        replace(protocol, **kept, calibration=None),
        out,
        sources=[opened(source) for source in sources],
        seed=0,
        device=study.options.device,
        batch_size=100,
    )
    return out


def options(doc: str, **defaults: Any) -> argparse.Namespace:
    """The options that every script has; `defaults` are the script's own."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", required=True, help="a data set; without --train-data its first images are trained on"
    )
    parser.add_argument("--train-data", help="a data set to train on, such as FOLDER:train")
    parser.add_argument("--training", type=int, help="how many images to train on")
    parser.add_argument("--images", type=int, help="how many images to evaluate, the last of --data")
    parser.add_argument("--arch", help="the network, as for robusteval train")
    parser.add_argument("--epochs", type=int, help="free training takes an m-th of them")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--fill", type=float, default=0.0)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--out", type=Path, help="folder of models and runs")
    parser.add_argument("--page", type=Path, help="a Markdown page whose last section, 'What came out', is rewritten")
    known = {action.dest for action in parser._actions}
    for name in defaults.keys() - known:
        switch = isinstance(defaults[name], bool)
        kind: dict[str, Any] = {"action": "store_true"} if switch else {"type": type(defaults[name])}
        parser.add_argument(f"--{name.replace('_', '-')}", **kind)
    parser.set_defaults(**defaults)
    return parser.parse_args()


def small(**more: Any) -> dict[str, Any]:
    """The size that two cores do: 8,000 images of MNIST's test set to train on, 200 of the other 2,000 to evaluate."""
    arch = f"{Path(__file__).with_name('networks.py')}:small_mnist"
    size = {"training": 8000, "images": 200, "epochs": 8, "batch_size": 100, "learning_rate": 1e-3, "seeds": 3}
    return {"arch": arch, **size, **more}


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def command() -> str:
    """This command, without the folders of this machine."""
    return shlex.join(["python", *(Path(a).name if os.path.isabs(a) else a for a in sys.argv)])
