"""The images of a run, from its own evidence, and where that has not all of them from their data set: ids and labels in
memory, pixels read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from robusteval.auditing.hardware import DTYPES
from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.stored import StoredPixels
from robusteval.results.files import read_arrays, read_frame
from robusteval.results.keeping import kept_ids
from robusteval.results.records import CLEAN
from robusteval.results.run import Run
from robusteval.results.shards import planned_files, planned_shards
from robusteval.results.tables import IMAGES_TABLE


@dataclass(frozen=True)
class RunImages:
    """The images of a run. ids: of all of them, in the order of its parts; there: those whose pixels can be read; kept:
    the ids of those that the run keeps with their witnesses, None for all."""

    ids: tuple[str, ...]
    there: Images
    kept: frozenset[str] | None = None

    @property
    def whole(self) -> bool:
        return len(self.there) == len(self.ids)


def run_images(run: Run, data: Images | None = None) -> RunImages:
    """The images of a run; those that it does not keep from `data`, as far as they are there. Raises UserError, also
    when they are read, where one is missing that is to be kept, or has another shape or type than the first."""
    manifest = run.manifest
    planned = [p for p in planned_files(manifest, manifest.stage(CLEAN)) if p.table is IMAGES_TABLE]
    rows = [read_frame(run.path / p.path)[["image_id", "label"]] for p in planned]
    every = pd.concat(rows, ignore_index=True)
    ids, labels = tuple(every["image_id"]), torch.tensor(every["label"].to_numpy())
    kept = kept_ids(manifest, ids)
    own = torch.tensor([kept is None or i in kept for i in ids], dtype=torch.bool)
    shard_of = torch.repeat_interleave(torch.tensor([len(shard) for shard in rows]))
    pixels: StoredPixels | None = _stored(run, ids, shard_of, own.nonzero()[:, 0]) if own.any() else None
    if data is None or own.all():
        content = pixels or torch.empty(0, *manifest.model.input_shape, dtype=DTYPES[manifest.dtype])
    else:
        own, content = _with_those_of(data, ids, own, pixels, DTYPES[manifest.dtype])
    names = tuple(i for i, there in zip(ids, own.tolist(), strict=True) if there)
    there = Images(names, content, labels[own], manifest.data.class_names, manifest.data.source)
    return RunImages(ids, there, kept)


def _stored(run: Run, ids: tuple[str, ...], shard_of: Tensor, rows: Tensor) -> StoredPixels:
    """The pixels of some images, by their rows in the parts, which lie in the run's files."""
    files = [run.array_file(CLEAN, shard) for shard in planned_shards(run.manifest, run.manifest.stage(CLEAN))]

    def read(places: Tensor) -> Tensor:
        found: list[Tensor] = []
        for at, count in zip(*torch.unique_consecutive(shard_of[places], return_counts=True), strict=True):
            names = [ids[i] for i in places[len(found) : len(found) + int(count)].tolist()]
            found += map(torch.tensor, _read(files[int(at)], names))
        if any(image.shape != shape or image.dtype != dtype for image in found):
            raise UserError(f"expected images (C, H, W) of one shape and type in witnesses/{CLEAN}, got others")
        return torch.stack(found) if found else torch.empty(0, *shape, dtype=dtype)

    first = torch.tensor(_read(files[int(shard_of[rows[0]])], [ids[int(rows[0])]])[0])
    shape, dtype = first.shape, first.dtype
    if len(shape) != 3:
        raise UserError(f"expected images (C, H, W) of one shape and type in witnesses/{CLEAN}, got others")
    return StoredPixels(read, rows, (shape[0], shape[1], shape[2]), dtype=dtype)


def _read(file: Path, names: list[str]) -> list[NDArray[Any]]:
    arrays = read_arrays(file, frozenset(names)) if file.is_file() else {}
    missing = next((name for name in names if name not in arrays), None)
    if missing is not None:
        raise UserError(f"expected every image that is kept in witnesses/{CLEAN}, got none of {missing}")
    return [arrays[name] for name in names]


def _with_those_of(
    data: Images, ids: tuple[str, ...], own: Tensor, pixels: StoredPixels | None, dtype: torch.dtype
) -> tuple[Tensor, StoredPixels]:
    """Which of the images are in the run, (N,) bool `own`, or in `data`, and the pixels of these."""
    place = {image_id: i for i, image_id in enumerate(data.ids)}
    theirs = torch.tensor([place.get(i, -1) for i in ids])
    in_run = own.long().cumsum(0) - 1
    if pixels is not None and pixels.shape[1:] != tuple(data.shape):
        raise UserError(f"expected images of {tuple(pixels.shape[1:])} in {data.source}, got {tuple(data.shape)}")

    def read(places: Tensor) -> Tensor:
        found = torch.empty(len(places), *data.shape, dtype=dtype)
        ours = own[places]
        if pixels is not None and ours.any():
            found[ours] = pixels[in_run[places[ours]]].read().to(dtype)
        if not ours.all():
            found[~ours] = data.select(theirs[places[~ours]]).pixels.to("cpu", dtype)
        return found

    known = own | (theirs >= 0)
    return known, StoredPixels(read, known.nonzero()[:, 0], data.shape, dtype=dtype)
