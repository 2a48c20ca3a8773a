"""The training loop, and the command that trained the demo's checkpoints: python -m robusteval.defenses.train."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError
from safetensors.torch import save_file
from torch import nn

from robusteval.core.errors import UserError, explain, nearest
from robusteval.core.images import Images
from robusteval.core.methods import Step
from robusteval.data import read_images
from robusteval.defenses import DEFENSES
from robusteval.defenses.base import Defense
from robusteval.models.architectures import build_network


class TrainingSettings(BaseModel):
    """Adam at one learning rate, batches shuffled anew in every epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    seed: int = 0


def train(
    network: nn.Module,
    images: Images,
    defense: Defense,
    settings: TrainingSettings,
    step: Step = lambda done, total: None,
) -> nn.Module:
    """Train a network in place and return it in eval mode. Deterministic for a network (with its initial weights),
    data, settings and number of threads on one machine, as long as the network itself draws nothing (dropout)."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    done, total = 0, settings.epochs * -(-len(images) // settings.batch_size)
    network.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(images), generator=generator).split(settings.batch_size):
            loss = defense.loss(network, images.pixels[rows], images.labels[rows], generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            step(done, total)
    return network.eval()


def save_weights(network: nn.Module, out: Path, metadata: dict[str, str]) -> None:
    """Write a network's weights as safetensors, with what made them beside them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, out, metadata)


def make_defense(name: str, **settings: object) -> Defense:
    """The defense of that name; settings that are None keep their defaults. Raises UserError."""
    if name not in DEFENSES:
        raise UserError(f"expected a known --defense, got '{name}' ({nearest(name, DEFENSES)})")
    try:
        return DEFENSES[name](**{key: value for key, value in settings.items() if value is not None})
    except ValidationError as error:
        raise UserError(f"--defense {name}: {explain(error, called=_option)}") from error


def _option(setting: str) -> str:
    return "--" + setting.replace("_", "-").replace(".", "-")


def main(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    arch: Annotated[str, typer.Option(help="NAME, or FILE.py:FUNCTION that builds the network.")] = "digits-cnn",
    data: Annotated[str, typer.Option(help="A data set: see `robusteval list data`.")] = "digits:train",
    defense: Annotated[str, typer.Option(help="standard or pgd-training.")] = "standard",
    norm: Annotated[str | None, typer.Option(help="l2 or linf, for pgd-training.")] = None,
    budget: Annotated[float | None, typer.Option(help="Radius in pixel units, for pgd-training.")] = None,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    limit: Annotated[int | None, typer.Option(help="Use only the first N images.")] = None,
    seed: int = 0,
) -> None:
    """Train a network and write its weights."""
    try:
        objective = make_defense(defense, norm=norm, budget=budget)
        try:
            settings = TrainingSettings(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
        except ValidationError as error:
            raise UserError(f"training: {explain(error, called=_option)}") from error
        if out.suffix != ".safetensors":
            raise UserError(f"expected --out as a .safetensors file, got {out}")
        images = read_images(data, limit)
        torch.manual_seed(seed)
        network = train(build_network(arch), images, objective, settings)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    command = shlex.join(["python", "-m", "robusteval.defenses.train", *sys.argv[1:]])
    save_weights(network, out, {"arch": arch, "data": data, "command": command, "torch": torch.__version__})


if __name__ == "__main__":
    typer.run(main)
