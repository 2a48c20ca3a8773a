"""N-fold Gaussian augmentation (Moments, Eq. 1 and section 4)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from robusteval.defenses.base import Batch, Carried, Defense, losses


class GaussianAugmentation(Defense):
    """The mean cross-entropy of each image and of folds - 1 copies of it under N(0, sigma^2 I), drawn anew for each
    batch and not cut to the box."""

    name = "gaussian-augmentation"
    title = "Gaussian augmentation"
    summary = "every image with N - 1 noisy copies (Moments, Eq. 1)"

    sigma: PositiveFloat = 0.25
    """Standard deviation in pixel units; the paper takes 0.125 to 1."""
    folds: Annotated[int, Field(ge=2)] = 2
    """N: the paper takes 2, 6, 11 and 21."""

    @property
    def says(self) -> str:
        return f", N = {self.folds}, sigma {self.sigma:g}"

    def objective(self, network: nn.Module, batch: Batch, state: Carried) -> tuple[Tensor, Carried]:
        copies = [batch.pixels, *(batch.pixels + self.sigma * batch.normal() for _ in range(self.folds - 1))]
        return losses(network(torch.cat(copies)), batch.labels.repeat(self.folds)).mean(), state
