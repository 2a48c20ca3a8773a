"""The command that trains the zoo: python -m robusteval.training.zoo."""

from __future__ import annotations

import tomllib
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from robusteval.core.errors import UserError, nearest
from robusteval.data import read_images
from robusteval.models.card import ModelCard
from robusteval.models.zoo import FOLDER
from robusteval.training.make import make_model
from robusteval.training.recipe import draft_of

RECIPES = FOLDER / "zoo.toml"
COMMAND = ["python", "-m", "robusteval.training.zoo"]


def make(name: str, folder: Path) -> ModelCard:
    """Train one network of the zoo on one thread and write it to a folder, with its card."""
    torch.set_num_threads(1)
    zoo = tomllib.loads(RECIPES.read_text(encoding="utf-8"))
    network: dict[str, Any] = zoo["networks"][name]
    tables = {"defense": network["defense"], "training": zoo["training"] | network.get("training", {})}
    recipe = draft_of(tables, f"{RECIPES.name}, {name}", FOLDER).recipe()
    images, test = read_images(zoo["data"]), read_images(zoo["test"])
    out = folder / f"{name}.safetensors"
    return make_model(recipe, zoo["arch"], images, out, test=test, device="cpu", command=[*COMMAND, name])


def main(
    networks: Annotated[list[str] | None, typer.Argument(help="Names; all of them by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = FOLDER,
    workers: Annotated[int, typer.Option(help="Processes, of one thread each.")] = 2,
) -> None:
    """Train the networks of the zoo and write them with their cards; those that are there stay."""
    known = tomllib.loads(RECIPES.read_text(encoding="utf-8"))["networks"]
    for name in networks or []:
        if name not in known:
            typer.echo(f"error: expected a network of the zoo, got '{name}' ({nearest(name, known)})", err=True)
            raise typer.Exit(2)
    with ProcessPoolExecutor(workers) as pool:
        tasks = {pool.submit(make, name, out): name for name in networks or known}
        for task in as_completed(tasks):
            try:
                card = task.result()
            except UserError as error:
                typer.echo(f"error: {tasks[task]}: {error}", err=True)
                raise typer.Exit(2) from None
            typer.echo(f"{card.name:22} {card.accuracy.test:.3f} on {card.accuracy.test_data}, {card.seconds:.0f} s")


if __name__ == "__main__":
    typer.run(main)
