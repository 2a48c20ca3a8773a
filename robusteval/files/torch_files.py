"""The two layouts of torch.save: a zip with a pickle and a member for each storage, and the older row of pickles."""

from __future__ import annotations

import io
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from robusteval.core.errors import UserError
from robusteval.core.foreign import one_line
from robusteval.core.limits import check_limit_of, lifted
from robusteval.files.contents import PICKLE_BYTES, is_zip
from robusteval.files.pickled import OPERATIONS, CallsError, Rebuild, TooManyError, read_pickle
from robusteval.files.pickled_tensors import DamagedError, Storage, rebuilt, storage_of

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the older layout."""


class NotTorchError(ValueError):
    """A pickle that torch did not write."""


def read_file(path: Path, rebuild: Rebuild = rebuilt) -> Any:
    """What torch.save wrote; tensors, and all else that `rebuild` knows, as descriptions. Raises UserError beyond a
    limit, CallsError, NotTorchError, and errors of all kinds for what is no such file."""
    most = sys.maxsize if lifted() else OPERATIONS
    try:
        return _zipped(path, rebuild, most) if is_zip(path) else _older(path, rebuild, most)
    except TooManyError:
        check_limit_of(path, most + 1, most, "operations in its pickles")
        raise


def _zipped(path: Path, rebuild: Rebuild, most: int) -> Any:
    archive = zipfile.ZipFile(path)  # stays open for the storages, which are read where they are wanted
    names = archive.namelist()
    pickles = [name for name in names if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or len(set(names)) < len(names):
        raise UserError(f"expected one checkpoint in {path}, got a zip with several members of the same name")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder").strip() == b"big":
        raise UserError(f"expected numbers with the low byte first in {path}, got the high byte first")

    @cache
    def member(key: str) -> bytearray:
        try:
            return bytearray(archive.read(f"{root}data/{key}"))
        except Exception as error:  # zipfile raises all kinds for what is damaged
            raise DamagedError(f"storage {one_line(key, 40)} cannot be read") from error

    def persistent(saved: Any) -> Storage:
        _, kind, key, *_ = saved
        return storage_of(kind, key, member)

    return read_pickle(io.BytesIO(archive.read(pickles[0])), rebuild, persistent, most)


def _older(path: Path, rebuild: Rebuild, most: int) -> Any:
    with path.open("rb") as opened:
        file = io.BytesIO(opened.read() if lifted() else opened.read(PICKLE_BYTES))
    kinds: dict[str, Storage] = {}
    places: dict[str, tuple[int, int]] = {}

    @cache
    def stored(key: str) -> bytearray:
        if key not in places:
            raise DamagedError(f"storage {one_line(key, 40)} is not there")
        with path.open("rb") as opened:
            opened.seek(places[key][0])
            return bytearray(opened.read(places[key][1]))

    def persistent(saved: Any) -> Any:
        if saved[0] == "module":
            return saved[1]
        _, kind, key, _, _, view = (*saved, None)[:6]
        kinds.setdefault(key, storage_of(kind, key, stored))
        return storage_of(kind, key, stored, view)

    def following() -> Any:
        return read_pickle(file, rebuild, persistent, most)

    try:
        if following() != MAGIC:
            raise NotTorchError
        _, _, content, keys = following(), following(), following(), following()
    except CallsError:
        raise
    except Exception:
        check_limit_of(path, file.tell() + (file.tell() == PICKLE_BYTES), PICKLE_BYTES, "bytes in its pickles")
        raise
    places.update(_places(path, file.tell(), [kinds[key] for key in keys]))
    return content


def _places(path: Path, first: int, storages: list[Storage]) -> dict[str, tuple[int, int]]:
    """Where the numbers of storages begin and how many bytes they are; each is preceded by their number."""
    found = {}
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        for storage in storages:
            file.seek(first)
            length = int.from_bytes(file.read(8), "little", signed=True) * storage.dtype.itemsize
            found[storage.key] = (first + 8, length)
            first += 8 + length
            if length < 0 or first > size:
                raise DamagedError
    return found
