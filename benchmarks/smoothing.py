"""Randomized smoothing against the bare forward passes that it makes, and sequential against fixed numbers of samples.

    python benchmarks/smoothing.py DATA MODEL DECIDED [--arch cnn7-mnist] [--decided-arch lenet5] [--sigma 0.25]

On MODEL, in turn and by the median ratio of the turns: the network alone on as many noisy images, at its best batch;
our `smoothing` at that batch, and at the one that an audit measures for itself; and the loop of Cohen et al. (2019):
batches of 400 copies of one image, torch.randn_like, argmax, a count in numpy, with the network as its users load it.
On DECIDED: which images are certified at radius sigma, by `smoothing` with n = 10,000 and by `smoothing-sequential` at
the same alpha, and the samples that each drew, those that choose the class included.
Exits with 1 if ours takes more than 1.1 of the forward passes, or if the sequential certificate saves less than a
factor of 10 or loses an image.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from measuring import arguments, open_model, trainable
from robusteval import read_images
from robusteval.auditing.hardware import best_throughput
from robusteval.certify.base import Certificate, Radii
from robusteval.certify.smoothing.fixed import Smoothing
from robusteval.certify.smoothing.sequential import SmoothingSequential
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

LIMIT, SAVING = 1.1, 10.0


def bare_seconds(classifier: Classifier, candidates: torch.Tensor, size: int) -> float:
    """The network alone on images that are there, `size` at a time."""
    start = time.perf_counter()
    with torch.no_grad():
        for batch in candidates.split(size):
            classifier.module(batch)
    return time.perf_counter() - start


def best_size(classifier: Classifier, candidates: torch.Tensor) -> int:
    """The batch at which the network alone is fastest."""
    sizes = (8, 16, 32, 64, 128, 256, 512, 1024)
    seconds = {size: min(bare_seconds(classifier, candidates, size) for _ in range(3)) for size in sizes}
    return min(seconds, key=seconds.__getitem__)


def cohen_counts(classifier: Classifier, image: torch.Tensor, sigma: float, n: int) -> NDArray[np.int64]:
    """The votes on one image as the paper's program takes them."""
    counts = np.zeros(classifier.num_classes, dtype=np.int64)
    with torch.no_grad():
        for done in range(0, n, 400):
            batch = image.repeat((min(400, n - done), 1, 1, 1))
            named = classifier.module(batch + torch.randn_like(batch) * sigma).argmax(1)
            counts += np.bincount(named.numpy(), minlength=classifier.num_classes)
    return counts


def certify(certificate: Certificate, classifier: Classifier, images: Images) -> tuple[Radii, float, float]:
    """Radii, seconds, and samples of an image on average."""
    view = classifier.metered(len(images))
    start = time.perf_counter()
    radii = certificate.radii(view, images, (), Streams.for_images(0, certificate.name, images.ids, images.pixels))
    return radii, time.perf_counter() - start, float(view.meter.forwards.mean())


def speed(name: str, classifier: Classifier, images: Images, sigma: float, n: int, repeats: int) -> float:
    """Our seconds over those of the bare forward passes, at the batch at which these are fastest."""
    # As noisy as those that it makes: max-pooling and ReLU take longer on them than on the same batch again and again.
    noisy = images.pixels.repeat_interleave(100 + n, dim=0)
    noisy += sigma * torch.randn_like(noisy)
    best, own = (
        best_size(classifier, noisy[::8]),
        best_throughput(classifier, torch.device("cpu"), torch.float32).batch_size,
    )
    certificate, users = Smoothing(sigma=sigma, n0=100, n=n), trainable(classifier)
    turns: list[list[float]] = []
    for _ in range(repeats):
        bare = bare_seconds(classifier, noisy, best)
        ours = [certify(certificate, replace(classifier, batch_size=size), images)[1] for size in (best, own)]
        start = time.perf_counter()
        for image in images.pixels.split(1):
            cohen_counts(users, image, sigma, 100)
            cohen_counts(users, image, sigma, n)
        turns.append([bare, *(seconds / bare for seconds in (*ours, time.perf_counter() - start))])
    seconds, at_best, at_own, cohen = (float(statistics.median(column)) for column in zip(*turns, strict=True))
    each = sorted(round(turn[1], 3) for turn in turns)
    print(f"{name}: {len(images)} images, {100 + n} samples each, sigma {sigma:g}; median of {repeats} turns")
    print(f"  bare forward passes, batch {best}: {seconds:.2f} s")
    print(f"  smoothing, batch {best}: {at_best:.3f} of that (limit {LIMIT}; turns {each})")
    print(f"  smoothing, batch {own} (--batch-size auto): {at_own:.3f} of that")
    print(f"  Cohen's loop, batch 400: {cohen:.3f} of that", flush=True)
    return at_best


def decision(name: str, classifier: Classifier, images: Images, sigma: float, n: int) -> tuple[float, int]:
    """How many times fewer samples the sequential certificate drew, and how many images it lost."""
    classifier = replace(classifier, batch_size=best_size(classifier, images.pixels))
    right, drawn, seconds, samples = {}, {}, {}, {}
    for certificate in (Smoothing(sigma=sigma, n=n), SmoothingSequential(sigma=sigma, radius=sigma)):
        key = certificate.name
        radii, seconds[key], drawn[key] = certify(certificate, classifier, images)
        right[key] = ((radii.radius >= sigma) & (radii.predicted == images.labels)).numpy()
        samples[key] = {quantity: values.numpy() for quantity, _, values in radii.measurements}
    fixed, sequential = right.values()
    lost, gained = int((fixed & ~sequential).sum()), int((~fixed & sequential).sum())
    (whole, part), (slow, fast) = drawn.values(), seconds.values()
    counts = samples["smoothing-sequential"]["smoothing_samples"]
    quantiles = ", ".join(f"{q:g} %: {np.percentile(counts, q):.0f}" for q in (50, 90, 95, 99, 100))
    print(f"{name}: {len(images)} images, is radius {sigma:g} certified at sigma {sigma:g}?")
    print(f"  fixed n: {whole:.0f} samples an image, {int(fixed.sum())} certified, {slow:.1f} s")
    print(f"  sequential: {part:.1f} samples an image, {int(sequential.sum())} certified, {fast:.1f} s")
    print(f"  {whole / part:.1f} times fewer samples, {slow / fast:.1f} times as fast; lost {lost}, gained {gained}")
    print(f"  samples after the choice of the class, by share of images: {quantiles}", flush=True)
    return whole / part, lost


def main() -> None:
    parser = arguments(__doc__, arch="cnn7-mnist")
    parser.add_argument("model")
    parser.add_argument("decided")
    parser.add_argument("--decided-arch", default="lenet5")
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.set_defaults(images=300)
    parser.add_argument("--timed", type=int, default=8, help="images of the comparison of times")
    parser.add_argument("--samples", type=int, default=1000, help="n of the comparison of times")
    parser.add_argument("--fixed", type=int, default=10_000, help="n that the sequential certificate is held against")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    images = read_images(options.data, options.images)
    timed = images.select(torch.arange(options.timed))
    model = open_model(options.model, options.arch, options.data)
    ratio = speed(options.arch, model, timed, options.sigma, options.samples, options.repeats)
    decided = open_model(options.decided, options.decided_arch, options.data)
    saving, lost = decision(options.decided_arch, decided, images, options.sigma, options.fixed)
    sys.exit(ratio > LIMIT or saving < SAVING or lost > 0)


if __name__ == "__main__":
    main()
