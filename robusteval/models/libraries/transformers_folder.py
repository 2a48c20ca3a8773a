"""A folder of transformers on disk, `config.json` and `model.safetensors`, as a network. Nothing is downloaded, and
code in the folder is not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from robusteval.core.errors import UserError, first_line
from robusteval.core.limits import ARRAY_NUMBERS, FILE_BYTES, TEXT_BYTES, check_file, check_limit_of, read_limited
from robusteval.models.formats.weights import read_safetensors
from robusteval.models.libraries.preparation import LibraryNetwork, Preparation, Size
from robusteval.models.libraries.vision import with_torchvision

FOLDER_PREFIX = "hf:"
CONFIG, WEIGHTS, IMAGES = "config.json", "model.safetensors", "preprocessor_config.json"
LARGEST = 1_000_000
"""Of a whole number in a configuration."""
LAYERS = 1_000
"""Of a network, and of the numbers in a configuration that count them."""
_BICUBIC = 3
"""As Pillow numbers its ways to resize."""


def folder_network(name: str, classes: int | None, channels: int) -> LibraryNetwork:
    """The network that a folder describes, with random weights. Raises UserError."""
    folder = Path(name)
    transformers, config = _config(folder)
    try:
        with _offline():
            network = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise _unfit(folder, error) from error
    return LibraryNetwork(network, _preparation(folder, config))


def open_folder(folder: Path) -> LibraryNetwork:
    """The network of a folder with its weights. Raises UserError where one is missing or left over."""
    transformers, config = _config(folder)
    weights = folder / WEIGHTS
    check_file(weights, FILE_BYTES, f"the weights of {folder} in one file of safetensors")
    read_safetensors(weights)
    try:
        with _offline():
            network, told = transformers.AutoModelForImageClassification.from_pretrained(
                str(folder),
                config=config,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:
        raise _unfit(folder, error) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, told.get(what, ()))):
            found = f"{what.replace('_', ' ')}: {', '.join(keys[:5])}"
            raise UserError(f"expected the weights of {folder} to fit its {CONFIG}, got {found}")
    return LibraryNetwork(network, _preparation(folder, config))


def _config(folder: Path) -> tuple[Any, Any]:
    """transformers, and the configuration of a folder, after a look at its numbers."""
    raw = _json(folder, CONFIG)
    if raw is None:
        raise UserError(f"expected a folder with {CONFIG} and {WEIGHTS}, got {folder}")
    for key, number in _numbers(raw, ""):
        check_limit_of(f"'{key}' of {folder / CONFIG}", number, LAYERS if _counts(key) else LARGEST, "as a number")
    for key in ("quantization_config", "use_pretrained_backbone"):
        if raw.get(key):
            raise UserError(f"expected a network of plain weights in {folder}, got one with {key} in {CONFIG}")
    transformers = with_torchvision("transformers", "hf", f"for {FOLDER_PREFIX}{folder}")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with _offline(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
            empty = transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise _unfit(folder, error) from error
    count = sum(parameter.numel() for parameter in empty.parameters())
    check_limit_of(f"the network of {folder / CONFIG}", count, ARRAY_NUMBERS, "weights")
    return transformers, config


@contextmanager
def _offline() -> Iterator[None]:
    """Parts of networks that a configuration names are not looked for on the network."""
    constants: Any = import_module("huggingface_hub.constants")
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _counts(key: str) -> bool:
    return key.endswith(("layers", "depths", "depth", "blocks", "stages"))


def _json(folder: Path, name: str) -> dict[str, Any] | None:
    """What a file of the folder holds; None where there is none."""
    path = folder / name
    if not path.exists():
        return None
    try:
        found = json.loads(read_limited(path, TEXT_BYTES, "a configuration"))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON in {path}, got: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(found).__name__}")
    return found


def _numbers(value: Any, key: str) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration, each with the name of its setting; names of classes are none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("id2label", "label2id"):
                yield from _numbers(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


def _preparation(folder: Path, config: Any) -> Preparation:
    """Of the folder's own configuration of images, where it has one; else the size alone. Raises UserError."""
    try:
        return _of_images(folder, config)
    except (KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"expected numbers that fit in {folder / IMAGES}, got: {first_line(error)}") from error


def _of_images(folder: Path, config: Any) -> Preparation:
    own = _json(folder, IMAGES) or {}
    labels = getattr(config, "id2label", None) or {}
    names = tuple(str(labels[key]) for key in sorted(labels)) if all(isinstance(k, int) for k in labels) else ()
    names = () if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names
    size = _size(own.get("size")) if own.get("do_resize", True) else None
    crop = _size(own.get("crop_size")) if own.get("do_center_crop", False) else None
    if crop is None or isinstance(crop, int):
        crop = (crop, crop) if isinstance(crop, int) else size if isinstance(size, tuple) else None
    mean, std = None, None
    if own.get("do_normalize", bool(own.get("image_mean"))):
        # The configuration speaks of pixels of 0 to 255 that are multiplied by a factor first.
        factor = 255 * float(own.get("rescale_factor", 1 / 255)) if own.get("do_rescale", True) else 255.0
        mean, std = (tuple(float(v) / factor for v in own[key]) for key in ("image_mean", "image_std"))
    square = _size(getattr(config, "image_size", None))
    own_size = (square, square) if isinstance(square, int) else square
    return Preparation(
        mean=mean,
        std=std,
        resize=size,
        crop=crop or own_size,
        exact=crop is not None or own_size is not None,
        bicubic=own.get("resample") == _BICUBIC,
        class_names=names,
    )


def _size(value: Any) -> int | Size | None:
    """One number is the shorter side."""
    if isinstance(value, dict):
        if "shortest_edge" in value:
            return int(value["shortest_edge"])
        return (int(value["height"]), int(value["width"])) if {"height", "width"} <= value.keys() else None
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    return value if isinstance(value, int) else None


def _unfit(folder: Path, error: Exception) -> UserError:
    return UserError(f"expected an image classifier of transformers in {folder}, got: {first_line(error)[:300]}")
