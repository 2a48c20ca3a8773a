"""CLEVER: robusteval's against the adversarial-robustness-toolbox's, at the same number of samples, in one run.

    python benchmarks/clever.py DATA MODEL [--images 3] [--seeds 4] [--batch 25] [--pool 10] [--batches 50]

Untargeted over all other classes, in L2 and Linf. The toolbox draws `pool` x `batch` points for each target and makes
its maxima from them again and again; robusteval draws as many points once for all targets, and makes `batches` maxima
of them. Printed: CPU seconds an image, and the spread of an image's score over the seeds (standard deviation over mean;
mean and largest over the images). Exits with 1 unless robusteval is 5 times faster and its mean spread the smaller in
both norms.

The toolbox is no dependency: pip install adversarial-robustness-toolbox, or PYTHONPATH with a folder that holds it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from measuring import arguments, correct_images, open_model, trainable
from robusteval.certify.extreme_value.clever import Clever
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

RADII = {Norm.L2: 2.0, Norm.LINF: 0.25}
Score = Callable[[int], NDArray[np.float64]]
"""A seed to the scores (N,) of all images."""


def ours(classifier: Classifier, images: Images, norm: Norm, samples: int, batches: int) -> Score:
    method = Clever(norm=norm, radius=RADII[norm], batches=batches, samples=samples // batches)

    def scores(seed: int) -> NDArray[np.float64]:
        streams = Streams.for_images(seed, method.label, images.ids, images.pixels)
        found: NDArray[np.float64] = method.radii(classifier.metered(len(images)), images, (), streams).radius.numpy()
        return found

    return scores


def theirs(classifier: Classifier, images: Images, norm: Norm, batch: int, pool: int, batches: int) -> Score:
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u

    module = trainable(classifier).module
    wrapped = PyTorchClassifier(
        module, torch.nn.CrossEntropyLoss(), classifier.input_shape, classifier.num_classes, clip_values=(0.0, 1.0)
    )

    def scores(seed: int) -> NDArray[np.float64]:
        np.random.seed(seed)
        return np.array(
            [
                clever_u(wrapped, x, batches, batch, RADII[norm], norm.p, pool_factor=pool, verbose=False)
                for x in images.pixels.numpy()
            ]
        )

    return scores


def measured(score: Score, seeds: int) -> tuple[NDArray[np.float64], float]:
    """Scores (seeds, N) and seconds an image."""
    start = time.process_time()
    table = np.stack([score(seed) for seed in range(seeds)])
    return table, (time.process_time() - start) / table.size


def main() -> None:
    parser = arguments(__doc__, arch="cnn7-mnist")
    parser.set_defaults(images=3)
    parser.add_argument("model")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--pool", type=int, default=10)
    parser.add_argument("--batches", type=int, default=50)
    options = parser.parse_args()
    try:
        import art
    except ImportError:
        sys.exit("expected the adversarial-robustness-toolbox, got none: pip install adversarial-robustness-toolbox")
    classifier = open_model(options.model, options.arch, options.data)
    images = correct_images(classifier, options.data, options.images)
    samples = options.batch * options.pool
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, toolbox {art.__version__}, {len(images)} "
        f"images, {options.seeds} seeds, {samples} points, {options.batches} maxima"
    )
    print("| norm | library | s (CPU) an image | score | spread | largest spread |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    won = True
    for norm in RADII:
        rows = {}
        for name, score in (
            ("robusteval", ours(classifier, images, norm, samples, options.batches)),
            ("toolbox", theirs(classifier, images, norm, options.batch, options.pool, options.batches)),
        ):
            table, seconds = measured(score, options.seeds)
            spread = table.std(axis=0) / table.mean(axis=0)
            rows[name] = seconds, spread.mean()
            print(
                f"| {norm.symbol} | {name} | {seconds:.2f} | {table.mean():.4f} | {spread.mean():.4f} "
                f"| {spread.max():.4f} |",
                flush=True,
            )
        faster = rows["toolbox"][0] / rows["robusteval"][0]
        narrower = rows["robusteval"][1] / rows["toolbox"][1]
        print(f"{norm.symbol}: {faster:.1f} times faster, spread {narrower:.2f} of the toolbox's")
        won &= faster >= 5 and rows["robusteval"][1] < rows["toolbox"][1]
    sys.exit(not won)


if __name__ == "__main__":
    main()
