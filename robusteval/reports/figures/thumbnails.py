"""Small images for the report: an image, its closest witness, and what was added to it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from robusteval.analysis.closest import closest
from robusteval.analysis.results import Results
from robusteval.core.norms import Norm
from robusteval.results.records import CLEAN, AttackRecord
from robusteval.results.run import Arrays, read_arrays, stored_witness

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


def thumbnails(results: Results, norm: str) -> dict[str, Thumbnails]:
    """By image id, for every image whose image the run has kept. The witness is the closest in `norm` of all
    attacks."""
    exact = len(results.images) <= EXACT
    found = {}
    for image_id, image, witness in read_closest(results, norm, results.witnesses):
        if witness is None or witness.shape != image.shape:
            found[image_id] = Thumbnails(data_uri(image, exact))
        else:
            shown = (image, witness, rescaled(witness - image))
            found[image_id] = Thumbnails(*(data_uri(array, exact) for array in shown))
    return found


def read_closest(results: Results, norm: str, rows: pd.DataFrame) -> Iterator[tuple[str, Array, Array | None]]:
    """Each image of a run with its id and its closest witness in `norm` among `rows` of the table of witnesses; None
    where there is none: an image that is its own witness has none, and a run may have been stripped of its images.
    One shard is in memory at a time."""
    rows = closest(rows, norm)
    wanted = {i: (s, b) for s, i, b in zip(rows["method"], rows["image_id"], rows["budget"], strict=True)}
    budgets = {entry.name: entry.budgets for entry in results.manifest.of(AttackRecord)}
    for path in sorted((results.path / "witnesses" / CLEAN).glob("*.safetensors")):
        kept: dict[str, Arrays] = {}
        for image_id, image in read_arrays(path).items():
            witness = None
            if image_id in wanted:
                stage, budget = wanted[image_id]
                if stage not in kept:
                    file = results.run.array_file(stage, path.stem)
                    kept[stage] = read_arrays(file) if file.exists() else {}
                witness = stored_witness(kept[stage], image_id, budget, budgets[stage])
            yield image_id, image, witness


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
    channels = array if len(array) == 3 else array.mean(axis=0, keepdims=True)
    levels = np.round(np.clip(np.nan_to_num(channels), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels.transpose(1, 2, 0) if len(levels) == 3 else levels[0])
    image.thumbnail((side, side))
    return image


def main_norm(results: Results) -> Norm:
    """The protocol's main norm, that of its first budget; failing that, of the first attack."""
    protocol = results.manifest.protocol
    asked = [*protocol.budgets, *protocol.own_budgets]
    return asked[0] if asked else Norm(next(iter(results.witnesses["norm"]), Norm.LINF))
