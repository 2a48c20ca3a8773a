"""Which images a run keeps as evidence: of all, of some drawn by its seed, or of none. Imports no torch.

What later stages of an audit need of earlier ones lies in needed/<stage>/<shard>.safetensors until it is finished.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from robusteval.results.files import Arrays
from robusteval.results.manifest import Manifest
from robusteval.results.records import CleanRecord, MetricRecord, StageRecord

SAMPLE = 1000
"""Images whose own images and witnesses are kept with `--evidence sample`."""


def kept_ids(manifest: Manifest, ids: Iterable[str]) -> frozenset[str] | None:
    """Of all images of a run those that are kept, None for all: those that come first when the ids are ordered by a
    hash of seed and id, the same in whatever order they are."""
    if manifest.images_kept == "all":
        return None
    if manifest.images_kept == "none":
        return frozenset()
    return frozenset(heapq.nsmallest(SAMPLE, ids, key=lambda i: _place(manifest.seed, i)))


def number_left_out(manifest: Manifest) -> int:
    """How many images of a run are not kept."""
    count = manifest.data.count
    return {"all": 0, "sample": max(0, count - SAMPLE), "none": count}[manifest.images_kept]


def kept_arrays(record: StageRecord, arrays: Arrays, kept: frozenset[str] | None) -> Arrays:
    """Of the arrays of a shard those that are kept. What a metric leaves of the whole set belongs to no image: it is
    kept where any image is."""
    if kept is None or (kept and isinstance(record, MetricRecord)):
        return arrays
    return {name: array for name, array in arrays.items() if _image_of(record, name) in kept}


def needed_later(manifest: Manifest, stage: str) -> bool:
    """Whether a later stage takes the images that this one leaves."""
    return any(record.rests_on(stage) for record in manifest.stages)


def _image_of(record: StageRecord, name: str) -> str:
    return name if isinstance(record, CleanRecord) else name.partition("/")[2]


def _place(seed: int, image_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1fevidence\x1f{image_id}".encode()).digest()
