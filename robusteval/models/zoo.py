"""The zoo: small networks that the project trained with each defense, opened as zoo:NAME."""

from __future__ import annotations

from pathlib import Path

from robusteval.core.errors import UserError, nearest
from robusteval.models.card import read_card

PREFIX = "zoo:"
FOLDER = Path(__file__).parents[1] / "zoo"


def zoo_names() -> list[str]:
    """Of the networks, in the order of the alphabet."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def zoo_models() -> list[tuple[str, str]]:
    """zoo:NAME of each network, and how it was trained."""
    cards = {name: read_card(located(PREFIX + name)) for name in zoo_names()}
    return [(PREFIX + name, card.trained.title if card else "") for name, card in cards.items()]


def located(checkpoint: str | Path) -> Path:
    """The file of a checkpoint: zoo:NAME, or a path. Raises UserError."""
    text = str(checkpoint)
    if not text.startswith(PREFIX):
        return Path(checkpoint)
    name = text.removeprefix(PREFIX)
    if name not in zoo_names():
        raise UserError(f"expected a network of the zoo, got '{text}' ({nearest(name, zoo_names())}); or zoo:all")
    return FOLDER / f"{name}.safetensors"


def expanded_names(checkpoints: list[str]) -> list[str]:
    """The same, with zoo:all as the networks that it stands for."""
    found: list[str] = []
    for checkpoint in checkpoints:
        found += [PREFIX + name for name in zoo_names()] if checkpoint == f"{PREFIX}all" else [checkpoint]
    return found
