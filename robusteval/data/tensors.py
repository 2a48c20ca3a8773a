"""Tensors of images and labels that torch.save wrote, read as data: nothing is unpickled, imported or called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.memory import is_out_of_memory
from robusteval.core.reading import Reading
from robusteval.data.arrays import check_array, images_of_arrays
from robusteval.data.pairs import pair_of
from robusteval.data.wanted import Wanted
from robusteval.files.contents import kind_and_advice, program_in
from robusteval.files.pickled import CallsError, Inert, Name, Rebuild
from robusteval.files.pickled_arrays import PickledArray, plain_calls
from robusteval.files.pickled_tensors import PickledTensor, rebuilt
from robusteval.files.torch_files import read_file

_OF_NUMPY = (torch.float16, torch.float32, torch.float64)
"""Floating points that NumPy has, too."""
_STEP = "save them with torch.save((images, labels), FILE)"


def read_tensors(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """A pair (images, labels) of tensors or NumPy arrays, or a dict with both under the names that pair_of knows, as
    images_of_arrays reads them. Raises UserError."""
    content = _load(spec)
    if isinstance(content, Inert):
        raise UserError(
            f"expected plain tensors in {spec}, got a whole object ({content.kind}), which would have to run code to be"
            f" loaded; {_STEP}"
        )
    if isinstance(content, dict):
        x_name, y_name = pair_of(content, spec, reading)
        x, y = content[x_name], content[y_name]
    elif isinstance(content, tuple | list) and len(content) == 2:
        x_name, (x, y) = "images", content
        if reading.image_column or reading.label_column or reading.split:
            raise UserError(f"expected no --split and no columns of {spec}, a pair of tensors without names, got them")
    else:
        got = f"{len(content)} parts" if isinstance(content, tuple | list) else _called(content)
        raise UserError(f"expected images and labels in {spec}, got {got}; {_STEP}")
    pixels, labels = _array(x, x_name, spec), _labels(y, spec)
    return images_of_arrays(pixels, labels, spec, wanted, reading, x_name)


def _load(spec: str) -> Any:
    path = Path(spec)
    limits.check_file(spec, limits.FILE_BYTES, "a file of tensors")
    try:
        if program := program_in(path, "tensors of torch.save"):
            raise UserError(f"expected plain tensors in {spec}, got {program.what}; {_STEP}")
        return read_file(path, _calls())
    except UserError:
        raise
    except CallsError as error:
        raise UserError(
            f"expected plain tensors in {spec}, got a file that would have to run code to be loaded ({error}); {_STEP}"
        ) from error
    except Exception as error:  # a file that is none raises all kinds
        if is_out_of_memory(error):
            raise
        raise UserError(f"expected a file of torch.save in {spec}, got {kind_and_advice(path)[0]}; {_STEP}") from error


def _calls() -> Rebuild:
    """What torch's calls for tensors and NumPy's for arrays describe."""
    plain = plain_calls()

    def described(called: Name, arguments: tuple[Any, ...]) -> Any:
        made = rebuilt(called, arguments)
        return plain(called, arguments) if made is None else made

    return described


def _array(found: Any, name: str, spec: str) -> NDArray[Any]:
    """What is described, as an array. Raises UserError for what is no dense tensor with numbers in it."""
    try:
        if isinstance(found, PickledArray):
            return found.numbers()
        if not isinstance(found, PickledTensor):
            raise UserError(f"expected a tensor {name} in {spec}, got {_called(found)}; {_STEP}")
        if found.odd or found.shape is None:
            raise UserError(f"expected a dense tensor {name} in {spec}, got one that is {found.odd}; {_STEP}")
        check_array(found.shape, f"{name} of {spec}")
        dense = found.numbers()
        known = dense.dtype in _OF_NUMPY or not dense.is_floating_point()
        return np.asarray((dense if known else dense.float()).numpy())
    except (RuntimeError, TypeError, ValueError) as error:  # a type or strides that torch does not take
        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise UserError(
            f"expected the numbers of {name} in {spec}, got a damaged file ({first_line(error)})"
        ) from error


def _labels(found: Any, spec: str) -> NDArray[Any]:
    whole = isinstance(found, list) and found and all(type(v) is int and abs(v) < 2**63 for v in found)
    return np.array(found, np.int64) if whole else _array(found, "labels", spec)


def _called(found: Any) -> str:
    """A tensor, an array, or an object by the name of its class."""
    if isinstance(found, Inert) and found.kind is not None:
        return str(found.kind)
    if isinstance(found, Name):
        return str(found)
    names = {PickledTensor: "Tensor", PickledArray: "ndarray"}
    return names.get(type(found), type(found).__name__)
