"""The model card: what a trained network is and how it was made, in a JSON file beside its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robusteval.core.errors import UserError, explain
from robusteval.core.limits import CARD_BYTES, check_limit_of

_MARK = b'"robusteval model card"'


_Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainedBy(_Frozen):
    """The defense, with every setting, and what else decides the weights."""

    defense: str
    """Its name, or FILE.py:Class."""
    title: str
    """As a report shows it, settings included."""
    package: str
    """That it belongs to, and its version."""
    settings: dict[str, Any]
    training: dict[str, Any]
    """The settings of the training that are not the defense's."""
    data: str
    images: int
    data_fingerprint: str


class Accuracies(_Frozen):
    """Shares of images in [0, 1] that the network has right, in eval mode."""

    training: _Share
    validation: _Share | None = None
    """Of the images held out, by which the best epoch was chosen."""
    test: _Share | None = None
    test_data: str | None = None
    test_images: int | None = None


class ModelCard(_Frozen):
    """What `robusteval train` writes beside FILE.safetensors, as FILE.json: all to open and audit it."""

    format: Literal["robusteval model card"] = "robusteval model card"
    version: Literal[1] = 1
    name: str
    weights: str
    """sha256 of the weights file that it is of."""
    arch: str
    """A known architecture, or FILE.py:FUNCTION."""
    input_shape: tuple[int, int, int]
    """(C, H, W) of pixels in [0, 1]."""
    num_classes: int
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    """Normalisation inside the classifier, one value a channel; None for none."""
    std: tuple[float, ...] | None = None
    parameters: int
    trained: TrainedBy
    accuracy: Accuracies
    epochs: int
    best_epoch: int | None = None
    """That was kept, where images were held out."""
    seconds: float = Field(ge=0, allow_inf_nan=False)
    """Of training."""
    device: str
    robusteval: str
    torch: str
    command: str


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies."""
    return weights.with_suffix(".json")


def is_card(path: Path) -> bool:
    """Whether a file says that it is a model card, whole or not."""
    return _content(path) is not None


def _content(path: Path) -> bytes | None:
    """What a card holds; None where there is no file, or another program's. Raises UserError for one that is beyond the
    limit, which another program's may be."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        content = file.read(CARD_BYTES + 1)
    if _MARK not in content:
        return None
    check_limit_of(path, path.stat().st_size, CARD_BYTES, "bytes")
    return path.read_bytes()


def read_card(weights: Path) -> ModelCard | None:
    """The card beside a weights file; None where there is none, or another program's file of that name. Raises
    UserError where it does not hold what a card holds, or is of other weights."""
    path = card_path(weights)
    try:
        content = _content(path)
        if content is None:
            return None
        card = ModelCard.model_validate_json(content)
    except ValidationError as error:
        why = explain(error)
        raise UserError(
            f"expected a model card in {path}, got a damaged one: {why}; name the network with --arch and remove it"
        ) from error
    except OSError as error:
        raise UserError(f"expected a model card in {path}, got: {error}") from error
    if card.weights != file_sha256(weights):
        raise UserError(f"expected the card of {weights} in {path}, got that of other weights; remove it")
    return card


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
