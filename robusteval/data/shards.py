"""Which files of a folder are the shards of a split: train-00000-of-00004.parquet, or train/0.parquet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from robusteval.core import limits
from robusteval.core.errors import UserError
from robusteval.data.splits import chosen_split, split_of

_OF = re.compile(r"^(?P<name>.*?)-(?P<at>\d+)-of-(?P<of>\d+)$")
_DEPTH = 3
_FOLDERS = 20
_WHOLE = "the folder"


def shards_of(root: Path, suffixes: tuple[str, ...], split: str | None) -> list[Path]:
    """The files of a split in their order, from the folder or those below it. A split is what the folder of a shard is
    called, or what its name begins with. Raises UserError where there are several and none is asked for, and where one
    of "00000-of-00004" is missing."""
    found: dict[str, list[Path]] = {}
    for path in sorted(_below(root, suffixes)):
        found.setdefault(_split_of_shard(path.relative_to(root)), []).append(path)
    if not found:
        raise UserError(f"expected {' or '.join(suffixes)} files in {root}, got none")
    chosen = found[_WHOLE] if len(found) == 1 and _WHOLE in found and split is None else None
    shards = chosen or chosen_split(found, split, root)[1]
    _check_whole(shards, root)
    return shards


def holds_shards(root: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether there are some in a folder, or in a few folders in it; classes of images are more."""
    folders, files = names_in(root)
    if any(name.lower().endswith(suffixes) for name in files):
        return True
    return 0 < len(folders) <= _FOLDERS and any(True for _ in _below(root, suffixes))


def names_in(root: Path) -> tuple[list[str], list[str]]:
    """The folders and the files in a folder; none where it is no folder or cannot be read."""
    folders: list[str] = []
    files: list[str] = []
    with suppress(OSError, ValueError), os.scandir(root) as entries:
        for entry in islice(entries, limits.FOLDER_ENTRIES):
            (folders if entry.is_dir() else files).append(entry.name)
    return folders, files


def _below(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files in a folder and a few folders below it; hidden ones and caches are none."""
    todo, seen = [root], 0
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"expected a folder that can be read, got {folder}: {error.strerror}") from error
        for entry in found:
            seen += 1
            limits.check_limit_of(root, seen, limits.FOLDER_ENTRIES, "files and folders")
            if entry.name.startswith((".", "cache-")):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if len(path.relative_to(root).parts) < _DEPTH:
                    todo.append(path)
            elif entry.name.lower().endswith(suffixes):
                yield path


def _split_of_shard(path: Path) -> str:
    """By the nearest folder that is named as a split, else by the first word of its name that is one."""
    for part in reversed(path.parts[:-1]):
        if split_of(part):
            return part
    numbered = _OF.match(path.stem)
    words = re.split(r"[-_.]", numbered["name"] if numbered else path.stem)
    return next((word for word in words if split_of(word)), path.parts[0] if len(path.parts) > 1 else _WHOLE)


def _check_whole(shards: list[Path], root: Path) -> None:
    """Raises UserError where shards lie in several folders, or count themselves and are not all there."""
    folders = sorted({str(path.parent) for path in shards})
    if len(folders) > 1:
        raise UserError(
            f"expected the shards of one split of {root} in one folder, got {', '.join(folders[:5])}: name one"
        )
    numbered = [match for path in shards if (match := _OF.match(path.stem))]
    if not numbered:
        return
    sets = {(match["name"], int(match["of"][:9])) for match in numbered}
    there = sorted(int(match["at"][:9]) for match in numbered)
    if len(numbered) != len(shards) or len(sets) != 1 or len(there) != min(sets)[1] or there[-1] != len(there) - 1:
        names = ", ".join(path.name for path in shards[:4])
        raise UserError(f"expected all shards of one split in {folders[0]}, got {len(shards)}: {names}")
