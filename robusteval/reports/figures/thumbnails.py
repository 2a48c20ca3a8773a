"""Small images for the report: an image, its closest witness, and what was added to it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from robusteval.analysis.closest import closest, closest_of
from robusteval.analysis.results import Results
from robusteval.core.forked import on_all_cores
from robusteval.core.norms import Norm
from robusteval.results.files import Arrays, read_arrays
from robusteval.results.records import CLEAN, AttackRecord
from robusteval.results.run import Run, stored_witness, witness_keys

Array = NDArray[np.float32]

EXACT = 500
"""Images of so many images are embedded as they are; of more, each is compressed to about a fifth, so that the file
can be opened."""
SIDE = 64
"""Larger images are reduced to so many pixels a side."""
_COMPRESSED: dict[str, Any] = {"format": "webp", "quality": 80, "method": 2}


@dataclass(frozen=True)
class Thumbnails:
    """Data URIs; empty where there is no image."""

    image: str = ""
    witness: str = ""
    perturbation: str = ""


def thumbnails(results: Results, norm: str, places: NDArray[np.int64]) -> dict[str, Thumbnails]:
    """By image id, for every image of some, by their places among all, whose image the run has kept. The witness is the
    closest in `norm` of all attacks."""
    exact = len(results.images) <= EXACT
    asked = frozenset(results.images["image_id"].iloc[places])
    kept = _Closest.of(results, norm, closest_of(results, norm, places), asked)
    shards = kept.shards()

    def drawn(shard: Path) -> dict[str, Thumbnails]:
        return {image_id: _drawn(image, witness, exact) for image_id, image, witness in kept.read(shard)}

    by_shard = dict(on_all_cores(drawn, shards))
    return {image_id: own for i in range(len(shards)) for image_id, own in by_shard[i].items()}


def _drawn(image: Array, witness: Array | None, exact: bool) -> Thumbnails:
    if witness is None or witness.shape != image.shape:
        return Thumbnails(data_uri(image, exact))
    return Thumbnails(*(data_uri(array, exact) for array in (image, witness, rescaled(witness - image))))


def read_closest(results: Results, norm: str, rows: pd.DataFrame) -> Iterator[tuple[str, Array, Array | None]]:
    """Each image of `rows` of the table of witnesses with its id and its closest witness in `norm` among these; None
    where there is none: an image that is its own witness has none, and a run may have been stripped of its images.
    One shard is in memory at a time."""
    kept = _Closest.of(results, norm, closest(rows, norm), frozenset(rows["image_id"]))
    for shard in kept.shards():
        yield from kept.read(shard)


@dataclass(frozen=True)
class _Closest:
    """Where a run keeps some images and the closest witness of each: by its id the stage and the budget, and by stage
    the budgets that all images share."""

    run: Run
    asked: frozenset[str]
    wanted: dict[str, tuple[str, float]]
    budgets: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, results: Results, norm: str, rows: pd.DataFrame, asked: frozenset[str]) -> _Closest:
        wanted = {i: (s, b) for s, i, b in zip(rows["method"], rows["image_id"], rows["budget"], strict=True)}
        return cls(results.run, asked, wanted, {e.name: e.budgets for e in results.manifest.of(AttackRecord)})

    def shards(self) -> list[Path]:
        """The files of the images themselves."""
        return sorted((self.run.path / "witnesses" / CLEAN).glob("*.safetensors"))

    def read(self, shard: Path) -> Iterator[tuple[str, Array, Array | None]]:
        images = read_arrays(shard, self.asked)
        keys: dict[str, list[str]] = {}
        for image_id in images:
            if image_id in self.wanted:
                stage, budget = self.wanted[image_id]
                keys.setdefault(stage, []).extend(witness_keys(image_id, budget, self.budgets[stage]))
        kept = {stage: self._stored(stage, shard, frozenset(names)) for stage, names in keys.items()}
        for image_id, image in images.items():
            witness = None
            if image_id in self.wanted:
                stage, budget = self.wanted[image_id]
                witness = stored_witness(kept[stage], image_id, budget, self.budgets[stage])
            yield image_id, image, witness

    def _stored(self, stage: str, shard: Path, names: frozenset[str]) -> Arrays:
        file = self.run.array_file(stage, shard.stem)
        return read_arrays(file, names) if file.exists() else {}


def rescaled(perturbation: Array) -> Array:
    """(C, H, W) with zero at mid-grey and the largest change at black or white."""
    largest = float(np.abs(perturbation).max()) or 1.0
    return (0.5 + 0.5 * perturbation / largest).astype(np.float32)


def data_uri(array: Array, exact: bool = True) -> str:
    """An image (C, H, W) in [0, 1] as a PNG, or compressed with loss."""
    data, form = io.BytesIO(), {"format": "png"} if exact else _COMPRESSED
    small(array).save(data, **form)
    return f"data:image/{form['format']};base64,{b64encode(data.getvalue()).decode()}"


def small(array: Array, side: int = SIDE) -> Image.Image:
    """An image (C, H, W) in [0, 1], reduced to `side` pixels a side if larger; grey unless it has three channels."""
    channels = array if len(array) in (1, 3) else array.mean(axis=0, keepdims=True)
    levels = np.round(np.fmin(np.fmax(channels, 0), 1) * 255).astype(np.uint8)  # 0 for NaN
    image = Image.fromarray(levels.transpose(1, 2, 0) if len(levels) == 3 else levels[0])
    image.thumbnail((side, side))
    return image


def main_norm(results: Results) -> Norm:
    """The protocol's main norm, that of its first budget; failing that, of the first attack."""
    protocol = results.manifest.protocol
    asked = [*protocol.budgets, *protocol.own_budgets]
    rows = results.pieces("witnesses", ["norm"])
    return asked[0] if asked else next((Norm(piece["norm"].iloc[0]) for piece in rows if len(piece)), Norm.LINF)
