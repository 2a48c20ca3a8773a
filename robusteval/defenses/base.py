"""Defense: settings that are a training objective, with a state of its own beside the weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from robusteval.core.methods import Method
from robusteval.core.streams import Streams

Carried = Mapping[str, Tensor]
"""What a defense carries from one update to the next, by name; saved and restored with the training."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one update sees: pixels (N, C, H, W) in [0, 1], labels (N,), and the stream of all that is drawn for it."""

    pixels: Tensor
    labels: Tensor
    generator: torch.Generator
    """On the CPU: what is drawn does not depend on the device."""

    def uniform(self) -> Tensor:
        """Uniform in [0, 1), shaped as the pixels."""
        return torch.rand(self.pixels.shape, generator=self.generator).to(self.pixels)

    def normal(self) -> Tensor:
        """Standard normal, shaped as the pixels."""
        return torch.randn(self.pixels.shape, generator=self.generator).to(self.pixels)

    def streams(self) -> Streams:
        """The same stream for what draws image by image."""
        n = len(self.pixels)
        return Streams((self.generator,) * n, (0,) * n, self.pixels.new_empty(0))


class Defense(Method):
    """What a network is trained to minimise.

    A defense is frozen settings. What it has to remember is its state: `begin` makes it, every update takes it and
    gives the next one. Subclasses write `objective`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    @property
    def updates(self) -> int:
        """Of the weights, with each batch."""
        return 1

    def begin(self, network: nn.Module, pixels: Tensor, generator: torch.Generator) -> Carried:
        """The state before the first update: `network` as it is initialised, `pixels` (N, C, H, W) of all training
        images. Raises UnsupportedError where the network does not fit."""
        return {}

    @abstractmethod
    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        """The loss of a batch, a mean over its images that is differentiable in the weights, and the next state.

        `network` takes pixels in [0, 1] (its normalisation is inside), gives logits (N, K) and is in train mode.
        """

    def backward(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        """Add the gradient of the objective to that of the weights; the loss, detached, and the next state."""
        loss, state = self.objective(network, batch, state)
        # Of the weights alone: the pixels' own gradient is of no use any more.
        loss.backward(inputs=[p for p in network.parameters() if p.requires_grad])
        return loss.detach(), state


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each image, (N,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def loss_gradients(network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each image (N,) and its gradient in the pixels (N, C, H, W), both differentiable in the
    weights: the first half of double backpropagation."""
    x = pixels.detach().requires_grad_()
    found = losses(network(x), labels)
    (gradient,) = torch.autograd.grad(found.sum(), x, create_graph=True)
    return found, gradient


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Forward passes in here leave the running statistics of batch normalisation as they are: those are of the images
    that the network is trained on, not of the steps of a search."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [layer.track_running_stats for layer in layers]
    for layer in layers:
        # In train mode the batch's own statistics are used then, and none are kept.
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, tracked in zip(layers, kept, strict=True):
            layer.track_running_stats = tracked
