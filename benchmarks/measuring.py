"""What the benchmarks of attacks share: run one in batches, let the judge decide, and count what it took."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval import open_checkpoint, read_images
from robusteval.attacks.base import Attack
from robusteval.attacks.judge import judge
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier

BATCH = 100


@dataclass(frozen=True)
class Outcome:
    """Of N images: distances (N,) in the attack's norm, infinite where the judge saw no witness, and the cost."""

    distances: NDArray[np.float64]
    seconds: float
    evaluations: float
    """Image evaluations, forward and backward, of an image on average."""

    @property
    def fooled(self) -> float:
        return float(np.isfinite(self.distances).mean())


def arguments(description: str | None, *, arch: str = "lenet5") -> argparse.ArgumentParser:
    """What every benchmark of attacks takes: the data, the architecture of its models, how many images."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--arch", default=arch)
    parser.add_argument("--images", type=int, default=500)
    return parser


def correct_images(classifier: Classifier, data: str, limit: int) -> Images:
    """The first `limit` images of a data set that the classifier gets right."""
    images = read_images(data)
    right = (classifier.predict(images.pixels).argmax(1) == images.labels).nonzero()[:limit, 0]
    return images.select(right)


def open_model(path: str, arch: str, data: str) -> Classifier:
    return open_checkpoint(path, arch, input_shape=read_images(data, 1).shape)


def trainable(classifier: Classifier) -> Classifier:
    """The same network as users of other libraries load it: parameters with gradients, torch's default layout."""
    module = copy.deepcopy(classifier.module).requires_grad_().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return replace(classifier, module=module)


def measure(
    attack: Attack, classifier: Classifier, images: Images, budget: float | None = None, at_once: int = BATCH
) -> Outcome:
    """Run one attack, given `at_once` images at a time, each with its own random stream."""
    return clocked(
        lambda view, block: (
            attack.run(
                view,
                block,
                None if budget is None else block.pixels.new_full((len(block),), budget),
                Streams.for_images(0, attack.name, block.ids, block.pixels),
            ).examples
        ),
        classifier,
        images,
        attack.norm,
        budget,
        at_once,
    )


def clocked(
    attack: Callable[[Classifier, Images], Tensor],
    classifier: Classifier,
    images: Images,
    norm: Norm,
    budget: float | None,
    at_once: int = BATCH,
) -> Outcome:
    """The same for anything that turns a batch of images into images; the judge's time is not counted."""
    seconds, evaluations, distances = 0.0, 0.0, []
    for rows in torch.arange(len(images)).split(at_once):
        view, block = classifier.metered(len(rows)), images.select(rows)
        start = time.perf_counter()
        candidates = attack(view, block)
        seconds += time.perf_counter() - start
        evaluations += float(view.meter.forwards.sum() + view.meter.backwards.sum())
        distances.append(getattr(judge(classifier, block, candidates, norm, budget), norm.value))
    return Outcome(torch.cat(distances).double().numpy(), seconds, evaluations / len(images))
