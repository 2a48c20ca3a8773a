"""Tensors of images and labels that torch.save wrote, read without executing anything."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.memory import is_out_of_memory
from robusteval.core.reading import Reading
from robusteval.data.arrays import check_array, images_of_arrays
from robusteval.data.pairs import pair_of
from robusteval.data.wanted import Wanted

_PICKLE_BYTES = 8 * 2**20
_MEMBERS = 10_000
_UNPACKED = 16
"""Times its size; torch stores tensors as they are, 1 time."""
_STEP = "save them with torch.save((images, labels), FILE)"


def read_tensors(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """A pair (images, labels), or a dict with both under the names that pair_of knows, as images_of_arrays reads
    them. Raises UserError."""
    content = _load(spec)
    if isinstance(content, dict):
        held = {key: value for key, value in content.items() if isinstance(key, str)}
        x_name, y_name = pair_of(held, spec, reading)
        x, y = held[x_name], held[y_name]
    elif isinstance(content, tuple | list) and len(content) == 2:
        x_name, (x, y) = "images", content
        if reading.image_column or reading.label_column or reading.split:
            raise UserError(f"expected no --split and no columns of {spec}, a pair of tensors without names, got them")
    else:
        got = f"{len(content)} parts" if isinstance(content, tuple | list) else type(content).__name__
        raise UserError(f"expected images and labels in {spec}, got {got}; {_STEP}")
    labels = torch.tensor(y) if isinstance(y, list) and y and all(type(v) is int and abs(v) < 2**63 for v in y) else y
    return images_of_arrays(_array(x, x_name, spec), _array(labels, "labels", spec), spec, wanted, reading, x_name)


def _load(spec: str) -> Any:
    limits.check_file(spec, limits.FILE_BYTES, "a file of tensors")
    _check_zip(spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(spec, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises all kinds for a file that is not its own
        if is_out_of_memory(error):
            raise
        calls = isinstance(error, pickle.UnpicklingError)
        got = (
            "a file that would have to run code to be loaded" if calls else f"a damaged one ({first_line(error)[:80]})"
        )
        raise UserError(f"expected plain tensors in {spec}, got {got}; {_STEP}") from error


def _check_zip(spec: str) -> None:
    """Raises UserError for what torch.save does not write: no zip, or one that unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(spec) as archive:
            members = archive.infolist()
    except Exception as error:  # zipfile raises all kinds for what is no zip
        raise UserError(
            f"expected a file of torch.save (a zip, from torch 1.6 on) in {spec}, got: {first_line(error)}; {_STEP}"
        ) from error
    limits.check_limit_of(spec, len(members), _MEMBERS, "members of the zip")
    most = max(_UNPACKED * sum(m.compress_size for m in members), 2**20)
    limits.check_limit_of(spec, sum(m.file_size for m in members), most, "bytes that its zip unpacks to")
    pickles = [m.file_size for m in members if m.filename.endswith(".pkl")]
    limits.check_limit_of(spec, max(pickles, default=0), _PICKLE_BYTES, "bytes in a pickle")


def _array(found: Any, name: str, spec: str) -> NDArray[Any]:
    """A tensor as an array. Raises UserError for what is no dense tensor with numbers in it."""
    if not isinstance(found, Tensor):
        raise UserError(f"expected a tensor {name} in {spec}, got {type(found).__name__}; {_STEP}")
    if found.layout != torch.strided or found.is_quantized or found.is_meta or found.is_nested:
        raise UserError(f"expected a dense tensor {name} in {spec}, got another; {_STEP}")
    check_array(tuple(found.shape), f"{name} of {spec}")
    dense = found.detach().resolve_neg().resolve_conj()
    if dense.is_floating_point() and dense.dtype not in (torch.float16, torch.float32, torch.float64):
        dense = dense.float()
    return np.asarray(dense.numpy())
