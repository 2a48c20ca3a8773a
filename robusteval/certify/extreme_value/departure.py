"""How far the loss departs from its linear model at an image, and a search for where it departs most."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robusteval.certify.extreme_value.loss import LossFunction, loss_at, loss_gradient
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column, flat
from robusteval.models.classifier import Classifier


@dataclass(frozen=True)
class Tangent:
    """The linear model l(x) + <v, grad l(x)> of a loss at M images: pixels and gradient (M, C, H, W)."""

    classifier: Classifier
    loss: LossFunction
    pixels: Tensor
    labels: Tensor
    value: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, classifier: Classifier, images: Images, loss: LossFunction) -> Tangent:
        chunks = [(g, value) for g, value, _ in loss_gradient(classifier, images.pixels, images.labels, loss)]
        gradient, value = map(torch.cat, zip(*chunks, strict=True))
        return cls(classifier, loss, images.pixels, images.labels, value, gradient)

    def select(self, rows: Tensor) -> Tangent:
        """Some of the images, perhaps repeatedly."""
        chosen = {name: getattr(self, name)[rows] for name in ("pixels", "labels", "value", "gradient")}
        return replace(self, **chosen)

    def departure(self, near: Tensor) -> Tensor:
        """l(x + v) - l(x) - <v, grad l(x)> for each image x + v in `near` (M, C, H, W), (M,) float64."""
        return self._less_linear(loss_at(self.classifier, near, self.labels, self.loss), near)

    def climbed(self, near: Tensor, norm: Norm, radius: float, steps: int) -> tuple[Tensor, Tensor]:
        """From `near`, images in the ball and in [0, 1]: images there with a departure at least as large, and it.

        Each step goes to the image that would depart most if the departure were linear: conditional gradient ascent
        with full steps (Frank and Wolfe 1956; on a convex function no step goes down: Journee et al. 2010). No step
        leaves the ball or the box, and the best image on the way is kept. On an MNIST network 5 such steps went as
        far as 10 projected ones or farther, in each norm. `steps` gradients and one forward an image.
        """
        best, highest = near, torch.full_like(self.value, -torch.inf)
        for _ in range(steps):
            chunks = [(g, value) for g, value, _ in loss_gradient(self.classifier, near, self.labels, self.loss)]
            gradient, value = map(torch.cat, zip(*chunks, strict=True))
            best, highest = _better(best, highest, near, self._less_linear(value, near))
            near = farthest(self.pixels, gradient - self.gradient, norm, radius)
        return _better(best, highest, near, self.departure(near))

    def _less_linear(self, value: Tensor, near: Tensor) -> Tensor:
        linear = (flat(near - self.pixels).double() * flat(self.gradient).double()).sum(1)
        return value - self.value - linear


def _better(best: Tensor, highest: Tensor, near: Tensor, departure: Tensor) -> tuple[Tensor, Tensor]:
    wins = departure > highest
    return torch.where(column(wins, near), near, best), torch.where(wins, departure, highest)


def farthest(pixels: Tensor, gradient: Tensor, norm: Norm, radius: float) -> Tensor:
    """Images x + v in [0, 1] with |v| <= radius and a large <v, gradient>, (M, C, H, W).

    The largest in L1, which fills the pixels of the largest derivatives one after another, and in Linf; in L2 the
    largest in the ball, over the pixels that may move, clipped.
    """
    if norm is Norm.LINF:
        return (pixels + radius * gradient.sign()).clamp(0, 1)
    room = torch.where(gradient > 0, 1 - pixels, pixels)
    useful = gradient * (room > 0)
    if norm is Norm.L2:
        return (pixels + norm.scale_to(useful, radius)).clamp(0, 1)
    order = flat(useful).abs().argsort(dim=1, descending=True, stable=True)
    ordered = flat(room).gather(1, order)
    left = (radius - (ordered.cumsum(1) - ordered)).clamp_min(0)
    moved = torch.zeros_like(ordered).scatter(1, order, left).view_as(pixels)
    return (pixels + moved * useful.sign()).clamp(0, 1)
