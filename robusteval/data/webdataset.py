"""WebDataset: tar files in which the members of one name, up to its first dot, are one sample: 17.jpg and 17.cls."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from robusteval.core import limits
from robusteval.core.errors import UserError, first_line
from robusteval.core.images import Images
from robusteval.core.numbers import is_whole
from robusteval.core.reading import Reading
from robusteval.data.shards import names_in, shards_of
from robusteval.data.sizes import of_one_size
from robusteval.data.wanted import Wanted

OF_TARS = frozenset({"resize", "crop", "interpolation", "split", "image_column", "label_column"})
"""What can be asked of them."""
_IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff", "gif")
_KEYS = ("label", "cls", "class")
_JSON_BYTES = 2**20


class _Bounded(io.FileIO):
    """A file of which no more is read at a time than an image may be long, whatever a header says of the next one."""

    def read(self, size: int | None = -1, /) -> bytes:
        limits.check_limit_of(f"a member of {self.name}", -1 if size is None else size, limits.IMAGE_BYTES, "bytes")
        return super().read(size)


def holds_tars(spec: str) -> bool:
    """Whether a path is a tar, or a folder with some and no other folders, which would be classes."""
    if os.path.isdir(spec):
        folders, files = names_in(Path(spec))
        return not folders and any(name.lower().endswith(".tar") for name in files)
    return spec.lower().endswith(".tar")


def read_tars(spec: str, wanted: Wanted, reading: Reading) -> Images:
    """The samples of a tar or of the shards in a folder, in their order. The image is the member with the suffix of
    reading.image_column, else of an image; the label a whole number in `cls`, or at `label` in `json`, else where
    reading.label_column says: a suffix, or a key in `json`. The id of an image is its name in its tar. Nothing is
    unpacked onto the disk. Raises UserError."""
    paths = shards_of(Path(spec), (".tar",), reading.split) if os.path.isdir(spec) else [Path(spec)]
    ids: list[str] = []
    labels: list[int] = []
    several = len(paths) > 1
    asked = (reading.image_column, reading.label_column)
    suffixes = {*_IMAGES, "cls", "json", *(name.lower() for name in asked if name is not None)}

    def images() -> Iterator[tuple[str, bytes]]:
        for path in paths:
            for key, members in _samples(path, suffixes):
                where, name = f"{key} of {path}", called(path, key)
                if drawn is not None and name not in drawn:
                    continue
                labels.append(_label(members, where, reading))
                ids.append(name)
                yield where, _image(members, where, reading)
                if len(ids) == wanted.limit:
                    return

    def called(path: Path, key: str) -> str:
        return f"{path.name}/{key}" if several else key

    drawn = None
    if wanted.sample is not None:
        there = [called(path, key) for path in paths for key, _ in _samples(path, ())]
        drawn = {there[i] for i in wanted.rows(there, spec)}
    pixels = of_one_size(images(), spec, reading)
    return Images(tuple(ids), pixels, torch.tensor(labels), source=spec)


def _samples(path: Path, suffixes: Collection[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each sample with its members by suffix, whose content is read of those suffixes; members of one sample follow
    one another."""
    limits.check_file(path, limits.FILE_BYTES, "a tar")
    key, members = "", dict[str, bytes]()
    try:
        # Unpacked tars alone: what is packed would have no known size.
        with _Bounded(path) as file, tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
            count = 0
            while (member := archive.next()) is not None:
                count += 1
                limits.check_limit_of(path, count, limits.FOLDER_ENTRIES, "members")
                # They would grow with the file.
                archive.members = []  # type: ignore[attr-defined]
                name = member.name.removeprefix("./")
                folder, _, own = name.rpartition("/")
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or own.startswith(".") or "." not in own:
                    continue
                stem, _, suffix = own.partition(".")
                found = f"{folder}/{stem}" if folder else stem
                if found != key and members:
                    yield key, members
                    members = {}
                key = found
                suffix = suffix.lower()
                members[suffix] = _content(archive, member, path) if suffix in suffixes else b""
            _check_end(archive)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tarfile raises all kinds for a file that is not its own
        raise UserError(f"expected a tar that is not packed in {path}, got: {first_line(error)}") from error
    if members:
        yield key, members


def _check_end(archive: tarfile.TarFile) -> None:
    """tarfile takes a header that is damaged for the end, which is zeros or that of the file."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise ValueError(f"no header of a member at byte {archive.offset:,}")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    limits.check_limit_of(f"{member.name} of {path}", member.size, limits.IMAGE_BYTES, "bytes")
    held = archive.extractfile(member)
    return held.read() if held else b""


def _image(members: dict[str, bytes], where: str, reading: Reading) -> bytes:
    suffixes = (reading.image_column.lower(),) if reading.image_column else _IMAGES
    found = [suffix for suffix in suffixes if suffix in members]
    if len(found) != 1:
        got = ", ".join(members)
        raise UserError(f"expected one image in {where}, got {got}; name its suffix with --image-column")
    return members[found[0]]


def _label(members: dict[str, bytes], where: str, reading: Reading) -> int:
    asked = reading.label_column
    if asked is not None and asked.lower() in members:
        return _whole(members[asked.lower()], where)
    if asked is None and "cls" in members:
        return _whole(members["cls"], where)
    held = _described(members.get("json", b""), where)
    keys_of_labels = (asked,) if asked is not None else _KEYS
    for key in keys_of_labels:
        label = held.get(key)
        if type(label) is int and abs(label) < 2**63:
            return label
    words = next((held[key] for key in keys_of_labels if isinstance(held.get(key), str)), None)
    if words is not None:
        raise _no_number(words, where)
    keys = ", ".join([*members, *(f"json: {key}" for key in list(held)[:10])])
    raise UserError(
        f"expected a whole number in cls, or as label in json, of {where}, got {keys}; name its suffix or its key with "
        "--label-column"
    )


def _whole(content: bytes, where: str) -> int:
    text = content.decode("latin-1").strip()
    if not is_whole(text) or len(text) > 18:
        raise _no_number(text, where)
    return int(text)


def _no_number(text: str, where: str) -> UserError:
    """What a label in words is told; tars have no list of all their classes."""
    return UserError(
        f"expected a whole number from 0 as the label of {where}, got '{text[:40]}'; name a member or a key with "
        "numbers with --label-column, or unpack it into a folder per class"
    )


def _described(content: bytes, where: str) -> dict[str, Any]:
    limits.check_limit_of(f"json of {where}", len(content), _JSON_BYTES, "bytes")
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        return found if isinstance(found, dict) else {}
    return {}
