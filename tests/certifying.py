"""What the tests of certificates share: images, and models whose loss and slope are known in closed form."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robusteval.core.images import Images
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)


F64 = torch.float64


def images_of(pixels: Tensor, labels: Tensor) -> Images:
    return Images(tuple(f"{i:04d}" for i in range(len(pixels))), pixels, labels, source="test")


def random_images(n: int, shape: tuple[int, int, int] = SHAPE, classes: int = 2) -> Images:
    generator = torch.Generator().manual_seed(7)
    pixels = torch.rand(n, *shape, generator=generator).double()
    return images_of(pixels, torch.randint(classes, (n,), generator=generator))


def with_batch_size(classifier: Classifier, size: int) -> Classifier:
    return replace(classifier, batch_size=size)


def linear_two_class(scale: float = 3.0) -> tuple[Classifier, Tensor, float]:
    """logit_1 - logit_0 = <w, x> + b; gives (classifier in float64, w (16,), b)."""
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(16, 2)
    w = scale * torch.randn(16, generator=generator)
    b = -float(w.sum()) / 2
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-0.25 * w, 0.75 * w]))
        layer.bias.copy_(torch.tensor([0.0, b]))
    classifier = make_classifier("linear", nn.Sequential(nn.Flatten(), layer), SHAPE).to("cpu", F64)
    layer = layer.double()
    difference = layer.weight[1] - layer.weight[0]
    return classifier, difference.detach(), float(layer.bias[1] - layer.bias[0])


def small_net(dtype: torch.dtype = F64) -> Classifier:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    return make_classifier("small", network, SHAPE, mean=(0.5,), std=(0.2,)).to("cpu", dtype)
