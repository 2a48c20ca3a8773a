"""What the tests of training share: images with a row of light, small networks, trainings that stop in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robusteval.core.images import Images
from robusteval.defenses.base import Defense
from robusteval.training.loop import Epoch, Tick, train
from robusteval.training.saved import SavedTraining
from robusteval.training.settings import TrainingSettings


class StoppedError(Exception):
    """A training was interrupted, as by Ctrl-C."""


def rows_of_light(n: int = 48, shape: tuple[int, int, int] = (1, 4, 4)) -> Images:
    """Three classes of images, each bright in another row."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    pixels = 0.4 * torch.rand(n, *shape, generator=generator)
    pixels[torch.arange(n), :, labels] += 0.5
    return Images(tuple(f"s{i:03d}" for i in range(n)), pixels, labels, source="rows of light")


def small_cnn(dropout: float = 0.0) -> nn.Module:
    """For these images in their default shape, always with the same initial weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 3))


def linear(shape: tuple[int, int, int] = (1, 4, 4)) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 3))


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def stopped_in(epoch: int, network: nn.Module, defense: Defense, settings: TrainingSettings, path: Path) -> None:
    """Train until the first update of an epoch, and stop there; epochs before it are saved."""

    def stop(tick: Tick) -> None:
        if tick.epoch == epoch:
            raise StoppedError

    try:
        train(network, rows_of_light(), defense, settings, saved=SavedTraining(path, "key"), tell=stop)
    except StoppedError:
        return
    raise AssertionError("the training ended before it was to be stopped")


def continued(network: nn.Module, defense: Defense, settings: TrainingSettings, path: Path) -> list[Epoch]:
    return train(network, rows_of_light(), defense, settings, saved=SavedTraining(path, "key"))


def write_npz(path: Path, images: Images) -> Path:
    np.savez(path, x=images.pixels.numpy(), y=images.labels.numpy())
    return path
