"""How a network is trained, whatever the defense: optimizer, schedule, augmentation, validation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from torch import nn
from torch.optim import lr_scheduler

from robusteval.core.methods import Settings

Scheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau


class TrainingSettings(Settings):
    """Every setting of a training that is not the defense's own."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    epochs: PositiveInt = 30
    """Passes over the images."""
    batch_size: PositiveInt = 64
    """Images an update."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam, or sgd with momentum."""
    learning_rate: Annotated[float, Field(gt=0, le=1e10)] = 1e-3
    """At the beginning."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of sgd."""
    nesterov: bool = False
    """Nesterov's momentum, of sgd."""
    weight_decay: Annotated[float, Field(ge=0, le=1e10)] = 0.0
    """In the optimizer: added to the gradient of every weight."""
    schedule: Literal["constant", "step", "cosine", "plateau"] = "constant"
    """Of the learning rate: step multiplies it by factor at each milestone, cosine lets it fall to zero, plateau
    multiplies it where the validation loss has not fallen for patience epochs."""
    milestones: tuple[PositiveInt, ...] = ()
    """Epochs after which step lowers the rate."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of step and plateau."""
    patience: NonNegativeInt = 10
    """Epochs, of plateau."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the images held out; with it, the epoch of the least validation loss is kept."""
    crop: NonNegativeInt = 0
    """Pixels of padding on each side before a random crop."""
    fill: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Value of the padding: 0 is black, 0.5 mid-grey."""
    flip: bool = False
    """Half of the images mirrored, left to right."""
    cutout: NonNegativeInt = 0
    """Side in pixels of a square that is blanked with fill."""
    normalise: bool = True
    """Standardise each channel by the training images' mean and standard deviation, inside the network."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of initial weights, order of images and all that is drawn."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule == "plateau" and not self.validation:
            raise ValueError("expected a validation share for the schedule plateau, got 0")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("expected milestones for the schedule step, got none")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("expected sgd with momentum for nesterov")
        return self

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "adam":
            return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
        momentum, nesterov = self.momentum, self.nesterov
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum, weight_decay=decay, nesterov=nesterov)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> Scheduler:
        match self.schedule:
            case "step":
                return lr_scheduler.MultiStepLR(optimizer, list(self.milestones), self.factor)
            case "cosine":
                return lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
            case "plateau":
                return lr_scheduler.ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience)
            case "constant":
                return lr_scheduler.ConstantLR(optimizer, factor=1.0)
