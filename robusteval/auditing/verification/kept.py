"""The images of a run, from its own evidence: ids and labels in memory, pixels read when they are asked for."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.core.stored import StoredPixels
from robusteval.results.files import read_arrays, read_frame
from robusteval.results.records import CLEAN
from robusteval.results.run import Run
from robusteval.results.shards import planned_files, planned_shards
from robusteval.results.tables import IMAGES_TABLE


def kept_images(run: Run) -> Images:
    """Raises UserError, also when they are read, where one is missing or has another shape or type than the first."""
    manifest = run.manifest
    planned = [p for p in planned_files(manifest, manifest.stage(CLEAN)) if p.table is IMAGES_TABLE]
    rows = [read_frame(run.path / p.path)[["image_id", "label"]] for p in planned]
    files = [run.array_file(CLEAN, shard) for shard in planned_shards(manifest, manifest.stage(CLEAN))]
    file_of = torch.tensor([len(own) for own in rows]).cumsum(0)
    every = pd.concat(rows, ignore_index=True)
    ids, labels = tuple(every["image_id"]), torch.tensor(every["label"].to_numpy())

    def read(places: Tensor) -> Tensor:
        found: list[Tensor] = []
        owners = torch.searchsorted(file_of, places, right=True)
        for at, count in zip(*torch.unique_consecutive(owners, return_counts=True), strict=True):
            names = [ids[i] for i in places[len(found) : len(found) + int(count)].tolist()]
            arrays = read_arrays(files[int(at)], frozenset(names))
            missing = next((name for name in names if name not in arrays), None)
            if missing is not None:
                raise UserError(f"expected every image in witnesses/{CLEAN}, got none of {missing}")
            found += [torch.tensor(arrays[name]) for name in names]
        if any(image.shape != shape or image.dtype != dtype for image in found):
            raise UserError(f"expected images (C, H, W) of one shape and type in witnesses/{CLEAN}, got others")
        return torch.stack(found) if found else torch.empty(0, *shape, dtype=dtype)

    first = read_arrays(files[0], {ids[0]}).get(ids[0])
    if first is None:
        raise UserError(f"expected every image in witnesses/{CLEAN}, got none of {ids[0]}")
    shape, dtype = torch.tensor(first).shape, torch.tensor(first).dtype
    if len(shape) != 3:
        raise UserError(f"expected images (C, H, W) of one shape and type in witnesses/{CLEAN}, got others")
    channels, height, width = shape
    pixels = StoredPixels(read, torch.arange(len(ids)), (channels, height, width), dtype=dtype)
    return Images(ids, pixels, labels, manifest.data.class_names, manifest.data.source)
