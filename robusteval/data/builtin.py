"""Data that comes with libraries: scikit-learn's digits and foolbox's samples."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.decode import FORMATS
from robusteval.data.sizes import of_one_size
from robusteval.data.splits import chosen_split
from robusteval.data.wanted import Wanted, taken

_TRAIN = 1297
_SPLIT_SEED = 20181
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_DIGITS = tuple("0123456789")
_SAMPLES: dict[str, tuple[str, ...]] = {
    "cifar10": _CIFAR,
    "mnist": _DIGITS,
    "fashionMNIST": _FASHION,
    "cifar100": (),
    "imagenet": (),
}


def read_digits(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """1,797 real 8x8 digits, split once into 1,297 for training and 500 for testing; grey levels 0..16 over 16."""
    split, _ = chosen_split({"test": None, "train": None}, reading.split, "digits", "test")
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(data.target))
    there = order[:_TRAIN] if split == "train" else order[_TRAIN:]
    chosen = taken(there, wanted.rows([f"digits-{i:04d}" for i in there], spec))
    grey = (data.images[chosen] / 16).astype(np.float32)
    if reading.resizes:
        named = ((f"image {i} of {spec}", image) for i, image in zip(chosen, grey, strict=True))
        pixels = of_one_size(named, spec, reading)
    else:
        pixels = torch.from_numpy(grey)[:, None]
    labels = torch.from_numpy(data.target[chosen]).long()
    return Images(tuple(f"digits-{i:04d}" for i in chosen), pixels, labels, _DIGITS, spec)


def read_foolbox(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """The 20 images that ship inside foolbox; those of ImageNet resized to 224x224 as foolbox does."""
    name = spec.partition(":")[2]
    if name not in _SAMPLES:
        raise UserError(f"expected foolbox:NAME, got '{spec}' ({nearest(name, _SAMPLES)})")
    package = find_spec("foolbox")
    assert package is not None
    assert package.origin is not None
    there = sorted((Path(package.origin).parent / "data").glob(f"{name}_*"))
    paths = [there[i] for i in wanted.rows([path.stem for path in there], spec)]
    size = (224, 224) if name == "imagenet" else None
    named = ((path.name, np.asarray(_opened(path, size))) for path in paths)
    pixels = of_one_size(named, spec, reading)
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in paths])
    return Images(tuple(path.stem for path in paths), pixels, labels, _SAMPLES[name], spec)


def _opened(path: Path, size: tuple[int, int] | None) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    return image.resize(size) if size else image
