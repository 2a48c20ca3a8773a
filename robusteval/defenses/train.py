"""The training loop, and the command that trained the demo's checkpoints: python -m robusteval.defenses.train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from safetensors.torch import save_file
from torch import nn

from robusteval.architectures import build_network
from robusteval.datasets import read_images
from robusteval.defenses import DEFENSES
from robusteval.defenses.base import Defense
from robusteval.images import Images


class Training(BaseModel):
    """Adam at one learning rate, batches shuffled anew in every epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    seed: int = 0


def train(network: nn.Module, images: Images, defense: Defense, settings: Training) -> nn.Module:
    """Train a network in place and return it in eval mode. Deterministic for a network, data and settings on one
    machine."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    network.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(images), generator=generator).split(settings.batch_size):
            loss = defense.loss(network, images.pixels[rows], images.labels[rows], generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def main(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    arch: str = "digits-cnn",
    data: str = "digits:train",
    defense: str = "standard",
    norm: str = "linf",
    budget: float = 0.1,
    epochs: int = 30,
    limit: int | None = None,
    seed: int = 0,
) -> None:
    """Train a network and write its weights."""
    given = {"norm": norm, "budget": budget} if defense != "standard" else {}
    torch.manual_seed(seed)
    network = train(
        build_network(arch), read_images(data, limit), DEFENSES[defense](**given), Training(epochs=epochs, seed=seed)
    )
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, out)


if __name__ == "__main__":
    typer.run(main)
