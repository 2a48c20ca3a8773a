"""PGD against its floor: the same image evaluations of the bare network, frozen, at its best batch size.

    python benchmarks/pgd_floor.py [CHECKPOINT --data DATA] [--images 512] [--steps 20] [--repeats 7] [--device auto]

Both sides run in turn in one process, and the ratio of each turn is taken, so that the noise of a shared machine hits
both alike. The budget is so small that no image is fooled: every step is taken. A second line shows what dropping
fooled images saves at a budget that breaks most. Without a checkpoint the weights are random (speed is the same).
Exits with 1 if the median ratio is above 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval import open_checkpoint, read_images
from robusteval.attacks.pgd import PGD
from robusteval.auditing.hardware import best_throughput
from robusteval.core.device import choose_device, describe
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

LIMIT = 1.15


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def floor_seconds(classifier: Classifier, images: Images, size: int, steps: int) -> float:
    """`steps` forwards and backwards and one more forward of every image, on the bare network."""
    network, device = classifier.module, images.pixels.device
    wait(device)
    start = time.perf_counter()
    for block in images.pixels.split(size):
        for _ in range(steps):
            x = block.detach().requires_grad_()
            torch.autograd.grad(network(x).sum(), x)
        with torch.no_grad():
            network(block)
    wait(device)
    return time.perf_counter() - start


def pgd_seconds(classifier: Classifier, images: Images, size: int, attack: PGD, budget: float) -> tuple[float, float]:
    """Seconds, and image evaluations (forward) that were made."""
    wait(images.pixels.device)
    start, forwards = time.perf_counter(), 0.0
    for rows in torch.arange(len(images)).split(size):
        view, block = classifier.metered(len(rows)), images.select(rows)
        radii = block.pixels.new_full((len(rows),), budget)
        attack.run(view, block, radii, Streams.for_images(0, "pgd", block.ids, block.pixels))
        forwards += float(view.meter.forwards.sum())
    wait(images.pixels.device)
    return time.perf_counter() - start, forwards


def best_floor_batch(classifier: Classifier, images: Images) -> int:
    """The batch size at which the bare network is fastest, over one pass of the images."""
    sizes = [s for s in (8, 16, 32, 64, 100, 128, 256, 512, 1024) if s <= len(images)]
    times = {s: min(floor_seconds(classifier, images, s, 1) for _ in range(3)) for s in sizes}
    return min(times, key=times.__getitem__)


def centre(network: nn.Module, pixels: Tensor) -> None:
    """Shift the last biases so that random weights choose every class: else no budget fools any image."""
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.sub_(network(pixels[:100]).mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--data")
    parser.add_argument("--arch", default="cnn7-mnist")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    shape = ARCHITECTURES[options.arch].input_shape
    if options.checkpoint:
        images = read_images(options.data, options.images)
        classifier = open_checkpoint(options.checkpoint, options.arch, input_shape=shape)
    else:
        torch.manual_seed(0)
        network = ARCHITECTURES[options.arch].network().eval()
        pixels = torch.rand(options.images, *shape)
        centre(network, pixels)
        classifier = make_classifier("random", network, shape)
        images = Images(tuple(f"{i:05d}" for i in range(options.images)), pixels, torch.zeros(len(pixels)).long())
    classifier, images = classifier.to(device, torch.float32), images.to(device, torch.float32)
    predicted = classifier.predict(images.pixels).argmax(1)
    images = replace(images, labels=predicted)

    own, bare = best_throughput(classifier, device, torch.float32).batch_size, best_floor_batch(classifier, images)
    attack = PGD(norm=Norm.LINF, steps=options.steps)
    print(f"{options.arch} on {describe(device)}: {len(images)} images, {options.steps} steps")
    print(f"batch size: {own} chosen by --batch-size auto, {bare} best for the bare network")
    ratios, drops = [], []
    for _ in range(options.repeats):
        bottom = floor_seconds(classifier, images, bare, options.steps)
        taken, forwards = pgd_seconds(classifier, images, own, attack, 1e-6)
        assert forwards == len(images) * (options.steps + 1), "an image was fooled: the floor is another"
        ratios.append(taken / bottom)
        quick, forwards = pgd_seconds(classifier, images, own, attack, 0.3)
        drops.append((quick / bottom, forwards / (len(images) * (options.steps + 1))))
    ratio = statistics.median(ratios)
    print(f"PGD / floor: median {ratio:.3f} of {[round(r, 3) for r in sorted(ratios)]} (limit {LIMIT})")
    quick, made = (statistics.median(column) for column in zip(*drops, strict=True))
    print(f"at budget 0.3, fooled images dropped: {quick:.3f} of that floor, {made:.3f} of its forwards")
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()
