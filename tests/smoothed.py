"""What the tests of randomized smoothing share: networks whose votes have known probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oracles import affine, random_images
from robusteval.certify.base import Certificate, Radii
from robusteval.core.images import Images
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

RARE = 1e-6
"""A statistical test fails by chance with at most this probability; seeds are fixed."""


def streams_of(images: Images, seed: int = 1) -> Streams:
    return Streams.for_images(seed, "smoothing", images.ids, images.pixels)


def certify(certificate: Certificate, classifier: Classifier, images: Images) -> Radii:
    return certificate.radii(classifier.metered(len(images)), images, (), streams_of(images))


def kept(radii: Radii) -> dict[tuple[str, float], NDArray[np.float64]]:
    return {(quantity, at): values.numpy() for quantity, at, values in radii.measurements}


def linear(n: int, scale: float = 1.0) -> tuple[Classifier, Images, NDArray[np.float64]]:
    """A linear network of two classes, images, and their exact distances to its plane outside of the box too."""
    classifier, weight, bias = affine(3, (1, 4, 4), 2)
    images = random_images(4, n, classifier)
    normal, offset = weight[1] - weight[0], bias[1] - bias[0]
    x = images.pixels.double().flatten(1).numpy()
    # Moved along the normal, so that small and large distances both occur.
    x = x + np.random.default_rng(0).uniform(-scale, scale, (n, 1)) * normal / np.linalg.norm(normal)
    z = x @ normal + offset
    pixels = torch.from_numpy(x).float().view(-1, 1, 4, 4)
    return (
        classifier,
        replace(images, content=pixels, labels=torch.from_numpy(z > 0).long()),
        np.abs(z) / np.linalg.norm(normal),
    )


class Window(nn.Module):
    """Class 0 where the first pixel is within 0.2 of its middle, class 1 elsewhere; notes the sizes of its batches."""

    batches: ClassVar[list[int]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        inside = 0.2 - (pixels.flatten(1)[:, 0] - 0.5).abs()
        return torch.stack([inside, -inside], dim=1)


def window(n: int, at: float = 0.5) -> tuple[Classifier, Images]:
    """n times the same image with all pixels `at`."""
    pixels = torch.full((n, 1, 1, 1), at)
    images = Images(tuple(f"{i:04d}" for i in range(n)), pixels, torch.zeros(n, dtype=torch.int64))
    return make_classifier("window", Window(), (1, 1, 1)), images


RUNS = 10_000
