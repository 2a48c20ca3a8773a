"""Walks along the boundary from several starts for each image, in batches of the classifier's size."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from robusteval.attacks.search.active import keep
from robusteval.attacks.search.boundary import Strides, Walkers, walk
from robusteval.attacks.search.filling import filled
from robusteval.attacks.search.losses import Goal, Loss
from robusteval.core.images import Images
from robusteval.core.norms import Norm, column
from robusteval.models.classifier import Classifier

FILL = 8
"""Evaluations after each walk in L0."""


@dataclass(frozen=True)
class Walks:
    """M walks of images `rows` (M,): towards `targets` (M,), what each began with, where it is (M, C, H, W), its
    closest example, and that one's distance (M,), infinite where there is none yet."""

    rows: Tensor
    targets: Tensor
    stage: Tensor
    x: Tensor
    example: Tensor
    distance: Tensor

    def select(self, rows: Tensor) -> Walks:
        return Walks(*keep(rows, *self._columns()))

    def moved(self, x: Tensor, stage: float) -> Walks:
        return replace(self, x=x, stage=torch.full_like(self.stage, stage))

    def put(self, rows: Tensor, others: Walks) -> Walks:
        """These walks with others in the place of `rows`."""
        pairs = zip(self._columns(), others._columns(), strict=True)
        return Walks(*(mine.index_copy(0, rows, theirs) for mine, theirs in pairs))

    def nearest(self, count: int, images: int) -> Walks:
        """The `count` closest walks of each image, of walks that lie image by image, as many of each."""
        width = len(self.rows) // max(1, images)
        order = self.distance.view(images, width).argsort(dim=1, stable=True)[:, :count]
        return self.select((order + width * torch.arange(images, device=order.device)[:, None]).flatten())

    def _columns(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class WalkSearch:
    """Walks of images in a norm. In L0 they are those of L1, and what is kept are their examples of fewest entries."""

    classifier: Classifier
    images: Images
    norm: Norm

    def begin(self, targets: Tensor, stages: Tensor) -> Walks:
        """Walks at the images themselves, of each as many as `targets` (N, k) name classes, with the `stages` (k,)."""
        n, width = targets.shape
        rows = torch.arange(n, device=targets.device).repeat_interleave(width)
        x = self.images.pixels[rows]
        return Walks(rows, targets.flatten(), stages.repeat(n), x, x, torch.full_like(x[:, 0, 0, 0], torch.inf))

    def outward(self, walks: Walks, steps: int, length: float, elsewhere: Tensor) -> Tensor:
        """Where `steps` of all pixels along the signs of the margin's gradient end, (M, C, H, W); where there is
        no gradient, towards images `elsewhere` (N, C, H, W)."""
        ends = []
        for part in self._parts(walks):
            view, labels, own = keep(part.rows, self.classifier, self.images.labels, elsewhere)
            x, goal = part.x, Goal(Loss.MARGIN, labels, part.targets)
            for _ in range(steps):
                gradient = view.gradient(x, goal)[0]
                dead = (gradient == 0).flatten(1).all(1)
                x = (x + length * torch.where(column(dead, x), own - x, gradient).sign()).clamp(0, 1)
            ends.append(x)
        return torch.cat(ends)

    def freed(self, walks: Walks) -> Walks:
        """The walks from here on towards whichever class is the likeliest."""
        return replace(walks, targets=self.images.labels[walks.rows])

    def walked(self, walks: Walks, strides: Strides) -> Walks:
        """The walks after as many more strides, each where it came closest, with the closer of its examples before and
        after."""
        done = [self._walked(part, strides)._columns() for part in self._parts(walks)]
        return Walks(*map(torch.cat, zip(*done, strict=True)))

    def _parts(self, walks: Walks) -> list[Walks]:
        numbers = torch.arange(len(walks.rows), device=walks.rows.device)
        return [walks.select(part) for part in numbers.split(self.classifier.batch_size)]

    def _walked(self, walks: Walks, strides: Strides) -> Walks:
        view, centers, labels = keep(walks.rows, self.classifier, self.images.pixels, self.images.labels)
        x, distance = walk(view, Walkers(centers, labels, walks.targets, walks.x), self.norm, strides)
        example = x
        if self.norm is Norm.L0:
            example, distance = self._fewest(view, centers, labels, x, distance)
        closer = distance < walks.distance
        example = torch.where(column(closer, x), example, walks.example)
        return replace(walks, x=x, example=example, distance=torch.where(closer, distance, walks.distance))

    @staticmethod
    def _fewest(
        view: Classifier, centers: Tensor, labels: Tensor, x: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Examples of few changed entries out of those of a walk in L1, and how many, of equally many the smaller."""
        rows = distance.isfinite().nonzero()[:, 0]
        if not len(rows):
            return x, distance
        example = x.index_copy(0, rows, filled(*keep(rows, view, centers, labels, x), FILL))
        size = Norm.L0.size(example - centers) + distance / (1 + distance)
        return example, torch.where(distance.isfinite(), size, torch.inf)
