"""Train an MNIST CNN, standard and with PGD, for audits where the training set of MNIST is not at hand.

    python benchmarks/train_mnist.py IDX_FOLDER OUT [--arch cnn7-mnist] [--standard-epochs 5] [--pgd-epochs 3]
        [--budget 0.1] [--threads 1]

The 10,000 test images are split once by a fixed seed: 8,000 train both networks; the other 2,000 go to
OUT/heldout.npz (x uint8 (2000, 1, 28, 28), y), and the networks to OUT/cnn7-standard.safetensors and
OUT/cnn7-pgd.safetensors (lenet5-... for LeNet-5), each attacked on held-out images. A network that exists is kept and
only attacked again; a heldout.npz of another split is an error, because networks trained beside it may have seen these
images.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robusteval import UserError, open_checkpoint, read_images
from robusteval.attacks.pgd import PGD
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.defenses.adversarial import PGDTraining
from robusteval.defenses.base import Defense
from robusteval.defenses.standard import Standard
from robusteval.models.classifier import Classifier
from robusteval.training.loop import Tick
from robusteval.training.make import make_model
from robusteval.training.recipe import Recipe
from robusteval.training.settings import TrainingSettings

SPLIT_SEED = 20181
HELD_OUT = 2000


def split(images: Images) -> tuple[Images, Images]:
    """Images to train on, and the held-out ones."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return images.select(order[HELD_OUT:]), images.select(order[:HELD_OUT])


def survivors(classifier: Classifier, images: Images, norm: Norm, budget: float) -> Tensor:
    """Which images (N,) are classified correctly and stay so under 20 steps of PGD."""
    right = classifier.predict(images.pixels).argmax(1) == images.labels
    chosen, survived = images.select(right), right.clone()
    streams = Streams.for_images(0, "pgd", chosen.ids, chosen.pixels)
    radii = chosen.pixels.new_full((len(chosen),), budget)
    found = PGD(norm=norm).run(classifier.metered(len(chosen)), chosen, radii, streams)
    survived[right] = classifier.predict(found.examples).argmax(1) == chosen.labels
    return survived


def keep_held_out(file: Path, held_out: Images, networks: list[Path]) -> None:
    """Write the held-out images; where they or networks exist already, make sure that the split is this one."""
    pixels = (held_out.pixels * 255).round().to(torch.uint8).numpy()
    if file.exists():
        with np.load(file) as archive:
            same = np.array_equal(archive["x"], pixels) and np.array_equal(archive["y"], held_out.labels.numpy())
        if not same:
            raise UserError(f"expected the held-out images of this split in {file}, got others")
        return
    orphans = [str(path) for path in networks if path.exists()]
    if orphans:
        raise UserError(f"expected {file} beside {', '.join(orphans)}, got none")
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, x=pixels, y=held_out.labels.numpy())


def train_one(file: Path, arch: str, images: Images, defense: Defense, settings: TrainingSettings) -> None:
    """Train a network and write it, with a line after each epoch."""
    start = time.perf_counter()

    def tell(tick: Tick) -> None:
        if tick.done % (tick.total // settings.epochs) == 0:
            print(f"{file.stem}: {tick.done} of {tick.total} updates, {time.perf_counter() - start:.0f} s", flush=True)

    make_model(Recipe.of(defense, settings), arch, images, file, command=["python", *sys.argv], tell=tell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of MNIST's IDX files")
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", default="cnn7-mnist", help="an architecture for 28x28 grey images, 10 classes")
    parser.add_argument("--standard-epochs", type=int, default=5)
    parser.add_argument("--pgd-epochs", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.1, help="Linf budget of PGD training (7 steps)")
    parser.add_argument("--attacked", type=int, default=200, help="held-out images to attack at the end")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pgd = PGDTraining(norm=Norm.LINF, budget=options.budget, steps=7)
    short = options.arch.removesuffix("-mnist")
    plan: dict[str, tuple[Defense, int]] = {
        f"{short}-standard": (Standard(), options.standard_epochs),
        f"{short}-pgd": (pgd, options.pgd_epochs),
    }
    held_out_file = options.out / "heldout.npz"
    files = {name: options.out / f"{name}.safetensors" for name in plan}
    images = read_images(options.data)
    if len(images) <= HELD_OUT:
        raise UserError(f"expected more than {HELD_OUT} images in {options.data}, got {len(images)}")
    training, held_out = split(images)
    keep_held_out(held_out_file, held_out, list(files.values()))
    attacked = held_out.select(torch.arange(min(options.attacked, HELD_OUT)))
    for name, (defense, epochs) in plan.items():
        if not files[name].exists():
            train_one(files[name], options.arch, training, defense, TrainingSettings(epochs=epochs, normalise=False))
        classifier = open_checkpoint(files[name], options.arch, input_shape=images.shape)
        right = classifier.predict(held_out.pixels).argmax(1) == held_out.labels
        print(f"{name}: accuracy on {len(held_out)} held-out images {right.float().mean():.4f}")
        for norm, budget in ((Norm.LINF, 0.05), (Norm.LINF, 0.1), (Norm.L2, 1.0)):
            share = survivors(classifier, attacked, norm, budget).float().mean()
            print(f"  PGD-20 {norm.symbol} {budget:g}: accuracy {share:.3f} on {len(attacked)} images", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
