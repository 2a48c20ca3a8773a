"""What the tests of proofs share: small networks that hold every layer that bounds pass through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robusteval.certify import CERTIFICATES
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.ops import Affine
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (2, 8, 8)
F64 = torch.float64


def _normalised(channels: int) -> nn.BatchNorm2d:
    """A batch normalisation that has seen data."""
    layer = nn.BatchNorm2d(channels)
    for tensor, low, high in (
        (layer.running_mean, -0.3, 0.3),
        (layer.running_var, 0.3, 2.0),
        (layer.weight, -1.5, 1.5),
        (layer.bias, -0.3, 0.3),
    ):
        assert tensor is not None
        nn.init.uniform_(tensor, low, high)
    return layer


class Residual(nn.Module):
    """Two strided branches that are added, batch normalisation, and the mean over the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = _normalised(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.bn2 = _normalised(6)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), _normalised(6))
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)) + self.shortcut(x))
        x = x + 0.1 * x
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class Branches(nn.Module):
    """Concatenation, grouped and dilated convolutions, overlapping pooling with padding, functional forms."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.right = nn.Conv2d(2, 2, 3, padding=2, dilation=2)
        self.mix = nn.Conv2d(6, 6, 2, stride=2, groups=3)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([functional.relu(self.left(x)), self.right(x)], dim=1)
        x = functional.max_pool2d(x, 3, 2, 1)
        x = torch.relu(self.mix(x) / 0.5 - 0.1)
        x = functional.dropout(self.dropout(x), 0.5, self.training)
        logits: Tensor = self.linear(x.reshape(x.size(0), -1))
        return logits


def _pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 2),
        nn.AvgPool2d(2, 1, 1),
        nn.MaxPool2d(2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
        nn.Identity(),
    )


def _dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(128, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)
    )


NETWORKS = {"residual": Residual, "branches": Branches, "pooled": _pooled, "dense": _dense}


def small(name: str, dtype: torch.dtype = torch.float32) -> Classifier:
    torch.manual_seed(11)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
        # Centred, so that all classes occur.
        logits = network.eval()((candidates(40, SHAPE) - 0.45) / 0.25)
        last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
        last.bias.sub_(logits.mean(0))
    return make_classifier(name, network, SHAPE, (0.4, 0.5), (0.2, 0.3)).to("cpu", dtype)


def deep(layers: int, channels: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Classifier, Images]:
    """So many convolutions of so many channels, with weights of which each layer keeps the size of what it takes."""
    torch.manual_seed(seed)
    body: list[nn.Module] = []
    for k in range(layers):
        layer = nn.Conv2d(channels if k else 1, channels, 3, padding=1)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        body += [layer, nn.ReLU()]
    network = nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * channels, 4))
    classifier = make_classifier("deep", network, (1, 4, 4)).to("cpu", dtype)
    return classifier, images_for(classifier, 1)


def candidates(n: int, shape: tuple[int, int, int]) -> Tensor:
    """Random ones, a third of whose pixels lie on a wall of the box."""
    generator = torch.Generator().manual_seed(1)
    return (1.5 * torch.rand(n, *shape, generator=generator) - 0.25).clamp(0, 1)


def images_for(classifier: Classifier, n: int) -> Images:
    """Images in the classifier's type, labelled as it sees them."""
    pixels = candidates(n, classifier.input_shape).to(classifier.dtype)
    return Images(tuple(f"i{k:03d}" for k in range(n)), pixels, classifier.predict(pixels).argmax(1))


def ignore(done: int, total: int) -> None:
    assert 0 < done <= total


def proven(name: str, norm: Norm, classifier: Classifier, images: Images, **settings: Any) -> Tensor:
    """The radii (N,) of a certificate, as an audit computes them."""
    certificate = CERTIFICATES[name].model_validate({"norm": norm, **settings})
    of_set = Streams.for_set(0, name, images.pixels)
    state = certificate.prepare(classifier.metered(len(images)), images.by_id(), of_set, ignore)
    of_images = Streams.for_images(0, name, images.ids, images.pixels)
    return certificate.radii(classifier.metered(len(images)), images, state, of_images).radius


def steps_within(norm: Norm, radius: Tensor, images: Images, draws: int) -> Tensor:
    """Images (draws, N, C, H, W) in the images' type, inside the box and no further than radius (N,): random
    directions at full length, corners of the ball among them."""
    generator = torch.Generator().manual_seed(3)
    x = images.pixels.double()
    v = torch.randn(draws, *x.shape, generator=generator, dtype=torch.float64)
    # Every second one has few pixels: the corners of the L1 ball. Signs alone are those of the Linf ball.
    few = torch.rand(draws, *x.shape, generator=generator) < 0.05
    v = torch.where(torch.arange(draws).view(-1, 1, 1, 1, 1) % 2 == 0, v, v * few)
    v = v.sign() if norm is Norm.LINF else v
    inside = torch.where((x + 1e-9 * v).clamp(0, 1) == x, 0.0, v).flatten(0, 1)
    limit = radius.repeat(draws) * (1 - 1e-6)
    moved = x.repeat(draws, 1, 1, 1) + norm.project(norm.scale_to(inside, limit), limit)
    return moved.clamp(0, 1).to(images.pixels.dtype).view(draws, *x.shape)


def evaluated(graph: Graph, x: Tensor) -> list[Tensor]:
    """All values of a graph at images x, in float64."""
    values = [x.double()]
    for node in graph.nodes[1:]:
        value = node.op.apply(*(values[j] for j in node.inputs))
        bias = node.op.bias if isinstance(node.op, Affine) else None
        values.append(value if bias is None else value + bias)
    return values
