"""Arrays of images and labels in an .npz file, or in two .npy files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from robusteval.core import limits, stored
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.reading import Reading
from robusteval.data.arrays import check_array, images_of_arrays
from robusteval.data.pairs import pair_of
from robusteval.data.row_files import RowFile
from robusteval.data.wanted import Wanted

_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""The later format is for names of fields."""
_BESIDE = ("y", "labels", "label", "targets", "target")


def read_npz(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """The arrays that pair_of finds, as images_of_arrays reads them."""
    called, x, y = _arrays(spec, reading)
    return images_of_arrays(x, y, spec, wanted, reading, called)


def read_npy(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """An .npy file of images; its labels are in the file that reading.label_column names, else in one beside it whose
    name has `labels` for `images` or `y` for `x`, or is labels.npy, y.npy or targets.npy."""
    path = Path(spec)
    x, y = _npy(path, stored.IN_MEMORY), _npy(_labels_beside(path, reading))
    assert isinstance(y, np.ndarray)
    return images_of_arrays(x, y, spec, wanted, reading)


def _labels_beside(path: Path, reading: Reading) -> Path:
    if reading.label_column is not None:
        return path.with_name(Path(reading.label_column).name)
    stem = path.stem
    names = [re.sub(rf"(?i)(?<![a-z]){x}(?![a-z])", y, stem) for x, y in (("images?", "labels"), ("x", "y"))]
    names += [re.sub(r"(?i)(?<![a-z])(imgs|data|inputs)(?![a-z])", word, stem) for word in ("labels", "targets")]
    names += [re.sub(r"(?i)^x(?=train|test|val)", "y", stem), f"{stem}_labels", f"{stem}_y", *_BESIDE]
    tried = [path.with_name(f"{name}.npy") for name in dict.fromkeys(names) if name != stem]
    found = next((other for other in tried if other.is_file()), None)
    if found is None:
        raise UserError(
            f"expected the labels of {path} beside it, in {tried[0].name} or {tried[-5].name}.npy, got neither; name "
            "the file with --label-column"
        )
    return found


def _npy(path: Path, least: float = math.inf) -> NDArray[Any] | RowFile:
    """The array in a file; of more than `least` numbers its rows, to be read when they are asked for."""
    size = limits.check_file(path, limits.FILE_BYTES, "an .npy file")
    try:
        with path.open("rb") as file:
            shape, by_column, dtype = _header(file, str(path))
            count = math.prod(shape)
            if count <= least or by_column or dtype.hasobject:
                check_array(shape, str(path))
                file.seek(0)
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
            limits.check_all_numbers(path, count, size)
            if size - file.tell() < count * dtype.itemsize:
                raise UserError(f"expected {count:,} numbers in {path}, got {size:,} bytes: it is not whole")
            return RowFile(path, file.tell(), shape, dtype)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # numpy raises all kinds for a file that is not its own
        raise UserError(f"expected an .npy file of plain numbers in {path}, got{_problem(error)}") from error


def _arrays(spec: str, reading: Reading) -> tuple[str, NDArray[Any], NDArray[Any]]:
    limits.check_file(spec, limits.FILE_BYTES, "an .npz file")
    try:
        archive = np.load(spec, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(
                f"expected an .npz file with arrays x and y in {spec}, got a single array, as in an .npy; name it so, "
                "with its labels in another beside it"
            )
        with archive:
            x, y = pair_of(archive.files, spec, reading)
            return x, _array(archive, x, spec), _array(archive, y, spec)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # numpy raises all kinds for a file that is not its own
        raise UserError(f"expected an .npz file of plain arrays in {spec}, got{_problem(error)}") from error


def _array(archive: np.lib.npyio.NpzFile, key: str, spec: str) -> NDArray[Any]:
    """One array, unpacked only if its header keeps to the limits."""
    members = archive.zip
    assert members is not None
    member = key if key in members.namelist() else f"{key}.npy"
    limits.check_limit_of(f"{key} of {spec}", members.getinfo(member).file_size, limits.FILE_BYTES, "bytes")
    with members.open(member) as file:
        check_array(_header(file, f"{key} of {spec}")[0], f"{key} of {spec}")
    return np.asarray(archive[key])


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of an array, whether it lies column by column, and its type."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise UserError(f"expected plain numbers in {where}, got an array of format {version}")
    shape, by_column, dtype = _HEADERS[version](file)
    return tuple(shape), bool(by_column), dtype


def _problem(error: Exception) -> str:
    """What numpy says, in a line; of an array of Python objects, what to write instead."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    if "allow_pickle" in text:
        return " an array of Python objects, which would have to be unpickled; save text as array.astype(str)"
    return f": {text}"
